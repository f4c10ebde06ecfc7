"""Speed of the reader on raw answers, many of one shape after another. `make bench` calls it.

python tests/bench_answers.py [--answers 20000] [--repeats 3] [--out figures/bench_answers.csv]"""

import argparse, json, statistics, time
from pathlib import Path

import pandas as pd

from globe.answers.reader import read_answer

PROSE = "The street is narrow, the houses are low, and the signs are in Latin letters. " * 8


def raw_answers(n):
    "`n` answers: the cases of the tests one after another, every second one behind a page of prose."
    lines = (Path(__file__).parent / "reader_cases.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [json.loads(line)["text"] for line in lines]
    return [("", PROSE)[i % 2] + texts[i % len(texts)] for i in range(n)]


def seconds_to_read(texts, repeats):
    "Median seconds to read all texts; the first pass fills the tables of names and does not count."
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        for text in texts:
            read_answer(text)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--answers", type=int, default=20_000)
    p.add_argument("--repeats", type=int, default=3)
    p.add_argument("--out", default="figures/bench_answers.csv")
    a = p.parse_args()
    texts = raw_answers(a.answers)
    seconds = seconds_to_read(texts, a.repeats)
    characters = sum(map(len, texts))
    row = {
        "what": f"{a.answers:,} raw answers read",
        "seconds": seconds,
        "answers/s": a.answers / seconds,
        "characters per answer": characters / a.answers,
    }
    table = pd.DataFrame([row])
    table.to_csv(a.out, index=False)
    print(table.to_string(index=False, float_format="%.3g"))
