"""Memory of asking about many photos and of checking the answers. `make bench` calls it.

    python tests/bench_distill.py [--rows 10000 100000 1000000] [--out data/bench_distill.csv] [--checked 1000000]

10,000, 100,000 and 1,000,000 synthetic rows, a trivial simulated teacher and segmenter, each size in a process of
its own. `own` is memory that only this process has (VmRSS less the pages of files, which the system takes back
when it needs them), sampled ten times a second; `base` is what it was before the first photo, with everything
imported. `again` is a second run, which reads all answers and asks nobody, `read` all of `records`, `index` an
`Answers`. `checked` is `validate_in_parts`, `checked_again` its second run, which looks at nothing, `written` the
`export` of what it kept, all of it. Each column is the growth over `base` of the highest point of that step; what
a step has given back to the allocator, not to the system, counts for the next one too. Beyond --checked rows
nothing is checked."""

import argparse, json, subprocess, sys, tempfile, threading, time
from pathlib import Path

import numpy as np
import pandas as pd

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b55"
    "0000000a49444154789c6360000000020001e5273db20000000049454e44ae426082"
)


def own_mb():
    "Anonymous memory of this process."
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["RssAnon"].split()[0]) / 1024


class Peak:
    "Highest `own_mb` while it is open."

    def __enter__(self):
        self.mb, self.open = own_mb(), True
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self

    def watch(self):
        while self.open:
            self.mb = max(self.mb, own_mb())
            time.sleep(0.1)

    def __exit__(self, *a):
        self.open = False
        self.thread.join()


def write_photos(path, rows, size=5_000):
    "An Arrow file of photo rows, batch by batch."
    import pyarrow as pa
    from globe.photos.records import features

    schema, fixed = (
        features().arrow_schema,
        dict(
            image=dict(bytes=PIXEL, path=None),
            lat=48.86,
            lon=2.35,
            city="Paris",
            country="France",
            country_code="FR",
            source="synthetic",
            licence="CC0-1.0",
        ),
    )
    with pa.OSFile(str(path), "wb") as f, pa.ipc.new_stream(f, schema) as out:
        for start in range(0, rows, size):
            out.write_batch(
                pa.RecordBatch.from_pylist(
                    [dict(fixed, id=f"7e_c3_{i:010d}") for i in range(start, min(start + size, rows))],
                    schema=schema,
                )
            )


TEXT = (
    "<think>"
    + "It is a synthetic photo of a street with a flag, and nobody looked at it. " * 6
    + "</think>\n<answer>\ncountry: [France]\ncity: [Paris]\nlocalizability: 0.9\n</answer>"
)


class Trivial:
    "Teacher, segmenter and encoder that look at nothing."

    name = "simulated-trivial"

    def __init__(self):
        from globe.answers.vocabulary import CLASSES

        self.classes, self.mask = (
            CLASSES,
            np.repeat([CLASSES.index("road"), CLASSES.index("flag")], 32).reshape(8, 8),
        )

    def judge(self, photos):
        from globe.distillation.teachers import from_text

        return (from_text(p["id"], self.name, TEXT) for p in photos)

    def masks(self, images):
        return np.stack([self.mask] * len(images))

    def __call__(self, texts):
        return np.zeros((len(texts), 1))


def measure(rows, check):
    "One size: rows, seconds, memory; is it checked as well?"
    import datasets
    from datasets import Dataset
    from globe.distillation.distill import distill
    from globe.distillation.store import Answers, records
    from globe.validation.cards import export
    from globe.validation.parts import read_ledger, validate_in_parts
    from globe.validation.quality import funnel

    datasets.disable_progress_bars()
    trivial, more = Trivial(), {}

    with tempfile.TemporaryDirectory() as folder:
        write_photos(Path(folder) / "photos.arrow", rows)
        photos, base, start = Dataset.from_file(f"{folder}/photos.arrow"), own_mb(), time.perf_counter()
        with Peak() as first:
            counts = distill(photos, [trivial], f"{folder}/out", watch=False)
        seconds, start = time.perf_counter() - start, time.perf_counter()
        with Peak() as again:
            asked = distill(photos, [trivial], f"{folder}/out", watch=False).asked.sum()
        seconds_again = time.perf_counter() - start
        with Peak() as read:
            n = sum(1 for _ in records(f"{folder}/out"))
        with Peak() as looked:
            answers = Answers(f"{folder}/out")
            found = sum(len(answers[f"7e_c3_{i:010d}"]) for i in range(0, rows, 100))
        if check:
            begun = time.perf_counter()
            with Peak() as checked:
                kept = validate_in_parts(
                    photos, answers, trivial, f"{folder}/checked", encoder=trivial, watch=False
                )
            more = dict(checked_mb=checked.mb - base, checked_seconds=time.perf_counter() - begun)
            begun = time.perf_counter()
            with Peak() as checked:
                validate_in_parts(photos, answers, trivial, f"{folder}/checked", encoder=trivial, watch=False)
            more |= dict(
                checked_again_mb=checked.mb - base, checked_again_seconds=time.perf_counter() - begun
            )
            begun = time.perf_counter()
            with Peak() as written:
                parts = export(kept, f"{folder}/checked", f"{folder}/mp16", [trivial.name])
            more |= dict(written_mb=written.mb - base, written_seconds=time.perf_counter() - begun)
            assert (
                sum(map(len, parts.values()))
                == funnel(read_ledger(f"{folder}/checked", ["rejected_by"])).left.iloc[-1]
                == len(kept)
                == rows
            )
    assert counts.asked.sum() == n == rows and asked == 0 and found == len(range(0, rows, 100))
    return (
        dict(
            rows=rows,
            base_mb=base,
            peak_mb=first.mb,
            grown_mb=first.mb - base,
            again_mb=again.mb - base,
            read_mb=read.mb - base,
            index_mb=looked.mb - base,
            seconds=seconds,
            rows_per_second=rows / seconds,
            again_seconds=seconds_again,
        )
        | more
    )


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    p.add_argument("--out", default="data/bench_distill.csv")
    p.add_argument("--one", type=int)
    p.add_argument("--checked", type=int, default=1_000_000, help="most rows that are checked, too")
    a = p.parse_args()
    if a.one:
        print(json.dumps(measure(a.one, a.one <= a.checked)))
        sys.exit()
    run = lambda n: json.loads(
        subprocess.run(
            [sys.executable, __file__, "--one", str(n), "--checked", str(a.checked)],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.splitlines()[-1]
    )
    table = pd.DataFrame(map(run, a.rows)).round(1)
    table.to_csv(a.out, index=False)
    print(table.to_string(index=False))
