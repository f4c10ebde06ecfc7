"""What one GRPO step costs: stock TRL against the shared prefix, in whole steps of both trainers.

    python tests/bench_grpo.py --help    # `make bench` runs it with the defaults

The paper's step, on a GPU, into figures/bench_grpo_7b.csv:

    python tests/bench_grpo.py --model 7b --groups 16 --prompts 1300 --answers 256 --pictures 6 --static

The two trainers alternate in one run, on the same pictures, seeds and weights. Time is that of the
processor (on a GPU that of the clock), so that a busy machine does not change it; run it with
OMP_NUM_THREADS=1. Every completion has its full length; each step sees new pictures, one group in a
pass. The vision tower is frozen, as in the paper. 3b and 7b are Qwen2.5-VL in its published sizes with
random weights, in bfloat16, with LoRA and gradient checkpointing. Memory is the peak of the process
above its resting size during a step, and during each phase (Linux only; on a GPU what torch allocated).
Each shape has a process of its own; all take two hours on one thread, and the table is written after
each."""

import argparse, ctypes, functools, gc, multiprocessing, platform, sys, tempfile, time
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from pathlib import Path

import numpy as np, pandas as pd, torch, transformers, trl
from datasets import Dataset
from PIL import Image
from trl import GRPOConfig, GRPOTrainer

from globe.answers import prompts
from globe.models import vlm
from globe.world import student as student_module, tiny_models
from globe.training.adapter import lora_config
from globe.training.shared_prefix import SharedPrefixGRPOTrainer

GPU, NAMES = torch.cuda.is_available(), ["stock", "shared"]
PHASES = [
    "preprocessing",
    "vision",
    "prefill",
    "sampling",
    "rewards",
    "reference",
    "policy",
    "backward",
    "optimizer",
    "rest",
]


def now():
    "Seconds."
    if GPU:
        torch.cuda.synchronize()
    return time.perf_counter() if GPU else time.process_time()


class Clock:
    "Seconds and peak memory (bytes above what rests) of each phase, without the phases within it."

    kept = 0  # bytes that a trainer holds from step to step, a static cache foremost

    def begin(self):
        "A step."
        self.seconds, self.memory, self.running, self.rest = (
            dict.fromkeys(PHASES, 0.0),
            dict.fromkeys(PHASES, 0.0),
            ["rest"],
            resting() - self.kept,
        )
        self.last = now()

    def mark(self):
        "What has run since the last mark belongs to the running phase."
        phase, time_ = self.running[-1], now()
        self.seconds[phase] += time_ - self.last
        self.memory[phase] = max(self.memory[phase], peak() - self.rest)
        new_peak()
        self.last = now()

    def timed(self, phase, work):  # name, or function(arguments of `work`) that gives it
        @functools.wraps(work)
        def run(*args, **kwargs):
            if torch.compiler.is_compiling():
                return work(*args, **kwargs)  # a graph has no clock
            self.mark()
            self.running.append(phase(kwargs) if callable(phase) else phase)
            try:
                return work(*args, **kwargs)
            finally:
                self.mark()
                self.running.pop()

        return run

    def watch(self, it):
        "Time the parts of trainer `it`."
        policy, *more = [
            getattr(m, "get_base_model", lambda: m)() for m in filter(None, (it.model, it.ref_model))
        ]
        prefill = lambda given: (
            "prefill"
            if self.running[-1] == "sampling" and given["input_ids"].shape[1] > 1
            else self.running[-1]
        )
        for owner, name, phase in [
            (it.model, "generate", "sampling"),
            (policy, "forward", prefill),
            (it, "_tokenize_prompts", "preprocessing"),
            (it, "_calculate_rewards", "rewards"),
            (it.accelerator, "backward", "backward"),
            (it.optimizer, "step", "optimizer"),
            (
                it,
                "_get_per_token_logps_and_entropies",
                lambda given: "policy" if torch.is_grad_enabled() else "reference",
            ),
            *[(m.model, "get_image_features", "vision") for m in (policy, *more)],
        ]:
            setattr(owner, name, self.timed(phase, getattr(owner, name)))
        processor = type(it.processing_class)
        it.processing_class.__class__ = type(
            processor.__name__, (processor,), dict(__call__=self.timed("preprocessing", processor.__call__))
        )


def new_peak():
    "From here on."
    if GPU:
        torch.cuda.reset_peak_memory_stats()
    elif sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")


def resting():
    "Give free memory back, start a new peak; bytes in use."
    gc.collect()
    if GPU:
        torch.cuda.empty_cache()
    elif sys.platform == "linux":
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    new_peak()
    return peak()


def peak():
    "Bytes, since `new_peak`."
    if GPU:
        return torch.cuda.max_memory_allocated()
    if sys.platform != "linux":
        return float("nan")
    return 1024 * int(
        next(
            line.split()[1]
            for line in Path("/proc/self/status").read_text().splitlines()
            if line.startswith("VmHWM")
        )
    )


def machine():
    "What was measured on, with what, when."
    cpu = (
        next(
            (
                line.split(":")[1].strip()
                for line in Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")
            ),
            platform.processor(),
        )
        if sys.platform == "linux"
        else platform.processor()
    )
    return dict(
        hardware=torch.cuda.get_device_name() if GPU else cpu,
        threads=torch.get_num_threads(),
        device="cuda" if GPU else "cpu",
        torch=torch.__version__,
        transformers=transformers.__version__,
        trl=trl.__version__,
        date=f"{date.today()}",
    )


SIZES = {
    "3b": dict(
        hidden_size=2048,
        intermediate_size=11008,
        num_hidden_layers=36,
        num_attention_heads=16,
        num_key_value_heads=2,
        vocab_size=151936,
    ),  # of the language model; the tower is the same
    "7b": dict(
        hidden_size=3584,
        intermediate_size=18944,
        num_hidden_layers=28,
        num_attention_heads=28,
        num_key_value_heads=4,
        vocab_size=152064,
    ),
}
TOWER = dict(depth=32, hidden_size=1280, intermediate_size=3420, num_heads=16)


def published(size, config):
    "`config` of a small Qwen2.5-VL, in a published size."
    config, tied = type(config).from_dict(config.to_dict()), size == "3b"
    layers = SIZES[size]["num_hidden_layers"]
    for part, values in [
        (
            config.text_config,
            dict(
                SIZES[size],
                layer_types=["full_attention"] * layers,
                initializer_range=0.02,
                tie_word_embeddings=tied,
                max_position_embeddings=128000,
                rope_parameters=dict(rope_type="default", rope_theta=1e6, mrope_section=[16, 24, 24]),
            ),
        ),
        (
            config.vision_config,
            dict(
                TOWER,
                initializer_range=0.02,
                out_hidden_size=SIZES[size]["hidden_size"],
                fullatt_block_indexes=[7, 15, 23, 31],
            ),
        ),
        (config, dict(tie_word_embeddings=tied)),
    ]:
        for k, v in values.items():
            setattr(part, k, v)
    return config


def student(size, side):
    "A model with random weights, the same in each call, and a processor for pictures of `side` pixels."
    tokenizer = student_module.student(0, hidden=96, layers=1, depth=1).processor.tokenizer
    small, processor = (
        tiny_models.tiny_model(tokenizer, hidden=384, layers=8, vision=256, depth=4),
        tiny_models.tiny_processor(tokenizer, side),
    )
    if size == "19m":
        return vlm.VLM(small.cuda() if GPU else small, processor)
    torch.manual_seed(0)
    with torch.device("cuda" if GPU else "cpu"):
        model = type(small)._from_config(published(size, small.config), dtype=torch.bfloat16)
    return vlm.VLM(model, processor)


def picture(side, seed):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (side, side, 3), np.uint8))


def rows(side, seed, group):
    return [
        dict(prompt=[{"role": "user", "content": prompts.PROMPTS["train"]}], image=picture(side, seed))
        for _ in range(group)
    ]


def different(completions, **columns):
    return [float(len(set(c[0]["content"]))) for c in completions]


def make(kind, size, folder, side, group, length, pictures, static):
    "A trainer, ready for steps; KL weight, temperature and learning rate of the paper."
    model, big = student(size, side), size != "19m"
    if not big:
        model = vlm.load(
            model.save(folder)
        )  # TRL loads the reference model from where the policy is from; an adapter needs none
    unknown = range(len(model.processor.tokenizer), model.model.config.get_text_config().vocab_size)
    args = GRPOConfig(
        output_dir=f"{folder}/run",
        per_device_train_batch_size=group,
        gradient_accumulation_steps=pictures,
        num_generations=group,
        max_completion_length=length,
        bf16=big,
        gradient_checkpointing=big,
        use_cpu=not GPU,
        seed=0,
        report_to="none",
        save_strategy="no",
        dataloader_pin_memory=False,
        beta=0.001,
        temperature=1.0,
        learning_rate=1e-6,
        cache_implementation="static" if static and kind is SharedPrefixGRPOTrainer else None,
        generation_kwargs=dict(
            min_new_tokens=length, suppress_tokens=[*vlm.picture_tokens(model.processor), *unknown]
        ),
    )
    it = kind(
        vlm.freeze_vision(model.model),
        reward_funcs=[different],
        args=args,
        train_dataset=Dataset.from_list(rows(side, 0, 1)),
        processing_class=model.processor,
        peft_config=lora_config() if big else None,
    )
    it.create_optimizer()
    it.current_gradient_accumulation_steps = pictures
    it.model.train()
    return it


def step(it, batch, seed, learn=True):
    "One step of the trainer, in its passes. Returns (tokens sampled, gradients) before the optimizer."
    torch.manual_seed(seed)
    for _ in range(it.args.gradient_accumulation_steps):
        it.training_step(it.model, batch, None)
    gradient = torch.cat([p.grad.flatten() for p in it.model.parameters() if p.grad is not None])
    if learn:
        it.optimizer.step()
    it.optimizer.zero_grad()
    return torch.cat([b["completion_ids"] for b in it._buffered_inputs]).sort(0).values, gradient


def cell(size, side, group, length, pictures, static, repeats, folder):
    "Medians for one shape, and how far the numbers of the two trainers are apart in the first step."
    trainers = dict(
        zip(
            NAMES,
            (
                make(kind, size, folder, side, group, length, pictures, static)
                for kind in (GRPOTrainer, SharedPrefixGRPOTrainer)
            ),
        )
    )
    several = lambda seed: [r for i in range(pictures) for r in rows(side, 1000 * i + seed, group)]
    clocks, first, found, before = {name: Clock() for name in trainers}, {}, [], resting()
    for name, it in trainers.items():
        clocks[name].watch(it)
        clocks[name].begin()
    step(trainers["shared"], several(99), 99, learn=False)  # compares itself with TRL, once, and compiles
    trainers["shared"]._step = 0
    if static:
        clocks["shared"].kept = resting() - before
    for repeat in range(repeats):
        for name, it in trainers.items():
            batch, clock = several(repeat), clocks[name]
            clock.begin()
            out = step(it, batch, repeat)
            clock.mark()
            found.append(
                dict(
                    trainer=name,
                    whole=sum(clock.seconds.values()),
                    memory=max(clock.memory.values()) / 2**20,
                    **clock.seconds,
                    **{f"{p} memory": m / 2**20 for p, m in clock.memory.items()},
                )
            )
            first.setdefault(name, out)
    table, (tokens, gradient), (our_tokens, our_gradient) = (
        pd.DataFrame(found).groupby("trainer").median(),
        *first.values(),
    )
    prompt = int(it._buffered_inputs[0]["prompt_ids"].shape[1])
    stock, shared = table.loc["stock"], table.loc["shared"]
    return dict(
        model=size,
        prompt=prompt,
        group=group,
        answer=length,
        pictures=pictures,
        static=static,
        repeats=repeats,
        **{f"{part} {name} (s)": table.loc[name, part] for part in ["whole", *PHASES] for name in NAMES},
        **{f"memory {name} (MiB)": table.loc[name, "memory"] for name in NAMES},
        **{
            f"{part} memory {name} (MiB)": table.loc[name, f"{part} memory"]
            for part in PHASES
            for name in NAMES
        },
        **{f"examples per second {name}": pictures / table.loc[name, "whole"] for name in NAMES},
        **{
            f"tokens per second {name}": pictures * group * length / table.loc[name, "whole"]
            for name in NAMES
        },
        speedup=stock.whole / shared.whole,
        speedup_without_vision=(stock.whole - stock.vision) / (shared.whole - shared.vision),
        memory_share=shared.memory / stock.memory,
        tokens_ratio=group * (prompt + length) / (prompt + group * length),
        same_tokens=torch.equal(tokens, our_tokens),
        gradient_apart=((gradient - our_gradient).norm() / gradient.norm()).item(),
        **machine(),
    )


def draw(table, path):
    "Speed-up and memory of a whole step by group size; dotted, the speed-up expected from token counts."
    import matplotlib.pyplot as plt, seaborn as sns
    from globe.figures import style

    style.style()
    lengths = sorted(table.answer.unique())
    palette, near = (
        sns.color_palette("colorblind", 3),
        lambda p: min(range(3), key=lambda i: abs([300, 600, 1300][i] - p)),
    )  # the same number asked for comes out a few tokens apart
    fig, axes = plt.subplots(
        2, len(lengths), figsize=(style.WIDE, 5), sharex=True, sharey="row", squeeze=False
    )
    for (speed, memory), length in zip(axes.T, lengths):
        for prompt, part in table[table.answer == length].sort_values("group").groupby("prompt"):
            c = palette[near(prompt)]
            speed.plot(part.group, part.speedup, "o-", color=c, label=f"prompt of {prompt} tokens")
            speed.plot(part.group, part.tokens_ratio, ":", color=c)
            memory.plot(part.group, part["memory stock (MiB)"] / 1024, "s--", color=c)
            memory.plot(part.group, part["memory shared (MiB)"] / 1024, "o-", color=c)
        speed.set(title=f"answers of {length} tokens")
        memory.set(xlabel="answers per picture (group size)", xticks=sorted(table.group.unique()))
    speed, memory = axes[:, -1]
    speed.plot([], [], ":", color=".3", label="expected from token counts")
    speed.legend(frameon=False, fontsize=7)
    memory.plot([], [], "s--", color=".3", label="stock TRL")
    memory.plot([], [], "o-", color=".3", label="shared prefix")
    memory.legend(frameon=False, fontsize=7)
    axes[0, 0].set_ylabel("speed-up of a step (factor)")
    axes[1, 0].set_ylabel("peak memory of a step (GiB)")
    for ax in axes.flat:
        ax.set_ylim(0, None)
        sns.despine(ax=ax)
    r = table.iloc[0]
    fig.suptitle(
        f"One GRPO step, Qwen2.5-VL with {r.model.upper()} parameters, one picture, {r.device.upper()}, "
        f"threads: {r.threads}; medians of {r.repeats} steps",
        fontsize=8,
    )
    fig.tight_layout()
    return style.save(
        fig, path, "Speed-up over TRL and peak memory of a GRPO step with a shared prefix, by group size."
    )


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--groups", type=int, nargs="+", default=[4, 8, 16, 24])
    p.add_argument("--prompts", type=int, nargs="+", default=[300, 600, 1300])
    p.add_argument("--answers", type=int, nargs="+", default=[64, 256])
    p.add_argument("--repeats", type=int, default=3)
    p.add_argument(
        "--pictures", type=int, nargs="+", default=[1], help="in a step, each in a pass of its own"
    )
    p.add_argument("--model", choices=["19m", *SIZES], default="19m")
    p.add_argument(
        "--static",
        action="store_true",
        help="ours decodes with a cache of fixed size, which CUDA compiles; TRL forbids that",
    )
    p.add_argument("--append", action="store_true", help="add these shapes to the existing table")
    p.add_argument(
        "--out",
        help="table; the figure gets the same name (default: figures/bench_grpo.csv or bench_grpo_MODEL.csv)",
    )
    a, begin = p.parse_args(), time.time()
    a.out = a.out or f"figures/bench_grpo{'' if a.model == '19m' else '_' + a.model}.csv"
    table = pd.read_csv(a.out).to_dict("records") if a.append else []
    text = (
        60  # tokens left for the question, which has 30; the picture has the rest, 28 x 28 pixels to a token
    )
    for prompt, group, length, pictures in (
        (p, g, l, n) for n in a.pictures for l in a.answers for g in a.groups for p in a.prompts
    ):
        side = 28 * round((prompt - text) ** 0.5)
        with (
            tempfile.TemporaryDirectory() as folder,
            ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh,
        ):  # what one shape leaves behind in memory is not counted in the next
            table.append(
                fresh.submit(
                    cell, a.model, side, group, length, pictures, a.static, a.repeats, folder
                ).result()
            )
        print(
            "\n".join(
                f"{k:28} {v:.4g}" if isinstance(v, float) else f"{k:28} {v}" for k, v in table[-1].items()
            ),
            f"\n{time.time() - begin:.0f} s since the start\n",
            flush=True,
        )
        pd.DataFrame(table).to_csv(a.out, index=False, float_format="%.4g")
    one = [r for r in table if r["pictures"] == 1]
    drawn = [draw(pd.DataFrame(one), Path(a.out).with_suffix(".png"))] if one else []
    print(*map(str, [a.out, *drawn]), f"{time.time() - begin:.0f} s")
