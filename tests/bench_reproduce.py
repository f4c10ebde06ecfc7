"""What a GRPO training of `make reproduce` costs with stock TRL and with the shared prefix. `make bench`
calls it.

    python tests/bench_reproduce.py [--steps 6] [--repeats 3] [--out figures/bench_reproduce.csv]

The first steps of profile mini run with both trainers in turn, from the same student, rows and seed.
Needs a finished `make reproduce` for student and rows; nothing in data/ changes. Time is that of the
processor, on one thread, as each training has there."""

import argparse, statistics, sys, tempfile, time
from pathlib import Path

import datasets, pandas as pd, torch
from trl import GRPOTrainer

from globe.training import grpo
from globe.folders import run_folder
from globe.pipeline.profiles import profile


class Stock(GRPOTrainer):
    "Stock TRL under the arguments of ours."

    def __init__(self, *args, skip_zero_variance_groups=False, dynamic_sampling=0, **kwargs):
        super().__init__(*args, **kwargs)


def steps(kind, start, data, settings, n):
    "(seconds of a step, median without the first, which loads and warms up; rewards of the steps)."
    grpo.SharedPrefixGRPOTrainer, marks = kind, []
    with tempfile.TemporaryDirectory() as out:
        grpo.grpo(
            str(start),
            data,
            out,
            settings.changed(rewards="accuracy", seed=0, steps=n, save_steps=10**6),
            watch=lambda done, total, numbers: marks.append(time.process_time()),
        )
        rewards = pd.read_csv(Path(out) / "log.csv").reward.tolist()
    return statistics.median(b - a for a, b in zip(marks, marks[1:])), rewards


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--steps", type=int, default=6)
    p.add_argument("--repeats", type=int, default=3)
    p.add_argument("--out", default="figures/bench_reproduce.csv")
    a, folder, ours = p.parse_args(), run_folder("mini"), grpo.SharedPrefixGRPOTrainer
    start, rows = folder / "models" / "base", folder / "mp16-reason" / "data.parquet"
    if not (start.exists() and rows.exists()):
        print(f"nothing measured: there is no finished run in {folder}; make one: make reproduce")
        sys.exit()
    torch.set_num_threads(1)
    settings, data = profile("mini").grpo, datasets.Dataset.from_parquet(str(rows))
    found = [
        (name, *steps(kind, start, data, settings, a.steps))
        for _ in range(a.repeats)
        for name, kind in (("stock TRL", Stock), ("shared prefix", ours))
    ]
    medians = {name: statistics.median(s for n, s, _ in found if n == name) for name, *_ in found}
    table = pd.DataFrame(
        [
            dict(
                trainer=name,
                seconds_per_step=s,
                minutes_per_training=s * settings.steps / 60,
                times_faster=medians["stock TRL"] / s,
                answers=settings.completions_per_step,
                group=settings.num_generations,
                same_rewards=all(r == found[0][2] for _, _, r in found),
                repeats=a.repeats,
                torch=torch.__version__,
            )
            for name, s in medians.items()
        ]
    )
    table.to_csv(a.out, index=False, float_format="%.4g")
    print(table.T.to_string(header=False), f"\n{a.out}")
