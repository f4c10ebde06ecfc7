"""Write data/naturalearth/{countries,coastline,lakes}.geojson: the map under the figures, and large lakes. Run once; the result is committed.

    pip download --no-deps geopandas==0.14.4
    python data/naturalearth.py geopandas-0.14.4-py3-none-any.whl        # without the wheel: the lakes alone

Source: Natural Earth 1:110m countries, public domain (naturalearthdata.com), as geopandas 0.14.4 carries them in its wheel.
Coordinates are rounded to 0.01 degree (about 1 km, less than the error of the 1:110m map) and stand as [lon, lat], as GeoJSON has them.
The lakes are the 25 of Natural Earth 1:110m, public domain too, which cartopy carries for its tests; those have no islands.
Needs pyshp and shapely, which cartopy brings along.
"""

import hashlib, io, json, sys, zipfile
from pathlib import Path
import cartopy, shapefile
from shapely.geometry import MultiLineString, mapping, shape
from shapely.ops import linemerge, unary_union
from shapely import make_valid, set_precision

SHA256 = "3bb6473cb59d51e1a7fe2dbc24a1a063fb0ebdeddf3ce08ddbf8c7ddc99689aa"
INSIDE = "geopandas/datasets/naturalearth_lowres/naturalearth_lowres."
CODES = {"France": "FRA", "Norway": "NOR", "Kosovo": "XKX"}  # -99 in the source


def countries(wheel):
    "Name, code and geometry of each country in the wheel."
    part = lambda kind: io.BytesIO(wheel.read(INSIDE + kind))
    with shapefile.Reader(shp=part("shp"), shx=part("shx"), dbf=part("dbf"), encoding="latin-1") as rows:
        for row in rows.iterShapeRecords():
            name = row.record["name"]
            yield (
                name,
                CODES.get(name, row.record["iso_a3"]),
                set_precision(make_valid(shape(row.shape.__geo_interface__)), 0.01),
            )


def lakes():
    "Name and geometry of each lake that cartopy carries."
    path = Path(cartopy.__file__).parent / "tests" / "lakes_shapefile" / "ne_110m_lakes"
    with shapefile.Reader(str(path)) as rows:
        for row in rows.iterShapeRecords():
            name = " ".join(row.record["name"].split())
            yield name, set_precision(make_valid(shape(row.shape.__geo_interface__)), 0.01)


def on_cut(a, b):
    "Whether a segment is no coast but the edge of the map: the date line or the south pole."
    return abs(a[0]) == abs(b[0]) == 180 or (a[1] <= -89.9 and b[1] <= -89.9)


def coastline(polygons):
    "The outline of all land, without the edge of the map."
    land = unary_union(polygons)
    rings = [ring for p in land.geoms for ring in (p.exterior, *p.interiors)]
    segments = [(a, b) for ring in rings for a, b in zip(ring.coords, ring.coords[1:]) if not on_cut(a, b)]
    return linemerge(MultiLineString(segments))


def plain(geometry):
    "GeoJSON geometry with two decimals."
    tidy = lambda v: [tidy(x) for x in v] if isinstance(v, (list, tuple)) else round(v, 2)
    geometry = mapping(geometry)
    return {"type": geometry["type"], "coordinates": tidy(geometry["coordinates"])}


def write(path, features):
    "One feature per line, so that changes can be read."
    lines = ",\n".join(
        json.dumps(
            {"type": "Feature", "properties": p, "geometry": plain(g)},
            ensure_ascii=False,
            separators=(",", ":"),
        )
        for p, g in features
    )
    path.write_text('{"type":"FeatureCollection","features":[\n' + lines + "\n]}\n", encoding="utf-8")
    print(path, path.stat().st_size, "bytes")


if __name__ == "__main__":
    if len(sys.argv) > 2:
        sys.exit(__doc__)
    out = Path(__file__).parent / "naturalearth"
    out.mkdir(exist_ok=True)
    write(out / "lakes.geojson", [({"name": n}, g) for n, g in lakes()])
    if len(sys.argv) == 1:
        sys.exit()
    if hashlib.sha256(Path(sys.argv[1]).read_bytes()).hexdigest() != SHA256:
        sys.exit(f"{sys.argv[1]} is not the wheel that this script knows: geopandas 0.14.4")
    with zipfile.ZipFile(sys.argv[1]) as wheel:
        rows = list(countries(wheel))
    write(out / "countries.geojson", [({"name": n, "iso_a3": c}, g) for n, c, g in rows])
    write(out / "coastline.geojson", [({"name": "coastline"}, coastline([g for *_, g in rows]))])
