"""What share of pictures shows a class: `python data/make_shares.py OBJECTS` writes data/shares.csv.

The world: 1,600 streets of the synthetic world, classes on at least 0.2 % of the picture. ADE20K: OBJECTS is
objectInfo150.txt of the repository CSAILVision/sceneparsing, which says in how many of the 20,210 training
images a class is. Half of these are rooms, so the counts are divided by that of the sky: at most as often is
the class in photographs taken outdoors.
"""

import csv, sys
from pathlib import Path

import numpy as np

from globe.answers.vocabulary import CLASSES, classes_of
from globe.world.postcards import batch
from globe.world.student import FIRST_SEED

HERE, STYLES = Path(__file__).parent, ("summer", "any")


def world():
    "(class, share)"
    cards = [card for k in range(8) for card in batch(200, FIRST_SEED + k, STYLES[k % 2], None, 1.0)[1]]
    masks = [card["mask"] for card in cards]
    shown = np.mean([np.bincount(m.ravel(), minlength=len(CLASSES)) >= 0.002 * m.size for m in masks], 0)
    return list(zip(CLASSES[1:], shown[1:]))


def ade20k(path):
    "(class, share)"
    lines = Path(path).read_text().splitlines()[1:]
    counts = [int(line.split("\t")[2]) for line in lines]
    return [(name, min(1.0, n / counts[2])) for name, n in zip(classes_of("ade20k"), counts)]


if __name__ == "__main__":
    with (HERE / "shares.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["vocabulary", "name", "share"])
        for vocabulary, rows in dict(world=world(), ade20k=ade20k(sys.argv[1])).items():
            table.writerows([vocabulary, name, round(float(share), 3)] for name, share in rows)
