"""What the parts of a run cost now and in another checkout, in CPU seconds of one thread.

    python tests/bench_parts.py --before CHECKOUT [--repeats 3] [--out figures/bench_parts.csv]

Each part runs in processes of its own, in turn with the other checkout. The shortest time counts, because
other work on the machine can only lengthen it. The number of units is that of a run of profile mini with one
seed; GRPO is measured by `bench_reproduce.py`."""

import argparse, json, os, subprocess, sys, time
from pathlib import Path

UNITS = {  # part -> how often a run does it
    "picture rendered": 95_700,  # lessons of the base model and of the upper bound
    "vision step, 48 pictures": 1_600,
    "name step, 32 pictures": 600,
    "answer step, 32 pictures": 650,
    "cue sentences": 40,  # processes that need them
    "interval of an AUROC": 30,
}


def seconds(work, n=1):
    "The shortest CPU time of three calls, per unit."
    times = []
    for _ in range(3):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times) / n


def measured():
    "Part -> CPU seconds per unit, with the `globe` that is imported."
    import numpy as np, torch
    from globe.evaluation.calibration import auroc
    from globe.intervals import resampled
    from globe.world import student as s
    from globe.world.postcards import batch

    torch.set_num_threads(1)
    found = {"cue sentences": seconds(s.cue_sentences.__wrapped__)}
    found["picture rendered"] = seconds(lambda: batch(100, seed=1), 100)
    rng = np.random.default_rng(0)
    p, y, place = rng.random(480), rng.random(480) < 0.5, rng.integers(124, size=480)
    found["interval of an AUROC"] = seconds(lambda: resampled(auroc, p, y, cluster=place))
    vlm = s.student()
    images, rows = batch(48, seed=2, held_out=None)
    words = s._telling_words(vlm.processor.tokenizer, n=200)
    tower = [p for part in s.vision(vlm.model).values() for p in part.parameters()]
    optimizer = s._Optimizer([*tower, vlm.model.get_input_embeddings().weight], 1e-3, 100)

    def vision_step():
        truth, logits = s._caption_targets(vlm, rows, words), s._caption_logits(vlm, images, words)
        optimizer.backward(torch.nn.functional.binary_cross_entropy_with_logits(logits, truth))
        optimizer.step()

    vision_step()
    found["vision step, 48 pictures"] = seconds(vision_step)
    s.remember_pictures(s.freeze_vision(vlm.model)).train()
    learned = s._Optimizer([p for p in vlm.model.parameters() if p.requires_grad], 1e-3, 100)
    for name, texts, prompt in (("name", s.NAME_TEXTS, "direct"), ("answer", s.TRUE_TEXTS, "eval")):
        said = [texts.text(row, np.random.default_rng(0), prompt=prompt) for row in rows[:32]]

        def language_step():
            learned.backward(s._answer_loss(vlm, images[:32], [prompt] * 32, said))
            learned.step()

        language_step()
        found[f"{name} step, 32 pictures"] = seconds(language_step)
    return found


def asked(checkout):
    "`measured` with the package of a checkout, in a process of its own."
    environment = dict(os.environ, PYTHONPATH=str(checkout), OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1")
    told = subprocess.run(
        [sys.executable, __file__, "--measure"],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(told.stdout.splitlines()[-1])


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--before", help="another checkout of this repository")
    p.add_argument("--repeats", type=int, default=3)
    p.add_argument("--out", default="figures/bench_parts.csv")
    p.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.measure:
        print(json.dumps(measured()))
        sys.exit()
    if not a.before:
        p.error("--before is needed: the checkout to compare with, such as a git worktree of an older commit")
    import pandas as pd

    here = Path(__file__).resolve().parent.parent
    runs = [(asked(Path(a.before).resolve()), asked(here)) for _ in range(a.repeats)]
    rows = []
    for part, units in UNITS.items():
        before, now = (min(run[k][part] for run in runs) for k in (0, 1))
        rows.append(dict(part=part, units=units, before_ms=before * 1e3, now_ms=now * 1e3))
    table = pd.DataFrame(rows)
    table["before_s_per_run"] = table.before_ms * table.units / 1e3
    table["now_s_per_run"] = table.now_ms * table.units / 1e3
    table.to_csv(a.out, index=False, float_format="%.4g")
    print(table.round(1).to_string(index=False), f"\n{a.out}")
