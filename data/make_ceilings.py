"Ceilings of published benchmarks: `python data/make_ceilings.py FOLDER` reads the tables im2gps*_places365.csv and yfcc25600_places365.csv of TIBHannover/GeoEstimation and writes data/ceilings.csv."
import sys
from pathlib import Path
import pandas as pd
from globe.evaluate import RADII, named, oracle, truth_file

def ceilings(folder): # with the three tables
    "What a system reaches that always names the right city: one row per benchmark and way of asking, in percent."
    rows = []
    for name, file in dict(IM2GPS="im2gps", IM2GPS3K="im2gps3k", YFCC26k="yfcc25600").items():
        truth, _ = truth_file(Path(folder)/f"{file}_places365.csv")
        for by, title in dict(point="nearest city", name="its name, geocoded").items():
            got = oracle(truth, by).row()
            rows.append(dict(benchmark=name, n=len(truth), answer=title) | {named(r): round(100 * got[named(r)], 2) for r in RADII})
    return pd.DataFrame(rows)

if __name__ == "__main__": ceilings(sys.argv[1]).to_csv(Path(__file__).with_name("ceilings.csv"), index=False)
