"""Speed of the rewards and of the released plugin's functions on the same answers. `make bench` calls it.

    python tests/bench_rewards.py [--answers 200] [--repeats 5] [--out figures/bench_rewards.csv]

The released functions are rewritten from their description. They do less: they compare strings where
ours look places up, and look for stored words where ours read the reasoning. The ratio says what
exactness costs."""

import argparse, random, re, statistics, time

import pandas as pd

from globe.training import localizability, rewards
from globe.answers.vocabulary import CLASSES

SHOWN = [dict(text=name, share=0.1) for name in ("sky", "sea", "dome", "flag", "road")]


class Released:
    "The plugin's rewards: containment with a length ratio of 0.7, recall of tags, one regular expression."

    form_pattern = re.compile(r"^<think>.*?</think>\s*<answer>.*?</answer>(?![\s\S])", re.S | re.M)

    @staticmethod
    def same(a, b):
        short, long = sorted((a.strip().lower(), b.strip().lower()), key=len)
        return bool(short) and short in long and len(short) / len(long) >= 0.7

    @classmethod
    def geo_accuracy(cls, completions, country, city, **columns):
        def one(text, c, t):
            inside = re.search(r"<answer>(.*?)</answer>", text, re.S)
            said = [
                re.search(rf"{key}:\s*\[?([^\]\n]*)", inside[1], re.I) if inside else None
                for key in ("country", "city")
            ]
            if not (said[0] and cls.same(said[0][1], c)):
                return 0.0
            return 1.0 if said[1] and cls.same(said[1][1], t) else 0.2

        return [one(*row) for row in zip(completions, country, city)]

    @staticmethod
    def visual_grounding(completions, entities, **columns):
        def one(text, stored):
            tags, said = {e["text"].lower() for e in stored}, text.split("</think>")[0].lower()
            return sum(t in said for t in tags) / len(tags) if tags else 0.0

        return [one(*row) for row in zip(completions, entities)]

    @classmethod
    def form(cls, completions, **columns):
        return [float(bool(cls.form_pattern.match(text))) for text in completions]


class Silent:
    "A judge that costs nothing, so that what is measured is the reward around it."

    def probability(self, images, reasonings):
        return [0.5] * len(images)


def answers(n, length, rng):
    "Answers with about `length` characters of reasoning that names things; every fourth city is invented."
    things, frames = (
        [c for c in CLASSES if c != "background"],
        [
            "The {} near the {} suggests a coastal town.",
            "A {} and a {} stand in the distance.",
            "There is no {}, but the {} tells of the climate.",
            "Buildings of this kind are common where the {} meets the {}.",
        ],
    )
    invented = lambda: "".join(rng.choices("aeioklmnrst", k=9)).capitalize()

    def one():
        text = ""
        while len(text) < length:
            text += " " + rng.choice(frames).format(*rng.sample(things, 2))
        city = rng.choice(["Helsinki", "Turku", "Stockholm", invented()])
        return f"<think>{text[1:]}</think>\n<answer>\ncountry: [Finland]\ncity: [{city}]\n</answer>"

    return [one() for _ in range(n)]


def seconds(work, repeats):
    "Median of processor time, which a busy machine does not lengthen; the first call warms up."

    def once(start):
        work()
        return time.process_time() - start

    once(0.0)
    return statistics.median(once(time.process_time()) for _ in range(repeats))


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--answers", type=int, default=200)
    p.add_argument("--repeats", type=int, default=5)
    p.add_argument("--out", default="figures/bench_rewards.csv")
    a = p.parse_args()
    rng, n, table = random.Random(0), a.answers, []
    columns = dict(
        country=["Finland"] * n,
        city=["Helsinki"] * n,
        entities=[SHOWN] * n,
        lat=[60.17] * n,
        lon=[24.94] * n,
        image=[None] * n,
        prompts=["Where was this picture taken?"] * n,
    )
    for length in (200, 1000, 2500, 5000):
        texts = answers(n, length, rng)
        for name, ours in dict(
            geo_accuracy=rewards.geo_accuracy,
            visual_grounding=rewards.visual_grounding,
            form=rewards.form,
            geo_distance=rewards.geo_distance,
            localizability=localizability.Localizability(Silent()),
        ).items():
            theirs = getattr(Released, name, None)
            mine, other = (
                seconds(lambda: ours(texts, **columns), a.repeats),
                seconds(lambda: theirs(texts, **columns), a.repeats) if theirs else float("nan"),
            )
            table.append(
                dict(
                    reward=name,
                    characters=length,
                    ours_us=mine / n * 1e6,
                    released_us=other / n * 1e6,
                    ratio=mine / other,
                    under_1_ms=mine / n < 1e-3,
                )
            )
    table = pd.DataFrame(table)
    table.to_csv(a.out, index=False)
    print(table.to_string(index=False, float_format="%.3g"))
