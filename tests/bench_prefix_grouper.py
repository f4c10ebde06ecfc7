"""Forward and backward pass over a group of completions of one prompt, in three ways, on the same weights.

    pip install --no-deps prefix-grouper==0.0.1.post1
    python tests/bench_prefix_grouper.py --help    # `make bench` runs it with the defaults

The three ways alternate in one run: TRL, which repeats the prompt, the shared prefix of this package,
and the package prefix-grouper (arXiv 2506.05433). The model is the student of bench_grpo.py; prompts are
text, so that its vision tower is idle. TRL and the shared prefix run the functions that their trainers
call. prefix-grouper runs through the attention that it registers with transformers, which asks for
flash-attn: `causal` here gives transformers' sdpa the masks that the package leaves to it, and the head
sees the completions only, unlike in its documentation.

Time is that of the processor: run it with OMP_NUM_THREADS=1. Memory is the peak of the process above its
resting size (Linux only); repeated prompts are computed 8 rows at a time, which saves memory and no
work. `apart` is the largest difference from TRL over the largest value of TRL."""

import argparse, os, sys, time
from contextlib import nullcontext
from types import SimpleNamespace

os.environ["CUDA_VISIBLE_DEVICES"] = ""
import pandas as pd, torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from trl import GRPOTrainer
from trl.trainer.utils import add_fused_lm_head, selective_log_softmax

from bench_grpo import now, peak, resting, student
from globe.training.prefix_attention import use_shared_attention
from globe.training.prefix_logprobs import shared_log_probs
from globe.world import tiny_models

NAMES, ROWS, TRAINER = (
    ["repeated", "shared", "prefix-grouper"],
    8,
    SimpleNamespace(accelerator=SimpleNamespace(autocast=nullcontext)),
)


def causal(module, q, k, v, mask, **more):
    "sdpa with the causal mask of queries that are the last of the keys; nothing is padded here."
    assert mask.all()
    seen = (
        None
        if q.shape[2] == k.shape[2]
        else torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril(k.shape[2] - q.shape[2])[None, None]
    )  # None: sdpa's own causal mask, the fastest
    return sdpa_attention_forward(module, q, k, v, seen, **more)


def repeated(model, ids, keep):
    return GRPOTrainer._get_per_token_logps_and_entropies.__wrapped__(
        TRAINER, model, ids, torch.ones_like(ids), keep
    )[0]


def shared(model, ids, keep):
    return shared_log_probs(model, ids, torch.ones_like(ids), keep, {})[0]


def grouped(model, ids, keep):
    from prefix_grouper import PrefixGrouper

    prompt, answers, length = ids[:1, :-keep], ids[:, -keep:], ids.shape[1] - keep
    grouper = PrefixGrouper.from_ungrouped_masks(
        torch.ones_like(prompt), torch.ones_like(answers), len(ids), padding_mode="right"
    )
    whole = grouper.concat_input(prompt, torch.ones_like(prompt), answers, torch.ones_like(answers))
    places = torch.cat([torch.arange(length), torch.arange(length, length + keep).repeat(len(ids))])[None]
    hidden = model.model(
        input_ids=whole,
        position_ids=places,
        use_cache=False,
        prefix_grouper=grouper,
        prefix_grouper_attn_func="causal",
    ).last_hidden_state
    return selective_log_softmax(
        model.lm_head(grouper.split_output(hidden, include_prefix_last=1)[2][:, :-1]), answers
    )


def cell(model, prompt, group, keep, repeats):
    "Medians for one shape, and how far the numbers are apart."
    torch.manual_seed(0)
    names = {
        "repeated": ("sdpa", repeated),
        "shared": ("shared_prefix", shared),
        "prefix-grouper": ("prefix_grouper_attention", grouped),
    }
    words = len(tiny_models.SPECIAL), model.config.get_text_config().vocab_size
    ids = torch.cat(
        [torch.randint(*words, (1, prompt)).expand(group, -1), torch.randint(*words, (group, keep))], 1
    )
    advantage, found, first = torch.randn(group, 1), [], {}
    for repeat in range(repeats + 1):  # the first warms up, and its numbers are compared
        for name, (attention, logps_of) in names.items():
            model.zero_grad()
            model.config.get_text_config()._attn_implementation = attention
            rest, forward, begin, out = resting(), 0.0, now(), []
            for part in torch.arange(group).split(ROWS if name == "repeated" else group):
                then = now()
                logps = logps_of(model, ids[part], keep)
                forward += now() - then
                out.append(logps.detach())
                ((-advantage[part] * logps).sum() / (group * keep)).backward()
            if repeat:
                found.append(
                    dict(way=name, forward=forward, whole=now() - begin, memory=(peak() - rest) / 2**20)
                )
            else:
                first[name] = (
                    torch.cat(out),
                    torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]),
                )
    table, apart = (
        pd.DataFrame(found).groupby("way").median(),
        lambda name, i: (
            (first[name][i] - first["repeated"][i]).abs().max() / first["repeated"][i].abs().max()
        ).item(),
    )
    return dict(
        prompt=prompt,
        group=group,
        answer=keep,
        repeats=repeats,
        **{f"{name} (s)": table.whole[name] for name in NAMES},
        **{f"{name} forward (s)": table.forward[name] for name in NAMES},
        **{f"{name} memory (MiB)": table.memory[name] for name in NAMES},
        rows_at_once_repeated=min(group, ROWS),
        **{f"speedup of {name}": table.whole["repeated"] / table.whole[name] for name in NAMES[1:]},
        **{
            f"{what} of {name} apart": apart(name, i)
            for i, what in enumerate(["log-probabilities", "gradients"])
            for name in NAMES[1:]
        },
        parameters=sum(p.numel() for p in model.model.language_model.parameters()),
        threads=torch.get_num_threads(),
        torch=torch.__version__,
    )


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--groups", type=int, nargs="+", default=[4, 8, 16])
    p.add_argument("--prompts", type=int, nargs="+", default=[300, 600])
    p.add_argument("--answers", type=int, nargs="+", default=[64])
    p.add_argument("--repeats", type=int, default=3)
    p.add_argument("--out", default="figures/bench_prefix_grouper.csv")
    a, table, begin = p.parse_args(), [], time.time()
    try:
        from prefix_grouper.utils.register_transformers import register_attention
    except ImportError:
        sys.exit("the package to compare with is missing: pip install --no-deps prefix-grouper==0.0.1.post1")
    register_attention()
    AttentionInterface.register("causal", causal)
    model = student("19m", 112).model.train()
    add_fused_lm_head(model)
    use_shared_attention(model)
    for prompt, group, length in ((p, g, l) for l in a.answers for g in a.groups for p in a.prompts):
        table.append(cell(model, prompt, group, length, a.repeats))
        print(
            "\n".join(
                f"{k:42} {v:.4g}" if isinstance(v, float) else f"{k:42} {v}" for k, v in table[-1].items()
            ),
            f"\n{time.time() - begin:.0f} s since the start\n",
            flush=True,
        )
        pd.DataFrame(table).to_csv(a.out, index=False, float_format="%.4g")
