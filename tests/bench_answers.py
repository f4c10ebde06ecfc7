"""Speed of the reader on raw answers, in seconds of the processor: the same answers again and again, and answers
that are all different. `make bench` calls it.

python tests/bench_answers.py [--answers 20000] [--repeats 3] [--out figures/bench_answers.csv]"""

import argparse, json, statistics, time
from pathlib import Path

import numpy as np, pandas as pd

from globe.answers.reader import read_answer
from globe.places.gazetteer import gazetteer

PROSE = "The street is narrow, the houses are low, and the signs are in Latin letters. " * 8


def cases():
    lines = (Path(__file__).parent / "reader_cases.jsonl").read_text(encoding="utf-8").splitlines()
    return list(map(json.loads, lines))


def raw_answers(n):
    "`n` answers: the cases of the tests one after another, every second one behind a page of prose."
    texts = [case["text"] for case in cases()]
    return [("", PROSE)[i % 2] + texts[i % len(texts)] for i in range(n)]


def different_answers(n, rng):
    "`n` answers that are all different: the same cases about other towns, the larger the more frequent."
    g, named = gazetteer(), [case for case in cases() if case["city"] and case["city"] in case["text"]]
    weight, texts = np.sqrt(g.population + 1), {}
    for i, row in enumerate(rng.choice(len(weight), size=2 * n, p=weight / weight.sum()).tolist()):
        case = named[i % len(named)]
        text = case["text"].replace(case["city"], g.name[row])
        if case["country"]:
            text = text.replace(case["country"], g.english[g.codes[g.code[row]]])
        texts[("", PROSE)[i % 2] + text] = None
    return list(texts)[:n]


def seconds_to_read(texts):
    start = time.process_time()
    for text in texts:
        read_answer(text)
    return time.process_time() - start


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--answers", type=int, default=20_000)
    p.add_argument("--repeats", type=int, default=3)
    p.add_argument("--out", default="figures/bench_answers.csv")
    a = p.parse_args()
    texts, different = raw_answers(a.answers), different_answers(a.answers, np.random.default_rng(0))
    seconds_to_read(texts[: len(cases())])  # fills the tables of names
    seconds = {
        "raw answers, all different": (different, seconds_to_read(different)),
        "raw answers, read before": (
            texts,
            statistics.median(seconds_to_read(texts) for _ in range(a.repeats)),
        ),
    }
    rows = [
        {
            "what": f"{len(read):,} {what}",
            "seconds": spent,
            "answers/s": len(read) / spent,
            "characters per answer": sum(map(len, read)) / len(read),
        }
        for what, (read, spent) in seconds.items()
    ]
    table = pd.DataFrame(rows)
    table.to_csv(a.out, index=False)
    print(table.to_string(index=False, float_format="%.3g"))
