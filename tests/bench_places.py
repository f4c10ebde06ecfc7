"""Speed of the gazetteer beside what people use today, in one run and in seconds of the processor: `reverse_geocoder` for labels, geopy
for distances. `make bench` calls it.

pip install reverse_geocoder==1.5.1 geopy==2.4.1
python tests/bench_places.py [--points 100000] [--repeats 3] [--out figures/bench_places.csv]"""

import argparse, statistics, time

import numpy as np, pandas as pd

from globe.places import gazetteer, match, sphere


def median(work, repeats):
    "(last result, median seconds); the first call warms up."
    seconds, out = [], work()
    for _ in range(repeats):
        start = time.process_time()
        out = work()
        seconds.append(time.process_time() - start)
    return out, statistics.median(seconds)


def stream(g, n, rng, wrong=0.1):
    """n names with their countries: of towns, the larger the more frequent; of the share `wrong` half is misspelt,
    half found nowhere."""
    weight = np.sqrt(g.population + 1)
    rows = rng.choice(len(weight), size=n, p=weight / weight.sum())

    def written(name, kind):
        at = int(rng.integers(len(name)))
        if kind < wrong / 2:
            return name[:at] + name[at + 1 :]
        return name[::-1] + " qvoz" if kind < wrong else name

    kinds = rng.random(n)
    names = [written(g.name[row], kind) for row, kind in zip(rows, kinds)]
    return list(dict.fromkeys((name, g.english[g.codes[g.code[row]]]) for name, row in zip(names, rows)))


def look_ups(pairs):
    "Look-ups a second."
    start = time.process_time()
    for name, country in pairs:
        match.locate(name, country)
    return len(pairs) / (time.process_time() - start)


def look_up_rows(g, rng, n=20_000):
    """The rates of names that were never seen before (with all that is made at the first use), and of the
    same names repeated as answers repeat them (Zipf)."""
    pairs = stream(g, n, rng)
    share = 1 / np.arange(1, len(pairs) + 1)
    repeated = [pairs[i] for i in rng.choice(len(pairs), size=100_000, p=share / share.sum())]
    rates = {"different names, each seen once": (pairs, look_ups(pairs))}
    seen = set(pairs)
    known = [pair for pair in stream(g, n, rng, wrong=0) if pair not in seen]
    rates["names of towns, each seen once, later"] = known, look_ups(known)
    rates["names as answers repeat them"] = repeated, look_ups(repeated)
    return [
        dict(
            what=f"{len(names):,} {what}",
            ours=len(names) / rate,
            other="–",
            seconds=np.nan,
            ratio=np.nan,
            agreement=f"{rate:,.0f} look-ups/s",
        )
        for what, (names, rate) in rates.items()
    ]


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--points", type=int, default=100_000)
    p.add_argument("--repeats", type=int, default=3)
    p.add_argument("--out", default="figures/bench_places.csv")
    a = p.parse_args()
    import geopy.distance, reverse_geocoder

    start = time.process_time()
    g = gazetteer.gazetteer()
    loaded = time.process_time() - start
    rng = np.random.default_rng(0)
    first_rows = look_up_rows(g, np.random.default_rng(1))  # before anything else fills the caches
    first_rows[0]["agreement"] += f"; index loaded in {loaded:.2f} s"
    rows = rng.integers(len(g.lat), size=a.points)  # near cities, as photographs are
    lat, lon = (
        g.lat[rows] + rng.normal(0, 0.05, a.points),
        (g.lon[rows] + rng.normal(0, 0.05, a.points) + 180) % 360 - 180,
    )
    lat = lat.clip(-90, 90)
    ours, seconds = median(lambda: match.nearest(lat, lon), a.repeats)
    coder = reverse_geocoder.RGeocoder(mode=1, verbose=False)
    theirs, their_seconds = median(lambda: coder.query(list(zip(lat, lon))), a.repeats)
    same = np.mean(ours.country_code == [t["cc"] for t in theirs])
    table = [
        dict(
            what=f"nearest place of {a.points:,} points",
            ours=seconds,
            other="reverse_geocoder 1.5.1 (cities of 1,000)",
            seconds=their_seconds,
            ratio=their_seconds / seconds,
            agreement=f"same country {same:.4f}",
        )
    ]
    n = min(a.points, 20_000)
    x, y = slice(0, n), slice(a.points - n, a.points)
    for model, theirs_of in (("sphere", geopy.distance.great_circle), ("wgs84", geopy.distance.geodesic)):
        km, seconds = median(lambda: sphere.distance_km(lat[x], lon[x], lat[y], lon[y], model), a.repeats)
        their_km, their_seconds = median(
            lambda: np.array([theirs_of(p, q).km for p, q in zip(zip(lat[x], lon[x]), zip(lat[y], lon[y]))]),
            1,
        )
        table.append(
            dict(
                what=f"{n:,} distances, {model}",
                ours=seconds,
                other=f"geopy {theirs_of.__name__}",
                seconds=their_seconds,
                ratio=their_seconds / seconds,
                agreement=f"largest relative difference {np.max(abs(km - their_km) / their_km.clip(1e-3)):.1e}",
            )
        )
    table += first_rows
    table = pd.DataFrame(table)
    table.to_csv(a.out, index=False)
    print(table.to_string(index=False, float_format="%.3g"))
