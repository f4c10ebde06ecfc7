"What naming the right city reaches on published benchmarks: `python data/make_oracle.py FOLDER` reads the tables im2gps*_places365.csv and yfcc25600_places365.csv of TIBHannover/GeoEstimation and writes data/oracle.csv."

import sys
from pathlib import Path
import pandas as pd
from globe.evaluation.files import read_truth
from globe.evaluation.metrics import RADII, named, oracle, score
from globe.places.gazetteer import gazetteer
from globe.places.sphere import unit_vectors


def nearest_place(truth):
    "The coordinate of the nearest entry of the gazetteer, districts and suburbs too."
    g = gazetteer()
    at = g.tree.query(unit_vectors(truth.lat, truth.lon))[1]
    return score(pd.DataFrame(dict(id=truth.id, lat=g.lat[at], lon=g.lon[at])), truth[["id", "lat", "lon"]])


def record(folder):  # with the three tables
    "One row per benchmark and answer, in percent."
    rows = []
    for name, file in dict(IM2GPS="im2gps", IM2GPS3K="im2gps3k", YFCC26k="yfcc25600").items():
        truth = read_truth(Path(folder) / f"{file}_places365.csv").rows[["id", "lat", "lon"]]
        found = {
            "name of the nearest city, with its state, geocoded": oracle(truth, "name"),
            "coordinate of the nearest city": oracle(truth),
            "coordinate of the nearest place, districts too": nearest_place(truth),
        }
        rows += [
            dict(benchmark=name, n=len(truth), answer=what)
            | {named(r): round(100 * e.row()[named(r)], 2) for r in RADII}
            for what, e in found.items()
        ]
    return pd.DataFrame(rows)


if __name__ == "__main__":
    record(sys.argv[1]).to_csv(Path(__file__).with_name("oracle.csv"), index=False)
