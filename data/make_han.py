"""Write data/han.csv: traditional Chinese and Japanese characters, each with the simplified one that stands for it in a look-up.

    pip install opencc-python-reimplemented==0.1.7
    python data/make_han.py

Source: the dictionaries TSCharacters and JPVariants of OpenCC (Apache-2.0). Of several simplified characters the first counts;
a Japanese character that stands for several traditional ones is left out, and so is what lies beyond the Basic Multilingual Plane."""

import csv
from pathlib import Path

import opencc


def pairs(name):
    "Characters and their counterparts in one of OpenCC's dictionaries."
    table = Path(opencc.__file__).parent / "dictionary" / f"{name}.txt"
    for line in table.read_text(encoding="utf-8").splitlines():
        character, _, others = line.partition("\t")
        if others:
            yield character, others.split()


def simplified():
    "Simplified character of each other one."
    found = {character: others[0] for character, others in pairs("TSCharacters")}
    japanese = {}
    for traditional, others in pairs("JPVariants"):
        for other in others:
            japanese.setdefault(other, set()).add(found.get(traditional, traditional))
    found |= {c: meant.pop() for c, meant in japanese.items() if c not in found and len(meant) == 1}
    return {c: s for c, s in sorted(found.items()) if c != s and max(c, s) < "\U00010000" and len(c + s) == 2}


if __name__ == "__main__":
    with open(Path(__file__).with_name("han.csv"), "w", newline="", encoding="utf-8") as f:
        writer = csv.writer(f, lineterminator="\n")
        writer.writerow(("character", "simplified"))
        writer.writerows(simplified().items())
