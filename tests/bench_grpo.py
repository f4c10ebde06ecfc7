"""What one GRPO step costs: stock TRL against the shared prefix, whole steps of both trainers, alternating in one run, on the same pictures, seeds and weights. `make bench` calls it.

    python tests/bench_grpo.py [--groups 4 8 16 24] [--prompts 300 600] [--answers 64] [--repeats 3] [--out figures/bench_grpo.csv] [--figure figures/bench_grpo.png]

Time is that of the processor (on a GPU that of the clock), so that a busy machine does not change it; run it with OMP_NUM_THREADS=1. Every answer has its full length; each step sees a new picture. The vision tower
is frozen, as in the paper. Memory is the peak of the process above its resting size during a step (Linux only; on a GPU what torch allocated)."""
import argparse, ctypes, gc, sys, tempfile, time
from pathlib import Path

import numpy as np, pandas as pd, torch
from datasets import Dataset
from PIL import Image
from trl import GRPOConfig, GRPOTrainer

from globe import vlm
from globe.prefix import SharedPrefixGRPOTrainer

GPU, NAMES = torch.cuda.is_available(), ["stock", "shared"]
PHASES = ["preprocessing", "vision", "sampling", "reference", "policy", "backward", "optimizer", "rest"]


def now():
    "Seconds."
    if GPU: torch.cuda.synchronize()
    return time.perf_counter() if GPU else time.process_time()


class Clock:
    "Seconds of each phase; what is timed within another phase is not counted there."
    def __init__(self): self.seconds, self.stack = dict.fromkeys(PHASES, 0.), []

    def timed(self, phase, work):
        def run(*args, **kwargs):
            start, name = now(), phase() if callable(phase) else phase
            self.stack.append(0.)
            try: return work(*args, **kwargs)
            finally:
                took, within = now() - start, self.stack.pop()
                self.seconds[name] += took - within
                if self.stack: self.stack[-1] += took
        return run

    def watch(self, it):
        "Time the parts of trainer `it`."
        for owner, name, phase in [(it.model, "generate", "sampling"), (it, "_tokenize_prompts", "preprocessing"), (it.accelerator, "backward", "backward"), (it.optimizer, "step", "optimizer"),
                                   (it, "_get_per_token_logps_and_entropies", lambda: "policy" if torch.is_grad_enabled() else "reference"),
                                   *[(m.model, "get_image_features", "vision") for m in (it.model, it.ref_model)]]:
            setattr(owner, name, self.timed(phase, getattr(owner, name)))
        processor = type(it.processing_class)
        it.processing_class.__class__ = type(processor.__name__, (processor,), dict(__call__=self.timed("preprocessing", processor.__call__)))


def resting():
    "Give free memory back, start a new peak; bytes in use."
    gc.collect()
    if GPU: torch.cuda.empty_cache(); torch.cuda.reset_peak_memory_stats(); return torch.cuda.memory_allocated()
    if sys.platform != "linux": return float("nan")
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


def peak():
    "Bytes, since `resting`."
    if GPU: return torch.cuda.max_memory_allocated()
    if sys.platform != "linux": return float("nan")
    return 1024 * int(next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")))


def start(side, folder):
    "A student of 23 M parameters for pictures of `side` pixels, saved in `folder`."
    tokenizer = vlm.student(0, hidden=96, layers=1, depth=1).processor.tokenizer
    return vlm.VLM(vlm.tiny_model(tokenizer, hidden=384, layers=8, vision=256, depth=4), vlm.tiny_processor(tokenizer, side)).save(folder)


def picture(side, seed): return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (side, side, 3), np.uint8))

def rows(side, seed, group): return [dict(prompt=[{"role": "user", "content": vlm.PROMPTS["train"]}], image=picture(side, seed)) for _ in range(group)]

def different(completions, **columns): return [float(len(set(c[0]["content"]))) for c in completions]


def make(kind, folder, side, group, length):
    "A trainer, ready for steps; KL weight, temperature and learning rate of the paper."
    model = vlm.load(folder)
    args = GRPOConfig(output_dir=f"{folder}/run", per_device_train_batch_size=group, num_generations=group, max_completion_length=length, bf16=False, gradient_checkpointing=False, use_cpu=not GPU, seed=0,
                      report_to="none", save_strategy="no", dataloader_pin_memory=False, beta=.001, temperature=1., learning_rate=1e-6,
                      generation_kwargs=dict(min_new_tokens=length, suppress_tokens=vlm.picture_tokens(model.processor)))
    it = kind(vlm.freeze_vision(model.model), reward_funcs=[different], args=args, train_dataset=Dataset.from_list(rows(side, 0, 1)), processing_class=model.processor)
    it.create_optimizer()
    it.current_gradient_accumulation_steps = 1
    it.model.train()
    return it


def step(it, batch, seed, learn=True):
    "One step of the trainer. Returns (tokens sampled, gradients) before the optimizer."
    torch.manual_seed(seed)
    it.training_step(it.model, batch, None)
    gradient = torch.cat([p.grad.flatten() for p in it.model.parameters() if p.grad is not None])
    if learn: it.optimizer.step()
    it.optimizer.zero_grad()
    return it._buffered_inputs[0]["completion_ids"], gradient


def cell(side, group, length, repeats, folder):
    "Medians for one shape, and how far the numbers of the two trainers are apart in the first step."
    trainers = dict(zip(NAMES, (make(kind, folder, side, group, length) for kind in (GRPOTrainer, SharedPrefixGRPOTrainer))))
    step(trainers["shared"], rows(side, 99, group), 99, learn=False)  # compares itself with TRL, once
    clocks, first, found = {}, {}, []
    for name, it in trainers.items():
        clocks[name] = Clock(); clocks[name].watch(it); it._step = 0
    for repeat in range(repeats):
        for name, it in trainers.items():
            batch, clock, rest, begin = rows(side, repeat, group), clocks[name], resting(), now()
            clock.seconds = dict.fromkeys(PHASES, 0.)
            out = step(it, batch, repeat)
            whole = now() - begin
            clock.seconds["rest"] = whole - sum(clock.seconds.values())
            found.append(dict(trainer=name, whole=whole, memory=(peak() - rest) / 2**20, **clock.seconds))
            first.setdefault(name, out)
    table, (tokens, gradient), (our_tokens, our_gradient) = pd.DataFrame(found).groupby("trainer").median(), *first.values()
    prompt = int(it._buffered_inputs[0]["prompt_ids"].shape[1])
    stock, shared = table.loc["stock"], table.loc["shared"]
    return dict(prompt=prompt, group=group, answer=length, repeats=repeats, **{f"{part} {name} (s)": table.loc[name, part] for part in ["whole", *PHASES] for name in NAMES},
                **{f"memory {name} (MiB)": table.loc[name, "memory"] for name in NAMES}, speedup=stock.whole / shared.whole,
                speedup_without_vision=(stock.whole - stock.vision) / (shared.whole - shared.vision), memory_share=shared.memory / stock.memory,
                tokens_ratio=group * (prompt + length) / (prompt + group * length), same_tokens=torch.equal(tokens, our_tokens),
                gradient_apart=((gradient - our_gradient).norm() / gradient.norm()).item(), threads=torch.get_num_threads(), device="cuda" if GPU else "cpu", torch=torch.__version__)


def draw(table, path):
    "Speed-up of a whole step against group size, and what the number of tokens alone would give."
    import matplotlib.pyplot as plt, seaborn as sns
    from globe import figures
    figures.style()
    fig, axes = plt.subplots(1, 2, figsize=(figures.WIDE, 3))
    colours = dict(zip(sorted({(r.prompt, r.answer) for r in table.itertuples()}), sns.color_palette("colorblind")))
    for shape, c in colours.items():
        part = table[(table.prompt == shape[0]) & (table.answer == shape[1])].sort_values("group")
        name = f"prompt {shape[0]}, answer {shape[1]} tokens"
        axes[0].plot(part.group, part.speedup, "o-", color=c, label=name)
        axes[0].plot(part.group, part.tokens_ratio, ":", color=c)
        axes[1].plot(part.group, part["memory stock (MiB)"] / 1024, "s--", color=c)
        axes[1].plot(part.group, part["memory shared (MiB)"] / 1024, "o-", color=c)
    axes[0].axhline(5, color=".6", lw=.8, label="goal: 5 times"); axes[0].set(ylabel="speed-up of a whole step (times)", ylim=(0, None))
    axes[0].plot([], [], ":", color=".3", label="tokens computed, alone"); axes[0].legend(frameon=False, fontsize=7)
    axes[1].plot([], [], "s--", color=".3", label="stock TRL"); axes[1].plot([], [], "o-", color=".3", label="shared prefix"); axes[1].legend(frameon=False, fontsize=7)
    axes[1].set(ylabel="peak memory of a step (GiB)", ylim=(0, None))
    for ax in axes: ax.set(xlabel="answers per picture (group size)", xticks=sorted(table.group.unique())); sns.despine(ax=ax)
    r = table.iloc[0]
    fig.suptitle(f"One GRPO step, 23 M Qwen2.5-VL, {r.threads} {'thread' if r.threads == 1 else 'threads'}, {r.device}; medians of {r.repeats} steps", fontsize=8)
    fig.tight_layout()
    return figures.save(fig, path)


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--groups", type=int, nargs="+", default=[4, 8, 16, 24]); p.add_argument("--prompts", type=int, nargs="+", default=[300, 600])
    p.add_argument("--answers", type=int, nargs="+", default=[64]); p.add_argument("--repeats", type=int, default=3)
    p.add_argument("--out", default="figures/bench_grpo.csv"); p.add_argument("--figure", default="figures/bench_grpo.png")
    a, table, begin = p.parse_args(), [], time.time()
    text = 60  # left for the question, which has 30, so that prompts stay below the number asked for; the picture has the rest, 28 x 28 pixels to a token
    for prompt, group, length in ((p, g, l) for l in a.answers for g in a.groups for p in a.prompts):
        side = 28 * round((prompt - text) ** .5)
        with tempfile.TemporaryDirectory() as folder: table.append(cell(side, group, length, a.repeats, start(side, folder)))
        print("\n".join(f"{k:28} {v:.4g}" if isinstance(v, float) else f"{k:28} {v}" for k, v in table[-1].items()), f"\n{time.time() - begin:.0f} s since the start\n", flush=True)
        pd.DataFrame(table).to_csv(a.out, index=False, float_format="%.4g")
    draw(pd.DataFrame(table), a.figure)
    print(f"{a.out}, {a.figure}: {time.time() - begin:.0f} s")
