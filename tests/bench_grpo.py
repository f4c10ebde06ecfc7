"""What one GRPO step costs, stock TRL against the shared prefix, on the same completions of the same model, alternating in one run. `make bench` calls it.

    python tests/bench_grpo.py [--groups 4 8 16] [--sides 336 672] [--answers 64] [--repeats 3] [--out data/bench_grpo.csv]

A picture of side s is (s / 28)^2 prompt tokens. Sampling is greedy and of fixed length, so both sides do the same work and must give the same tokens."""
import argparse, time

import numpy as np, pandas as pd, torch
from PIL import Image
from trl import GRPOConfig, GRPOTrainer

from globe import postcards, train, vlm
from globe.prefix import SharedPrefixGRPOTrainer


def make(kind, side, group, length):
    "A trainer of `kind` around a freshly seeded model of 23 M parameters."
    torch.manual_seed(0)
    tokenizer = vlm.student(0, hidden=96, layers=1, depth=1).processor.tokenizer
    model = vlm.tiny_model(tokenizer, hidden=384, layers=8, vision=256, depth=4)
    processor = vlm.tiny_processor(tokenizer, side)
    args = GRPOConfig(output_dir="/tmp/bench", per_device_train_batch_size=group, num_generations=group, max_completion_length=length, bf16=False, gradient_checkpointing=False,
                      use_cpu=not torch.cuda.is_available(), report_to="none", save_strategy="no", dataloader_pin_memory=False)
    rows = postcards.postcards(2, seed=0).remove_columns(["entities"])
    return kind(vlm.freeze_vision(model), reward_funcs=[lambda completions, **_: [0.] * len(completions)], args=args, train_dataset=train.grpo_rows(rows), processing_class=processor)


def timed(work):
    "(what `work` returns, seconds)."
    if torch.cuda.is_available(): torch.cuda.synchronize()
    start = time.perf_counter(); out = work()
    if torch.cuda.is_available(): torch.cuda.synchronize()
    return out, time.perf_counter() - start


def cell(side, group, length, repeats):
    "Seconds of sampling and of log-probabilities with backward, for both trainers; and how far the numbers are apart."
    sides = {"stock": make(GRPOTrainer, side, group, length), "shared": make(SharedPrefixGRPOTrainer, side, group, length)}
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (side, side, 3), np.uint8))
    rows, found = [], {}
    for repeat in range(repeats + 1):  # the first one warms up
        for name, it in sides.items():
            it.model.zero_grad()
            asked = vlm.inputs(vlm.VLM(it.model, it.processing_class), [picture] * group, "train")
            with torch.no_grad():
                ids, sample = timed(lambda: it.model.generate(**asked, max_new_tokens=length, min_new_tokens=length, do_sample=False, pad_token_id=0))
            mask = torch.ones_like(ids); mask[:, :asked["attention_mask"].shape[1]] = asked["attention_mask"]
            kinds = torch.cat([asked["mm_token_type_ids"], torch.zeros_like(ids[:, -length:])], 1)
            logps, forward = timed(lambda: it._get_per_token_logps_and_entropies(it.model, ids, mask, length, compute_entropy=True, pixel_values=asked["pixel_values"], num_images=[1] * group,
                                                                                 image_grid_thw=asked["image_grid_thw"], mm_token_type_ids=kinds)[0])
            backward = timed(lambda: logps.mean().backward())[1]
            found[name] = ids, logps.detach(), torch.cat([p.grad.flatten() for p in it.model.parameters() if p.grad is not None])
            if repeat: rows.append(dict(trainer=name, sample=sample, forward=forward, backward=backward))
    (ids, logps, grad), (our_ids, our_logps, our_grad) = found.values()
    time_of = pd.DataFrame(rows).groupby("trainer").median()
    prompt = asked["input_ids"].shape[1]
    return dict(prompt=prompt, group=group, answer=length, **{f"{part} {name} (s)": time_of.loc[name, part] for part in time_of for name in time_of.index},
                **{f"{part} ratio": time_of.loc["stock", part] / time_of.loc["shared", part] for part in time_of},
                ratio=time_of.loc["stock"].sum() / time_of.loc["shared"].sum(), tokens_ratio=group * (prompt + length) / (prompt + group * length),
                same_tokens=torch.equal(ids, our_ids), logps_apart=(logps - our_logps).abs().max().item(), gradient_apart=((grad - our_grad).norm() / grad.norm()).item())


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--groups", type=int, nargs="+", default=[4, 8, 16]); p.add_argument("--sides", type=int, nargs="+", default=[448, 672])
    p.add_argument("--answers", type=int, nargs="+", default=[64]); p.add_argument("--repeats", type=int, default=3); p.add_argument("--out", default="data/bench_grpo.csv")
    a, table = p.parse_args(), []
    for side in a.sides:
        for group in a.groups:
            for length in a.answers:
                table.append(cell(side, group, length, a.repeats))
                print(pd.Series(table[-1]).to_string(float_format="%.3g"), flush=True)
    pd.DataFrame(table).to_csv(a.out, index=False)
    print(f"{a.out}: medians of {a.repeats}, {torch.get_num_threads()} threads, {'cuda' if torch.cuda.is_available() else 'cpu'}")
