"How real answers are read: `python data/make_readings.py FOLDER` reads the reference reasonings and the answers of three systems of GeoComp (yuan4629/Geocomp, Apache-2.0) and writes data/readings.csv."

import sys
from pathlib import Path
import pandas as pd
from globe.places.match import same_city, same_country
from globe.answers.reader import read_answer


def record(folder):  # with GroundTruth_reasoning.csv, Hallucination_*.csv and gt_parsed.csv
    "One row per source of answers: how many were read, and how many name the reference's country and city."
    load = lambda name: pd.read_csv(
        Path(folder) / name, keep_default_na=False, dtype=str, encoding_errors="replace"
    )
    truth = load("gt_parsed.csv").drop_duplicates("panoid").set_index("panoid")
    reference = load("GroundTruth_reasoning.csv").set_axis(["nation", "panoid", "output"], axis=1)
    sources = {"reference": reference} | {
        name: load(f"Hallucination_{name}.csv").rename(columns=str.strip)
        for name in ("GPT4o", "GeoCoT", "GeoReasoners")
    }
    return pd.DataFrame([measured(name, answers, truth) for name, answers in sources.items()])


def measured(name, answers, truth):
    answers = answers[answers.panoid.isin(truth.index)].drop_duplicates("panoid")
    got, true = [read_answer(t) for t in answers.output], truth.loc[answers.panoid]
    country = [same_country(a.country, c) for a, c in zip(got, true.gt_country_iso2)]
    city = [
        right and same_city(a.city or a.region, t, c)
        for right, a, t, c in zip(country, got, true.gt_city, true.gt_country_iso2)
    ]
    return dict(
        answers=name, n=len(got), read=sum(a.parsed for a in got), country=sum(country), city=sum(city)
    )


if __name__ == "__main__":
    record(sys.argv[1]).to_csv(Path(__file__).with_name("readings.csv"), index=False)
