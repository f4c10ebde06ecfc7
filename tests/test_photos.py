"""Photographs as people and machines really send them."""

import base64, bz2, contextlib, csv, datetime, gzip, io, lzma, math, os, re, sqlite3, struct, subprocess, sys, time
import unicodedata, warnings, zipfile, zlib
import datasets, numpy, pandas as pd, pyarrow as pa, pyarrow.parquet as pq, pytest
from decimal import Decimal
from pathlib import Path
from pyarrow import feather
import PIL
from PIL import Image
from globe.answers.conversations import conversation
from globe.distillation.distill import distill
from globe.distillation.teachers import judgement
from globe.csv_files import safe_cell, write_csv
from globe.parquet import _unpacked_bytes
from globe.photos import benchmarks, collections, images
from globe.places import gazetteer
from globe.photos.benchmarks import load_benchmark
from globe.photos.collections import from_csv, from_folder, picture_files
from globe.photos.images import PhotoError, check_photo, open_photo, photo_and_gps, picture_of
from globe.photos.official import from_official
from globe.photos.official_writer import to_official
from globe.photos.records import photo_dataset
from globe.places.agreement import contradiction
from globe.photos.picture_columns import undecoded
from globe.photos.stored import checked_pictures, read_dataset
from globe.photos.picture_columns import check_pictures
from globe.photos.tables import answers_by_file, read_table

REAL = Path(
    os.environ.get("GLOBE_REAL") or Path(__file__).resolve().parents[2] / "shared" / "real"
)  # see tests/README.md
SCENE = Image.effect_noise((64, 48), 80).convert("RGB")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    "Records go to a folder of the test's own; the index of places stays where it is."
    gazetteer.gazetteer()
    monkeypatch.setenv("GLOBE_CACHE", str(tmp_path_factory.mktemp("cache")))


def encoded(im=SCENE, format="JPEG", **kw):
    im.save(f := io.BytesIO(), format, **kw)
    return f.getvalue()


def camera(lat, lon, **more):
    "A JPEG as a camera with GPS writes it."
    exif = Image.Exif()
    exif[0x8825] = {
        1: "N" if lat >= 0 else "S",
        2: (int(abs(lat)), abs(lat) % 1 * 60, 0),
        3: "E" if lon >= 0 else "W",
        4: (int(abs(lon)), abs(lon) % 1 * 60, 0),
    }
    for tag, value in more.get("tags", {}).items():
        exif[tag] = value
    return encoded(exif=exif, comment=b"Sydney Opera House")


def fill(folder, **files):
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_bytes(
            content if isinstance(content, bytes) else content.encode()
        )
    return folder


# one picture


@pytest.mark.parametrize(
    "im, format",
    [
        (SCENE.convert("CMYK"), "JPEG"),
        (SCENE.convert("L"), "PNG"),
        (SCENE.convert("P"), "GIF"),
        (SCENE.convert("1"), "PNG"),
        (SCENE.convert("RGBA"), "WEBP"),
        (SCENE.convert("LA"), "PNG"),
        (Image.new("I;16", (64, 48), 40000), "TIFF"),
        (Image.new("I", (64, 48), 40000), "TIFF"),
        (Image.new("F", (64, 48), 0.5), "TIFF"),
        pytest.param(
            SCENE.convert("YCbCr"),
            "TIFF",
            marks=pytest.mark.skipif(PIL.__version__ < "13", reason="pillow before 13 cannot read it"),
        ),
        (SCENE.convert("LAB"), "TIFF"),
    ],
)
def test_every_mode_becomes_rgb(im, format):
    out = open_photo(encoded(im, format))
    assert (out.mode, out.size, out.info) == ("RGB", (64, 48), {})


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "MPO"])
def test_of_an_animation_the_first_frame(format):
    first, second = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
    r, g, b = open_photo(encoded(first, format, save_all=True, append_images=[second])).getpixel((4, 4))
    assert r > 200 and b < 50


def test_transparent_palette_lies_on_white():
    im = Image.new("P", (4, 4), 0)
    im.putpalette([255, 0, 0] * 256)
    assert open_photo(encoded(im, "GIF", transparency=0)).getpixel((1, 1)) == (255, 255, 255)


@pytest.mark.parametrize("mode, seen_through", [("L", 0), ("1", 0), ("RGB", (0, 0, 0))])
def test_a_transparent_colour_of_a_picture_without_alpha_lies_on_white(mode, seen_through):
    im = Image.new(mode, (40, 40), seen_through)
    assert open_photo(encoded(im, "PNG", transparency=seen_through)).getpixel((1, 1)) == (255, 255, 255)


def test_a_transparent_grey_of_16_bits_lies_on_white():
    im = Image.fromarray(numpy.full((40, 40), 500, "uint16"))
    assert open_photo(encoded(im, "PNG", transparency=500)).getpixel((1, 1)) == (255, 255, 255)


def test_a_transparent_colour_of_16_bits_lies_on_white():
    chunk = lambda name, data: (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    )
    colour = struct.pack(">3H", 40_000, 500, 300)
    for hidden, seen in ((colour, (255, 255, 255)), (struct.pack(">3H", 40_000, 900, 300), (156, 1, 1))):
        png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 30, 30, 16, 2, 0, 0, 0))
        rows = zlib.compress((b"\0" + colour * 30) * 30)
        png += chunk(b"tRNS", hidden) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
        assert open_photo(dict(bytes=png, path="a.png")).getpixel((1, 1)) == seen


@pytest.mark.parametrize("size", [(1, 1), (7, 7), (7, 100), (16, 4)])
def test_a_picture_narrower_than_a_block_of_jpeg_is_whole(size):
    check_photo(encoded(Image.new("RGB", size, "red"), "JPEG"))


def test_a_picture_as_text_is_named_as_such():
    small = base64.b64encode(encoded(Image.new("RGB", (20, 20), "red"), "PNG")).decode()
    for text in ("DATA:image/png;base64,iVBORw0KGgo=", "iVBORw0K" * 1000, small):
        with pytest.raises(PhotoError, match="as text"):
            open_photo(picture_of(dict(image=text)))
    with pytest.raises(PhotoError, match="only names a file"):
        open_photo(picture_of(dict(image="/9j/photos/a.jpg")))


def test_sixteen_bits_are_scaled():
    for value, grey in ((0, 0), (32896, 128), (65535, 255)):
        assert open_photo(encoded(Image.new("I;16", (2, 2), value), "PNG")).getpixel((0, 0)) == (grey,) * 3


def test_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert open_photo(encoded(exif=exif)).size == (48, 64)


@pytest.mark.parametrize(
    "content, reason",
    [
        (b"", "empty"),
        (encoded()[:400], "cut short"),
        (encoded(format="PNG")[:400], "cut short"),
        (b"\xff\xd8\xff", "picture|cut short"),
        (b"<html>", "HTML"),
        (b"%PDF-1.4", "PDF"),
        (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        (b"\0\0\0\x18ftypheic", "pillow-heif"),
        (b"GIF89a", "cut short|picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture"),
        (os.urandom(5000), "picture|cut short"),
        (encoded(Image.new("1", (20_000, 20_000)), "PNG"), "million"),
    ],
)
def test_reasons(content, reason):
    with pytest.raises(PhotoError, match=reason):
        open_photo(content)


def test_size_cap_and_missing_file(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "MAX_BYTES", 100)
    with pytest.raises(PhotoError, match="MB"):
        open_photo(fill(tmp_path, a__jpg=encoded()) / "a.jpg")
    with pytest.raises(PhotoError, match="does not exist"):
        open_photo(tmp_path / "b.jpg")
    with pytest.raises(PhotoError):
        open_photo(tmp_path)


# EXIF


@pytest.mark.parametrize(
    "lat, lon", [(48.8584, 2.2945), (-33.8568, 151.2153), (-13.1631, -72.545), (64.1466, -21.9426)]
)
def test_exif_coordinate(lat, lon):
    _, found = photo_and_gps(camera(lat, lon))
    assert found[:2] == pytest.approx((lat, lon), abs=1e-4) and found[2] == ""


def test_exif_that_is_broken():
    exif = Image.Exif()
    exif[0x8825] = {1: "N", 2: (1,), 3: "E"}
    _, (lat, lon, why) = photo_and_gps(encoded(exif=exif))
    assert math.isnan(lat) and math.isnan(lon) and "longitude" in why
    _, (lat, lon, why) = photo_and_gps(encoded())
    assert math.isnan(lat) and math.isnan(lon) and why == ""


def test_nothing_of_exif_is_left(tmp_path):
    content = camera(-33.8568, 151.2153, tags={0x010E: "Sydney Opera House", 0x0131: "Sydney"})
    assert b"Exif" in content and b"Sydney" in content
    row = from_folder(fill(tmp_path, sydney__jpg=content)).with_format("arrow")[0].to_pylist()[0]
    assert (
        not [w for w in (b"Exif", b"Sydney", b"GPS") if w in row["image"]["bytes"]]
        and row["image"]["path"] is None
    )
    assert (row["city"], row["country_code"], row["id"]) == ("Sydney", "AU", "sydney.jpg")


# folders and tables


def test_folder_of_everything(tmp_path):
    fill(
        tmp_path,
        ok__jpg=camera(48.8584, 2.2945),
        nogps__jpg=encoded(),
        empty__jpg=b"",
        cut__jpg=camera(1, 1)[:700],
        page__png=b"<html>",
        zero__jpg=camera(0, 0),
        notes__txt="no",
    )
    (tmp_path / "sub").mkdir()
    fill(tmp_path / "sub", ok__jpg=camera(35.68, 139.69))
    (tmp_path / ".hidden").mkdir()
    fill(tmp_path / ".hidden", no__jpg=camera(1, 1))
    os.symlink(tmp_path, tmp_path / "sub" / "loop")
    got = from_folder(tmp_path, rows := [])
    assert got["id"][:] == ["ok.jpg", "sub/ok.jpg"] and got["country_code"][:] == ["FR", "JP"]
    pictures = {"nogps.jpg", "empty.jpg", "cut.jpg", "page.png", "zero.jpg"}
    assert {r["file"] for r in rows} == pictures | {"notes.txt", ".hidden", "sub/loop"}
    assert all(r["reason"].startswith("skipped: ") != (r["file"] in pictures) for r in rows)
    again = from_folder(tmp_path, [])
    assert again["id"][:] == got["id"][:]


def test_without_ledger_one_line_of_warning(tmp_path):
    with pytest.warns(UserWarning, match="1 of 1 photos left out"):
        assert len(from_folder(fill(tmp_path, empty__jpg=b""))) == 0


def test_ledger_as_file(tmp_path):
    from_folder(fill(tmp_path, empty__jpg=b""), tmp_path / "ledger.csv")
    assert pd.read_csv(tmp_path / "ledger.csv").values.tolist() == [["empty.jpg", "the file is empty"]]


@pytest.mark.parametrize(
    "header",
    [
        "file,lat,lon",
        "filename;latitude;lng",
        "\ufeffIMG_ID\tLAT\tLON",
        "Image,Latitude,Longitude",
        "photo, GPS_Lat, GPS_Long",
    ],
)
def test_headers(tmp_path, header):
    sep = max(",;\t", key=header.count)
    table = (
        fill(tmp_path, a__jpg=encoded(), t__csv=header + "\n" + sep.join(["a.jpg", "48.07", "11.6"]) + "\n")
        / "t.csv"
    )
    assert from_csv(table)["country_code"][:] == ["DE"]


def test_wrong_rows_become_ledger_rows(tmp_path):
    table = """file,lat,lon,country
ok.jpg,48.07° N,11°36'E,Germany
ok.jpg,48.07,11.6,Germany
swapped.jpg,139.7,35.7,Japan
fits.jpg,2.35,48.86,France
far.jpg,95,300,
none.jpg,,,Mali
word.jpg,north,east,
lost.jpg,1,2,

file,lat,lon,country
mean,12.5,20.1,
"""
    names = ("ok", "swapped", "fits", "far", "none", "word")
    from_csv(
        fill(tmp_path, t__csv=table, **{n + "__jpg": encoded() for n in names}) / "t.csv", ledger=(rows := [])
    )
    reasons = {r["file"]: r["reason"] for r in rows}
    assert set(reasons) == {
        "ok.jpg",
        "swapped.jpg",
        "fits.jpg",
        "far.jpg",
        "none.jpg",
        "word.jpg",
        "lost.jpg",
        "mean",
    }
    assert all(
        w in reasons[f]
        for f, w in {
            "ok.jpg": "twice",
            "swapped.jpg": "swapped",
            "fits.jpg": "swapped",
            "far.jpg": "range",
            "none.jpg": "no coordinate",
            "lost.jpg": "no picture",
        }.items()
    )


def test_long_ids_stay_text(tmp_path):
    table = "id,latitude,longitude\n" + "9007199254740993,48,11\n9007199254740992,48,11\n"
    got = from_csv(
        fill(
            tmp_path, **{"9007199254740993__jpg": encoded(), "9007199254740992__jpg": encoded()}, t__csv=table
        )
        / "t.csv"
    )
    assert got["id"][:] == ["9007199254740993", "9007199254740992"]


@pytest.mark.parametrize("table", ["", "a,b\n1,2\n", "\0\0\0", "file,lat\n"])
def test_table_without_columns_names_them(tmp_path, table):
    with pytest.raises(ValueError, match="lon"):
        from_csv(fill(tmp_path, t__csv=table) / "t.csv")


def test_two_tables_ask_for_one(tmp_path):
    with pytest.raises(ValueError, match="from_csv"):
        from_folder(fill(tmp_path, a__csv="file,lat,lon\n", b__csv="file,lat,lon\n"))


def test_no_such_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        from_folder(tmp_path / "nowhere")


def test_full_disk_is_one_clear_line(tmp_path, monkeypatch):
    import pyarrow as pa

    def full(*args, **kw):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pa, "OSFile", full)
    with pytest.raises(OSError, match="GLOBE_CACHE"):
        from_folder(fill(tmp_path, a__jpg=camera(1, 1)))


# benchmarks in their official formats


def test_im2gps3k_and_yfcc(tmp_path):
    fill(tmp_path, **{"1000_e6_77@N00__jpg": encoded()})
    (tmp_path / "im2gps3k_places365.csv").write_text(
        "IMG_ID,AUTHOR,LAT,LON,S3_Label\n1000_e6_77@N00.jpg,77@N00,32.325436,-64.764404,2\n"
    )
    assert load_benchmark("im2gps3k", tmp_path)["country"][:] == ["Bermuda"]
    (tmp_path / "yfcc26k" / "45" / "77").mkdir(parents=True)
    fill(tmp_path / "yfcc26k" / "45" / "77", **{"3228511372__jpg": encoded()})
    (tmp_path / "yfcc26k" / "yfcc25600_places365.csv").write_text(
        "IMG_ID,LAT,LON\n45/77/3228511372.jpg,46.778991,23.611207\n"
    )
    assert load_benchmark("yfcc26k", tmp_path)["country_code"][:] == ["RO"]


def test_osv5m(tmp_path):
    (tmp_path / "images" / "test" / "00").mkdir(parents=True)
    fill(tmp_path / "images" / "test" / "00", **{"297765091851450__jpg": encoded()})
    (tmp_path / "test.csv").write_text(
        "id,latitude,longitude,country,region,sub-region,city\n297765091851450,-43.94,170.13,NZ,Canterbury,Timaru District,Pleasant Point\n"
    )
    row = load_benchmark("osv5m", tmp_path)[0]
    assert (row["id"], row["city"], row["country"], row["country_code"]) == (
        "297765091851450",
        "Pleasant Point",
        "New Zealand",
        "NZ",
    )


@pytest.mark.parametrize("ending", ["", ".jpg"])
def test_mp16_reason_test(tmp_path, ending):
    fill(
        tmp_path,
        **{"7e_c3_81__jpg": encoded()},
        **{
            "mp16-reason-test-12k__csv": f"IMG_ID,LAT,LON,city,country\n7e_c3_81{ending},-22.56,17.08,Windhoek,NA\n"
        },
    )
    assert load_benchmark("mp16-reason-test", tmp_path)["country"][:] == ["Namibia"]


def test_parquet_with_pictures(tmp_path):
    rows = [
        dict(id="1", images=[dict(bytes=encoded(), path="1.jpg")], lat=48.07, lon=11.6),
        dict(id="2", images=[], lat=1.0, lon=2.0),
    ]
    pd.DataFrame(rows).to_parquet(tmp_path / "mp16-reason-train.parquet")
    got = load_benchmark("mp16-reason-train", tmp_path, ledger := [])
    assert got["country_code"][:] == ["DE"] and ledger == [dict(file="2", reason="no picture of this name")]


@pytest.mark.parametrize("name", benchmarks.BENCHMARKS)
def test_missing_benchmark_says_what_to_fetch(tmp_path, name):
    with pytest.raises(FileNotFoundError, match="put .* into that folder"):
        load_benchmark(name, tmp_path)


def test_missing_benchmark_names_its_dataset_on_the_hub(tmp_path):
    with pytest.raises(FileNotFoundError, match="globe-project/MP16-Reason@COMMIT"):
        load_benchmark("mp16-reason-test", tmp_path)
    with pytest.raises(FileNotFoundError) as error:
        load_benchmark("im2gps", tmp_path)
    assert "COMMIT" not in str(error.value)


def test_dataset_of_the_hub_at_a_commit(tmp_path, monkeypatch):
    "The hub is a stand-in that records what is asked of it, and writes the files that match."
    import fnmatch, huggingface_hub

    monkeypatch.setenv("GLOBE_CACHE", str(tmp_path))
    asked = []

    def snapshot_download(dataset, repo_type, revision, allow_patterns, local_dir):
        asked.append((dataset, repo_type, revision, allow_patterns))
        wanted = [
            f
            for f in (
                "README.md",
                "mp16-reason-test-12k.csv",
                "eval_images.zip",
                "mp16-reason-train-images.zip",
            )
            if any(fnmatch.fnmatch(f, p) for p in allow_patterns)
        ]
        Path(local_dir).mkdir(parents=True, exist_ok=True)
        for name in wanted:
            if name.endswith(".csv"):
                (Path(local_dir) / name).write_text(
                    "IMG_ID,LAT,LON,city,country\na,-22.56,17.08,Windhoek,NA\n"
                )
            else:
                with zipfile.ZipFile(Path(local_dir) / name, "w") as z:
                    z.writestr("a.jpg", encoded())
        return str(local_dir)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    commit = "0123456789" * 4
    for _ in range(2):
        assert load_benchmark("mp16-reason-test", f"globe-project/MP16-Reason@{commit}")["country_code"][
            :
        ] == ["NA"]
    assert asked[0][:3] == ("globe-project/MP16-Reason", "dataset", commit)
    folder = tmp_path / "benchmarks" / f"globe-project--MP16-Reason@{commit}"
    assert sorted(p.name for p in folder.iterdir()) == [
        "eval_images",
        "eval_images.zip",
        "mp16-reason-test-12k.csv",
    ]
    (folder / "eval_images.part").mkdir()
    (folder / "eval_images" / "a.jpg").rename(folder / "a.jpg")
    (folder / "eval_images").rmdir()
    (folder / "a.jpg").unlink()  # cut off while it unpacked
    assert len(load_benchmark("mp16-reason-test", f"globe-project/MP16-Reason@{commit}")) == 1
    with pytest.raises(ValueError, match="may change"):
        load_benchmark("mp16-reason-test", "globe-project/MP16-Reason@main")


def test_archives_are_to_be_unpacked(tmp_path):
    fill(
        tmp_path, **{"mp16-reason-test-12k__csv": "IMG_ID,LAT,LON,city,country\na,-22.56,17.08,Windhoek,NA\n"}
    )
    with zipfile.ZipFile(tmp_path / "eval_images.zip", "w") as z:
        z.writestr("a.jpg", encoded())
    with pytest.raises(FileNotFoundError, match="unzip '.*eval_images.zip' -d '.*eval_images'"):
        load_benchmark("mp16-reason-test", tmp_path)
    with zipfile.ZipFile(tmp_path / "eval_images.zip") as z:
        z.extractall(tmp_path / "eval_images")
    assert load_benchmark("mp16-reason-test", tmp_path)["country_code"][:] == ["NA"]


# the real photographs


def test_real_photographs():
    if not (REAL / "photos_manifest.csv").exists():
        pytest.skip("real photographs not at hand (GLOBE_REAL)")
    manifest = pd.read_csv(REAL / "photos_manifest.csv", keep_default_na=False)
    manifest.index = manifest.dir + "/" + manifest.file
    got = from_folder(REAL, rows := [])
    reasons = [r["reason"] for r in rows if not r["reason"].startswith("skipped")]
    assert len(got) == 113 and reasons == ["no coordinate"] * 13
    agree = [code == manifest.country[i] for i, code in zip(got["id"][:], got["country_code"][:])]
    assert sum(agree) / len(agree) >= 0.98


def test_one_picture_under_two_names_is_one_record(tmp_path):
    fill(
        tmp_path,
        a__jpg=encoded(),
        c__jpg=encoded(),
        where__csv="file,lat,lon\na.jpg,60.2,24.9\na,60.2,24.9\n./c.jpg,48.9,2.3\nc.jpg,48.9,2.3\n",
    )
    photos = from_csv(tmp_path / "where.csv", ledger=(ledger := []))
    assert (
        photos["id"][:] == ["a.jpg", "./c.jpg"]
        and [r["reason"] for r in ledger] == ["listed twice; the first is kept"] * 2
    )


def test_a_picture_that_is_listed_with_two_places_says_that_they_disagree(tmp_path):
    rows = "a.jpg,60.2,24.9\n./a.jpg,48.9,2.3\na.jpg,60.3,24.9\na,,\na,999,0\na,60.5,24.9\n"
    fill(tmp_path, a__jpg=encoded(), where__csv=f"file,lat,lon\n{rows}")
    photos = from_csv(tmp_path / "where.csv", ledger=(ledger := []))
    assert photos["id"][:] == ["a.jpg"]
    same = "listed twice; the first is kept"
    far, *rest, near = [row["reason"] for row in ledger]
    assert re.fullmatch(r"listed twice and they disagree, 1,9\d\d km apart; the first is kept", far)
    assert rest == [same] * 3 and "and they disagree, 33 km apart" in near


def test_a_quotation_mark_left_open_is_named_with_its_line(tmp_path):
    fill(
        tmp_path,
        a__jpg=encoded(),
        where__csv='file,lat,lon,city\na.jpg,60.2,24.9,"Helsinki\nb.jpg,1,2,Rome\nc.jpg,3,4,Oslo\n',
    )
    with pytest.raises(ValueError, match="where.csv, line .*quotation mark"):
        from_csv(tmp_path / "where.csv")
    (tmp_path / "where.csv").write_text('file,lat,lon,city\na.jpg,60.2,24.9,"' + "x" * 200_000 + '"\n')
    assert len(from_csv(tmp_path / "where.csv")) == 1


@pytest.mark.parametrize(
    "table",
    [
        'file,city\na.jpg,"\nb.jpg,"\n',  # ditto marks: the rest of both rows lies between them
        'file,city,country\na.jpg,",Chad\nb.jpg,",Chad\n',
        'file,city,country\na.jpg,Oslo,Norway\nb.jpg,","\n',
        'file\tcity\na.jpg\t"\nb.jpg\t"\n',
        'city,file\n",a.jpg\n",b.jpg\n',
        'file,lat,lon,city\na.jpg,1,2,"\nb.jpg,3,4,Oslo\nc.jpg,5,6,"\n',
        'file,city\na.jpg,"Oslo\nb.jpg,Rome"\n',  # two stray marks
        'file,city\na.jpg,"Oslo, Norway\nb.jpg,Rome"\n',
    ],
)
def test_quotation_marks_that_hold_other_rows_are_named_with_their_line(tmp_path, table):
    fill(tmp_path, where__csv=table)
    with pytest.raises(ValueError, match=r"where.csv, line [23].*ditto mark"):
        read_table(tmp_path / "where.csv")


def test_cells_with_line_breaks_and_commas_are_no_rows(tmp_path):
    texts = ["I see palms,\nthe sea, and hills", "\n1, a\n2, b\n", "\ncity, country,", '{"a":\n"b"}', ","]
    pd.DataFrame(dict(id=range(5), text=texts)).to_csv(tmp_path / "t.csv", index=False)
    found = read_table(tmp_path / "t.csv")
    assert found.rows.text.tolist() == [t.strip() for t in texts] and not found.warnings


def workbook(path, rows):
    parts = {
        "xl/workbook.xml": '<w xmlns:r="r"><sheets><sheet name="a" r:id="x"/></sheets></w>',
        "xl/_rels/workbook.xml.rels": '<R><Relationship Id="x" Target="s.xml"/></R>',
        "xl/s.xml": f"<worksheet>{rows}</worksheet>",
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in parts.items():
            archive.writestr(name, text)


def far_column(path):
    workbook(path, '<row><c r="XFD1"><v>1</v></c></row>' * 3000)


def blanks(path):
    path.write_bytes(gzip.compress(b"id,lat,lon\n1,2,3\n" + b" " * 40_000_000, 1))


def one_text_in_every_row(path):
    text = pd.Categorical.from_codes([0] * 300_000, ["a" * 1000])
    pd.DataFrame(dict(id=text)).astype(str).to_parquet(path, compression="zstd")


def wide_header(path):
    path.write_text(",".join(map(str, range(10_000))) + "\na" * 10_000)


def a_key_in_every_object(path):
    path.write_text("\n".join(f'{{"k{i}": 1}}' for i in range(10_000)))


@pytest.mark.parametrize(
    "name, write",
    [
        ("a.xlsx", far_column),
        ("a.csv.gz", blanks),
        ("a.parquet", one_text_in_every_row),
        ("a.csv", wide_header),
        ("a.jsonl", a_key_in_every_object),
    ],
)
def test_a_small_table_that_would_fill_the_memory_is_refused(tmp_path, name, write):
    write(tmp_path / name)
    assert (tmp_path / name).stat().st_size < 500_000
    start = time.process_time()
    with pytest.raises(ValueError, match="unpacks to more than|but holds"):
        read_table(tmp_path / name)
    assert time.process_time() - start < 5


def test_a_repetitive_table_of_many_rows_is_read(tmp_path):
    n = 300_000
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"id,lat,lon\n" + b"x,1,2\n" * n))
    pd.DataFrame(dict(id=["x"] * n, lat=[1.0] * n, lon=[2.0] * n)).to_parquet(tmp_path / "a.parquet")
    for name in ("a.csv.gz", "a.parquet"):
        assert len(read_table(tmp_path / name).rows) == n


NO_TEXT = b"\xff\xd8\xff\0"
BYTES = dict(binary=pa.binary(), large=pa.large_binary(), view=pa.binary_view(), fixed=pa.binary(5))


def parquet(tmp_path, **columns):
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    return tmp_path / "t.parquet"


@pytest.mark.parametrize("kind", [*BYTES, "dictionary"])
def test_a_parquet_column_of_text_that_is_not_marked_as_text_is_read(tmp_path, kind):
    values = [None, b"Spain", "Perú".encode()]
    column = pa.array(values, BYTES[kind]) if kind in BYTES else pa.array(values).dictionary_encode()
    table = read_table(parquet(tmp_path, id=[b"a", b"b", b"c"], country=column))
    assert table.rows.values.tolist() == [["a", ""], ["b", "Spain"], ["c", "Perú"]] and not table.notes


def test_a_parquet_column_of_bytes_that_is_no_text_is_named(tmp_path):
    picture = dict(bytes=b"text", path="a.jpg")
    columns = dict(
        image=[picture] * 2,
        photo=[None, NO_TEXT],
        fixed=pa.array([NO_TEXT] * 2, pa.binary(4)),
        photos=[[picture]] * 2,
        place=[dict(country=b"Spain", thumb=NO_TEXT, town="Lugo")] * 2,
    )
    table = read_table(parquet(tmp_path, id=["a", "b"], **columns))
    assert table.rows.to_dict("records") == [dict(id=id, country="Spain", town="Lugo") for id in "ab"]
    (note,) = table.notes
    assert note.endswith("not read: image, photo, fixed, photos, place.thumb")


def test_a_parquet_column_of_text_with_a_value_that_is_none_is_an_error(tmp_path):
    path = parquet(tmp_path, id=list(range(100)), city=[b"Lima"] * 99 + [NO_TEXT])
    with pytest.raises(ValueError, match="t.parquet cannot be read .* column 'city' holds bytes"):
        read_table(path)


def test_a_parquet_column_that_begins_with_nothing_is_text(tmp_path):
    path = parquet(tmp_path, id=list(range(5000)), city=pa.array([None] * 4000 + [b""] * 999 + [b"Lima"]))
    assert read_table(path).rows["city"].iloc[-1] == "Lima"


def test_bytes_in_the_cells_of_a_frame_are_text_or_named():
    frame = pd.DataFrame(dict(id=[b"a"], city=["Lima"], photo=[NO_TEXT], more=[[b"x", NO_TEXT]]))
    table = read_table(frame)
    assert table.rows.iloc[0].to_dict() == dict(id="a", city="Lima", photo="", more='["x", null]')
    assert [note.rsplit(" ", 1)[-1] for note in table.notes] == ["photo"]


_MEMORY = """
import pathlib, sys
from globe.photos.tables import read_table
for path in map(pathlib.Path, sys.argv[1:]):
    try:
        print("read", read_table(path))
    except ValueError as e:
        print(e)
print(*[line.strip() for line in open("/proc/self/status") if "VmHWM" in line])
"""


def repetitive(text):
    "Columns of 1024 rows that hold the numbers of one long text, by their form."
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 1024, pa.int32()), pa.array([text]))
    spans, one = (pa.array(list(ends), pa.int32()) for ends in (range(1025), [0] + [1024] * 1024))
    return {
        "plain": column,
        "struct": pa.StructArray.from_arrays([column], ["country"]),
        "list": pa.ListArray.from_arrays(spans, column),
        "row": pa.ListArray.from_arrays(one, column),
        "map": pa.MapArray.from_arrays(one, pa.array(map(str, range(1024))), column),
    }


def small_and_large():
    "(column, options) of parquet files of a few kilobytes that unpack to gigabytes."
    long = 3_000_000 * "x"
    for text in (long, long.encode()):
        for column in repetitive(text).values():
            if not (pa.types.is_map(column.type) and isinstance(text, bytes)):  # which is not read
                yield from ((column, dict(store_schema=is_marked)) for is_marked in (True, False))
    yield pa.nulls(20_000_000, pa.string()), {}
    yield pa.array([b"\xff" + bytes(50_000_000)]), {}
    yield pa.array([long] * 300), dict(use_dictionary=False, column_encoding=dict(c="DELTA_BYTE_ARRAY"))


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="no peak of the memory there")
def test_small_parquet_files_are_refused_before_they_fill_the_memory(tmp_path):
    paths = []
    for column, options in small_and_large():
        paths.append(tmp_path / f"{len(paths)}.parquet")
        pq.write_table(pa.table(dict(c=column)), paths[-1], compression="zstd", **options)
        assert paths[-1].stat().st_size < 100_000
    told = subprocess.run([sys.executable, "-c", _MEMORY, *paths], capture_output=True, text=True, check=True)
    *why, peak = told.stdout.splitlines()
    assert len(why) == len(paths) == 21 and all("unpacks to more than 20 MB" in line for line in why)
    assert int(peak.split()[1]) < 300_000


_PICTURE_MEMORY = """
import pathlib, sys
from globe.answers.conversations import conversation
from globe.photos.benchmarks import load_benchmark
from globe.photos.official import from_official
from globe.photos.stored import read_dataset
for path in map(pathlib.Path, sys.argv[1:]):
    for read in (
        lambda: read_dataset(path),
        lambda: read_dataset(path.parent),
        lambda: load_benchmark("mp16-reason-train", path.parent),
        lambda: from_official(path.parent, conversation("train")),
    ):
        try:
            print("read", read())
        except ValueError as e:
            print(e)
print(*[line.strip() for line in open("/proc/self/status") if "VmHWM" in line])
"""


def official(pictures, **columns):
    "A published train table with these pictures as `images`, or as the columns given."
    n = len(pictures)
    told = dict(
        IMG_ID=[f"{i}.jpg" for i in range(n)], lat=[48.0] * n, lon=[11.0] * n, response=["Munich"] * n
    )
    return pa.table(
        told | {"__#solution": [""] * n, "entities": [""] * n} | (columns or dict(images=pictures))
    )


def pictures_often(content, n=200):
    "(pictures of a table, options) of small files in which one picture stands `n` times."
    same = pa.DictionaryArray.from_arrays(pa.array([0] * n, pa.int32()), pa.array([content]))
    names = pa.array(["x"] * n)
    stored, one = pa.StructArray.from_arrays([same, names], ["bytes", "path"]), pa.array([0] + [n] * n)
    wide = dict(dictionary_pagesize_limit=1 << 30)
    yield dict(image=same), wide
    yield dict(image=stored), wide
    yield dict(images=pa.ListArray.from_arrays(one.cast(pa.int32()), stored)), wide
    delta = dict(use_dictionary=False, column_encoding=dict(image="DELTA_BYTE_ARRAY"))
    yield dict(image=same.dictionary_decode()), delta


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="no peak of the memory there")
def test_small_parquet_files_with_pictures_are_refused_before_they_fill_the_memory(tmp_path):
    small, paths = b"\xff\xd8\xff" + bytes(10_000_000), []
    for columns, options in pictures_often(small):
        paths.append(tmp_path / str(len(paths)) / "mp16-reason-train.parquet")
        paths[-1].parent.mkdir()
        how = dict(compression="zstd", store_schema=False) | options
        pq.write_table(official([None] * 200, **columns), paths[-1], **how)
        assert paths[-1].stat().st_size < 100_000
    told = subprocess.run(
        [sys.executable, "-c", _PICTURE_MEMORY, *paths], capture_output=True, text=True, check=True
    )
    *why, peak = told.stdout.splitlines()
    assert len(why) == 4 * len(paths) == 16
    for path, line in zip(numpy.repeat(paths, 4), why):
        assert str(path) in line and "unpacks to more than 20 MB" in line and "use_dictionary=False" in line
    assert int(peak.split()[1]) < 500_000


def test_a_group_of_rows_is_not_much_larger_than_its_file(tmp_path):
    "The whole file is within the limit of 200 times its size, but `datasets` would read all of it at once."
    path, content = tmp_path / "a.parquet", numpy.random.default_rng(0).bytes(2_000_000)
    same = pa.DictionaryArray.from_arrays(pa.array([0] * 150, pa.int32()), pa.array([content]))
    pq.write_table(pa.table(dict(image=same)), path, store_schema=False)
    with pytest.raises(ValueError, match="a.parquet has 2,00.* unpacks to more than 200 MB"):
        read_dataset(path)
    pq.write_table(pa.table(dict(image=same)), path, store_schema=False, row_group_size=90)
    assert len(read_dataset(path)) == 150


@pytest.mark.parametrize("size", [50, 1000])  # of a group of rows
@pytest.mark.parametrize("images", [False, True])
def test_parquet_files_with_hundreds_of_pictures_are_read_as_before(tmp_path, size, images):
    noise, path = numpy.random.default_rng(0), tmp_path / "mp16-reason-train.parquet"
    draw = lambda: Image.fromarray(noise.integers(0, 255, (60, 80, 3), dtype=numpy.uint8))
    stored = [dict(bytes=encoded(draw()), path=f"{i}.jpg") for i in range(300)]
    pictures = dict(images=[[p, p] for p in stored]) if images else dict(image=stored)
    pq.write_table(official(stored, **pictures), path, row_group_size=size)
    found = undecoded(read_dataset(path))
    assert [picture_of(row) for row in found] == stored
    assert len(load_benchmark("mp16-reason-train", tmp_path, ledger=[])) == 300


@pytest.mark.parametrize("place", [0, 2, 99])
@pytest.mark.parametrize("kind", ["plain", "list", "object"])
def test_a_value_that_is_no_text_is_named_with_its_row_wherever_it_stands(tmp_path, place, kind):
    names = [b"Lima"] * 100
    names[place] = "Málaga".encode("latin-1")
    form = dict(plain=lambda name: name, list=lambda name: [name], object=lambda name: dict(country=name))[
        kind
    ]
    path = parquet(tmp_path, id=list(range(100)), city=list(map(form, names)))
    with pytest.raises(ValueError, match=f"row {place + 1}, column 'city' holds bytes that are no text"):
        read_table(path)


def test_of_two_parquet_columns_of_one_name_the_first_is_read_and_both_are_named(tmp_path):
    names, place = ["id", "country", "country", "place", "place"], dict(city="Lugo")
    values = [["a"], ["Spain"], ["Peru"], [place], [dict(city="Lima", thumb=NO_TEXT)]]
    pq.write_table(pa.table(list(map(pa.array, values)), names), tmp_path / "t.parquet")
    table = read_table(tmp_path / "t.parquet")
    assert table.rows.to_dict("records") == [dict(id="a", country="Spain", city="Lugo")]
    (warning,) = table.warnings
    assert warning.endswith("several columns of one name, of which the first is read: country, place")
    pq.write_table(pa.table(list(map(pa.array, values[:3:2])), names[:3:2]), tmp_path / "t.parquet")
    assert not read_table(tmp_path / "t.parquet").warnings


def test_a_byte_order_mark_in_a_parquet_text_is_removed(tmp_path):
    place = [dict(town="\ufeffLugo", tags=["x"])]
    columns = {"\ufeffid": ["\ufeffa"], "country": ["\ufeffSpain".encode()], "place": place}
    row = read_table(parquet(tmp_path, **columns)).rows.to_dict("records")[0]
    assert row == dict(id="a", country="Spain", town="Lugo", tags="x")
    assert read_table(pd.DataFrame(columns)).rows.iloc[0, 1] == "Spain"


def test_the_keys_of_a_map_in_parquet_are_names(tmp_path):
    texts = pa.map_(pa.string(), pa.string())
    columns = dict(
        place=pa.array([[("country", "Spain"), ("city", "Lugo")], [], None], texts),
        deep=pa.array([dict(m=[("state", "Galicia")])] * 3, pa.struct(dict(m=texts))),
        numbers=pa.array([[(1, "x")]] * 3, pa.map_(pa.int32(), pa.string())),
        keys=pa.array([[(dict(a=1), "x")]] * 3, pa.map_(pa.struct(dict(a=pa.int32())), pa.string())),
    )
    table = read_table(parquet(tmp_path, id=["a", "b", "c"], **columns))
    rows = table.rows.drop(columns="place", errors="ignore").to_dict("records")
    rest = dict(state="Galicia") | {"1": "x"}
    assert rows[0] == dict(id="a", country="Spain", city="Lugo") | rest
    assert rows[1:] == [dict(id=id, country="", city="") | rest for id in "bc"]
    assert [note.rsplit(": ", 1)[-1] for note in table.notes] == ["keys"]


def test_texts_in_nested_dictionaries_are_read_and_counted_where_they_stand():
    inner = pa.array(["ab", "cde"]).dictionary_encode()
    outer = pa.DictionaryArray.from_arrays(pa.array([0, 1, 1, None], pa.int8()), inner)
    plain = pa.DictionaryArray.from_arrays(pa.array([0, 1, 1, None], pa.int8()), pa.array(["ab", "cde"]))
    assert _unpacked_bytes(plain) == 4 * 8 + 2 + 3 + 3
    assert _unpacked_bytes(outer) == 4 * 8 + (8 + 2) + 2 * (8 + 3)
    pairs = pa.array([[("a", "bcd")]] * 5, pa.map_(pa.string(), pa.string()))
    assert _unpacked_bytes(pairs.slice(1, 2)) == 2 * (8 + 8 + 8)


@pytest.mark.parametrize("encoding", ["DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY", "PLAIN"])
def test_parquet_texts_in_every_encoding_are_read(tmp_path, encoding):
    columns = dict(id=["a", "b"], city=[b"Lima", b"Oslo"], tags=[["x"], ["y", "z"]])
    encodings = dict(id=encoding, city=encoding) | {"tags.list.element": encoding}
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table(columns), path, use_dictionary=False, column_encoding=encodings)
    assert read_table(path).rows.values.tolist() == [["a", "Lima", "x"], ["b", "Oslo", '["y", "z"]']]


def test_lists_of_dates_and_decimals_in_tables_are_read(tmp_path):
    day = datetime.date(2024, 5, 1)
    noon = datetime.datetime(2024, 5, 1, 12)
    columns = dict(
        days=[[day, day]],
        times=[[noon, noon]],
        hours=[[noon.time()] * 2],
        point=[[Decimal("48.85"), Decimal("2.35")]],
    )
    path = parquet(tmp_path, id=["a"], **columns)
    for source in (path, pd.read_parquet(path)):
        row = read_table(source).rows.iloc[0]
        assert row["days"] == '["2024-05-01", "2024-05-01"]' and row["point"] == "[48.85, 2.35]"
        assert "2024-05-01" in row["times"] and "12:00:00" in row["hours"]


def foreign_files(folder):
    "What programs write that are not read -> word of the message."
    from pyarrow import orc

    table, frame = pa.table(dict(id=["a"], lat=[1.0], lon=[2.0])), pd.DataFrame(dict(id=["a"], lat=[1.0]))
    feather.write_feather(table, folder / "new.feather")
    (folder / "old.feather").write_bytes(b"FEA1" + bytes(60))
    with pa.ipc.new_stream(folder / "stream.arrow", table.schema) as out:
        out.write_table(table)
    yield from dict.fromkeys(
        ["new.feather", "old.feather", "stream.arrow"], "an Arrow or Feather file"
    ).items()
    for packing in ("uncompressed", "zlib", "zstd"):
        orc.write_table(table, folder / f"{packing}.orc", compression=packing)
        yield f"{packing}.orc", "an ORC file"
    for protocol in (2, 4, 5):
        frame.to_pickle(folder / f"{protocol}.pkl", protocol=protocol)
        yield f"{protocol}.pkl", "a pickle"
    with contextlib.closing(sqlite3.connect(folder / "a.db")) as database:
        database.execute("create table t(id, lat)")
    yield "a.db", "a SQLite database"
    numpy.save(folder / "a.npy", frame.lat.to_numpy())
    yield "a.npy", "an array of NumPy"
    text, old = b"id,lat\na,1\n", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600)
    contents = {
        "a.xls": (old, "an old Excel file"),
        "a.xls.gz": (gzip.compress(old), "an old Excel file"),
        "a.bz2": (bz2.compress(text), "packed by bzip2"),
        "empty.bz2": (bz2.compress(b""), "packed by bzip2"),
        "a.xz": (lzma.compress(text), "packed by"),
        "a.zst": (pa.compress(text, "zstd", asbytes=True), "packed by"),
        "a.h5": (b"\x89HDF\r\n\x1a\n" + bytes(100), "an HDF5 file"),
        "a.jpg": (encoded(), "a picture"),
    }
    for name, (content, what) in contents.items():
        (folder / name).write_bytes(content)
        yield name, what


def test_binary_files_say_what_they_are_and_what_to_save_instead(tmp_path):
    found = dict(foreign_files(tmp_path))
    for name, what in found.items():
        with pytest.raises(ValueError) as e:
            read_table(tmp_path / name)
        assert str(e.value).startswith(f"{name} is {what}") and "save it as CSV, parquet or .xlsx" in str(
            e.value
        )
    assert len(found) == 19


@pytest.mark.parametrize("heading", ["ORC", "ORCID", "FEA1", "BZh9", "Obj", "7z", "SQLite format 3"])
def test_headings_that_begin_like_a_binary_file_are_read(tmp_path, heading):
    (tmp_path / "t.csv").write_text(f"{heading},lat,lon\na,1,2\n")
    assert list(read_table(tmp_path / "t.csv").rows) == [heading, "lat", "lon"]


def test_labels_of_photographs_in_parquet_are_text_even_if_it_is_not_marked(tmp_path):
    place = dict(city=b"Munich", country=b"Germany", lat=48.137, lon=11.575)
    row = dict(id=b"7", image=encoded()) | place
    path = tmp_path / "mp16-reason-train.parquet"
    pq.write_table(pa.Table.from_pylist([row]), path)
    record = load_benchmark("mp16-reason-train", tmp_path)[0]
    assert [record[k] for k in ("id", "city", "country", "country_code")] == ["7", "Munich", "Germany", "DE"]
    told = {"response": b"It is Munich.", "__#solution": b"<country>Germany</country><city>Munich</city>"}
    pq.write_table(pa.Table.from_pylist([row | told | dict(entities=[b"church"])]), path)
    photo = from_official(tmp_path, conversation("train"))[0]
    assert (photo["city"], photo["country"], photo["id"]) == ("Munich", "Germany", "7")
    assert "It is Munich." in str(photo) and "church" in str(photo)
    rows = [dict(id=b"a", image=encoded(), city=b"Munich", thumb=NO_TEXT), dict(id=b"b", image=encoded())]
    pq.write_table(pa.Table.from_pylist(rows), path)
    found = read_dataset(path)
    assert found["city"][:] == ["Munich", None] and found["id"][:] == ["a", "b"]
    assert found["thumb"][0] == NO_TEXT and undecoded(found)[0]["image"] == rows[0]["image"]


def test_labels_of_photographs_in_parquet_that_are_no_text_are_an_error(tmp_path):
    path = tmp_path / "mp16-reason-train.parquet"
    rows = [dict(id=str(i), image=encoded(), lat=48.0, lon=11.0, city=b"Munich") for i in range(20)]
    pq.write_table(pa.Table.from_pylist([*rows, rows[0] | dict(id="x", city=NO_TEXT)]), path)
    with pytest.raises(ValueError, match="column 'city' holds bytes"):
        load_benchmark("mp16-reason-train", tmp_path)
    with pytest.raises(ValueError, match="column 'city' holds bytes"):
        read_dataset(path)


def test_ditto_marks_that_can_be_read_are_named(tmp_path):
    fill(tmp_path, where__csv='file,city\na.jpg,Oslo\nb.jpg, "\nc.jpg,\u3003\n')
    assert ["2 cells hold only a ditto mark" in line for line in read_table(tmp_path / "where.csv").warnings]


def test_a_coordinate_table_of_mp16_with_an_open_quotation_mark_is_named(tmp_path):
    from globe.photos.official import _mp16_coordinates

    fill(tmp_path, places__csv='IMG_ID,LAT,LON\na.jpg,1,2\nb.jpg,"3,4\nc.jpg,5,6\n')
    with pytest.raises(ValueError, match="places.csv, line 3"):
        _mp16_coordinates(tmp_path, {"a.jpg", "c.jpg"})
    (tmp_path / "places.csv").write_bytes("IMG_ID,LAT,LON\né.jpg,1,2\nb.jpg,3,4\n".encode("cp1252"))
    with pytest.warns(UserWarning, match="places.csv: 1 rows"):
        assert _mp16_coordinates(tmp_path, {"é", "b"}) == {"b": (3, 4)}


def test_records_say_where_their_names_come_from(tmp_path):
    "Beside a border, in Antarctica, at sea, overseas, and in a town with a namesake."
    rows = [
        ("border", 48.573, 7.803, "France"),
        ("mcmurdo", -77.85, 166.67, ""),
        ("ocean", 0.5, -30, ""),
        ("coast", 21.5, -80, ""),
        ("reunion", -20.9, 55.5, "France"),
        ("springfield", 39.8, -89.65, "US"),
    ]
    table = "file,lat,lon,country\n" + "".join(f"{n}.jpg,{y},{x},{c}\n" for n, y, x, c in rows)
    fill(tmp_path, t__csv=table)
    for name, *_ in rows:
        Image.new("RGB", (9, 9), "blue").save(tmp_path / f"{name}.jpg")
    got = {r["id"].removesuffix(".jpg"): r for r in from_csv(tmp_path / "t.csv", ledger=[])}
    told = {n: (r["city"], r["state"], r["country_code"], r["label_source"]) for n, r in got.items()}
    assert told["border"] == ("Strasbourg", "Grand-Est", "FR", "nearest town")
    assert told["mcmurdo"] == ("", "", "AQ", "country only") and got["mcmurdo"]["country"] == "Antarctica"
    assert told["ocean"] == ("", "", "", "") and got["ocean"]["km"] > 100 and not got["ocean"]["on_land"]
    assert told["coast"][2:] == ("CU", "nearest town") and not got["coast"]["on_land"]
    assert told["reunion"][2:] == ("RE", "nearest town")
    assert told["springfield"] == ("Springfield", "Illinois", "US", "nearest town")
    assert got["springfield"]["km"] < 5 and got["springfield"]["on_land"]


def test_a_city_that_agrees_is_the_label_and_an_unknown_country_is_left_out(tmp_path):
    rows = [
        ("airport", 48.353, 11.786, "München", "Germany"),
        ("nameless", 48.353, 11.786, "a farm", "unknown"),
        ("texan", 30.3, -97.7, "", "Texas"),
        ("elsewhere", 35.7, 139.7, "", "Texas"),
        ("ruritanian", 48.353, 11.786, "Munich", "Ruritania"),
    ]
    table = "file,lat,lon,city,country\n" + "".join(f"{n}.png,{y},{x},{c},{s}\n" for n, y, x, c, s in rows)
    fill(tmp_path, t__csv=table)
    for name, *_ in rows:
        Image.new("RGB", (9, 9), "blue").save(tmp_path / f"{name}.png")
    photos = from_csv(tmp_path / "t.csv", ledger=(ledger := []))
    assert {r["id"]: (r["city"], r["label_source"]) for r in photos} == {
        "airport.png": ("Munich", "given"),
        "nameless.png": ("Hallbergmoos", "nearest town"),
        "texan.png": ("Austin", "nearest town"),
    }
    (elsewhere, wrong), (ruritanian, unknown) = ((row["file"], row["reason"]) for row in ledger)
    assert (elsewhere, ruritanian) == ("elsewhere.png", "ruritanian.png")
    assert "says Texas" in wrong and "'Ruritania'" in unknown and "not known" in unknown


def test_a_label_whose_country_is_not_the_one_given_says_so(tmp_path):
    rows = [
        ("Taipei", 25.03, 121.56, "China"),
        ("San Juan", 18.4655, -66.1057, "US"),
        ("Hong Kong", 22.28, 114.16, "Hong Kong"),
        ("Austin", 30.3, -97.7, "Texas"),
        ("Taipei", 25.04, 121.56, ""),
        ("Atlanta", 33.75, -84.39, "Georgia"),
    ]
    table = "file,lat,lon,city,country\n"
    for i, (city, lat, lon, country) in enumerate(rows):
        table += f"{i}.png,{lat},{lon},{city},{country}\n"
        Image.new("RGB", (9, 9), "blue").save(tmp_path / f"{i}.png")
    fill(tmp_path, t__csv=table)
    photos = from_csv(tmp_path / "t.csv", ledger=(ledger := []))
    assert not ledger and photos["city"][:] == [city for city, *_ in rows]
    assert photos["country_code"][:] == ["TW", "PR", "HK", "US", "TW", "US"]
    assert photos["label_source"][:] == ["given city", "given city", *["given"] * 4]


@pytest.mark.parametrize(
    "place, source",
    [("Taipei, China", "given city"), ("Taipei, Taiwan", "given"), ("Taipei", "nearest town")],
)
def test_a_location_whose_country_is_not_that_of_the_label_says_so(tmp_path, place, source):
    fill(tmp_path, t__csv=f'file,lat,lon,location\na.png,25.03,121.56,"{place}"\n')
    Image.new("RGB", (9, 9), "blue").save(tmp_path / "a.png")
    photo = from_csv(tmp_path / "t.csv", ledger=[])[0]
    assert (photo["country_code"], photo["label_source"]) == ("TW", source)


def test_a_photo_near_andorra_is_not_labelled_so_without_a_reason(tmp_path):
    content = camera(42.36, 1.46)
    (tmp_path / "a.jpg").write_bytes(content)
    photo = from_folder(tmp_path, [])[0]
    assert (photo["country"], photo["label_source"]) == ("Spain", "nearest town")


def test_labels_of_a_benchmark_are_given_and_keep_their_state(tmp_path):
    table = "id,latitude,longitude,city,region,country\n7,39.8,-89.65,Springfield,Illinois,US\n8,0.5,-30,,,\n"
    (tmp_path / "images").mkdir()
    (tmp_path / "test.csv").write_text(table)
    for name, colour in (("7", "red"), ("8", "blue")):
        Image.new("RGB", (9, 9), colour).save(tmp_path / "images" / f"{name}.jpg")
    town, sea = load_benchmark("osv5m", tmp_path, ledger=[])
    assert (town["city"], town["state"], town["country"]) == ("Springfield", "Illinois", "United States")
    assert (town["label_source"], sea["label_source"], sea["country"]) == ("given", "", "")


# one door


def scans(n, side=2000, before=b""):
    "A progressive JPEG whose last scan stands there `n` times more, each after the bytes `before`."
    content = encoded(Image.new("L", (side, side), 100), progressive=True)
    last = content.rindex(b"\xff\xda")
    return content[:-2] + (before + content[last:-2]) * n + b"\xff\xd9"


def webp(width, height):
    "The header of a lossless WebP and no pixels."
    data = b"\x2f" + struct.pack("<I", (width - 1) | ((height - 1) << 14)) + b"\x88\x88\x08" + bytes(6)
    chunk = b"WEBPVP8L" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(chunk)) + chunk


def blocks(n):
    "A GIF with `n` comments before its picture."
    content = encoded(Image.new("P", (4, 4)), "GIF")
    at = content.index(b",\0\0\0\0")
    return content[:at] + b"!\xfe\1a\0" * n + content[at:]


def box(kind, content):
    return struct.pack(">L4s", len(content) + 8, kind) + content


def jpeg2000(side, components, tile=1, style=b"\x00\x04\x04\x00\x01"):
    "A JPEG 2000 whose box says three components; its codestream holds no data."
    siz = struct.pack(">H8LH", 0, side, side, 0, 0, tile, tile, 0, 0, components) + b"\7\1\1" * components
    cod = bytes([len(style) > 5, 0, 0, 1, 0]) + style
    parts = ((0x51, siz), (0x52, cod), (0x5C, b"@@"), (0x90, struct.pack(">HLBB", 0, 14, 0, 1)))
    stream = b"".join(bytes([0xFF, kind]) + struct.pack(">H", len(b) + 2) + b for kind, b in parts)
    head = box(b"ihdr", struct.pack(">LLHBBBB", side, side, 3, 7, 7, 0, 0)) + box(
        b"colr", struct.pack(">BBBL", 1, 0, 0, 16)
    )
    files = box(b"jP  ", b"\r\n\x87\n") + box(b"ftyp", b"jp2 \0\0\0\0jp2 ") + box(b"jp2h", head)
    return files + box(b"jp2c", b"\xff\x4f" + stream + b"\xff\x93\xff\xd9")


def tiff(data, width, height, compression, *more):
    "A TIFF of 8-bit grey whose strip or tile is `data`; further entries as (tag, value)."
    entries = [(256, width), (257, height), (258, 8), (259, compression), (262, 1), (277, 1), *more]
    packed = b"".join(struct.pack("<HHLL", tag, 4, 1, value) for tag, value in sorted(entries))
    at = 8 + len(data) + len(data) % 2
    head = b"II*\0" + struct.pack("<L", at) + data + b"\0" * (len(data) % 2)
    return head + struct.pack("<H", len(entries)) + packed + bytes(4)


def tiff_of_jpeg(n, side=600):
    jpeg = scans(n, side)
    return tiff(jpeg, side, side, 7, (273, 8), (278, side), (279, len(jpeg)))


def tiff_of_tile(side, tile):
    data = zlib.compress(bytes(tile))
    return tiff(data, side, side, 8, (322, tile), (323, tile), (324, 8), (325, len(data)))


@pytest.mark.parametrize(
    "content, reason",
    [
        (scans(2000), "scans"),
        (scans(900, before=b"\xff\x01"), "scans"),  # a marker without a length
        (jpeg2000(250, 60), "60 components"),
        (jpeg2000(50, 20), "20 components"),
        (jpeg2000(250, 3), "62500 tiles"),
        (jpeg2000(1900, 3, 1900, b"\x00\x04\x04\x00\x01\x00"), "blocks and layers"),
        (tiff_of_tile(2000, 40_000), "tiles have"),
        (tiff_of_jpeg(60), "scans"),
        (webp(16383, 16383), "bomb|million"),
        (webp(7000, 7000), "cannot be a photograph"),
        (encoded(Image.new("RGB", (2500, 2500)), "AVIF"), "cannot be a photograph"),
        (encoded(format="PPM"), "not a picture in a format"),
        (encoded(SCENE.resize((64, 64)), "ICNS"), "not a picture in a format"),
        (encoded(format="EPS"), "not a picture in a format"),
        (encoded(format="TIFF", tiffinfo={50706: b"\1\4\0\0"}), "raw file"),
    ],
)
def test_pictures_that_cost_too_much_are_refused_by_their_header(content, reason):
    start = time.process_time()
    for source in (content, dict(bytes=content, path=None)):
        with pytest.raises(PhotoError, match=reason):
            open_photo(source)
    assert time.process_time() - start < 1


def directory(*entries, at=8, more=b""):
    "EXIF of a picture to turn, of an inner directory behind it, and of further bytes."
    packed = [struct.pack("<HHLL", *entry) for entry in entries]
    return struct.pack("<H", len(packed)) + b"".join(packed) + bytes(4) + more


def costly(n, size, kind, inner):
    "EXIF whose `n` entries share `size` bytes."
    first = [(0x0112, 3, 1, 6), (0x8825, 4, 1, 38)]
    start = 38 if inner else 8
    many = [(tag, kind, size // (8 if kind == 5 else 1), start + 6 + 12 * n) for tag in range(1, n + 1)]
    head = b"II*\0" + struct.pack("<L", 8) + (directory(*first) if inner else b"")
    return head + directory(*many, more=b"\1\0\0\0" * (size // 4))


def segments(marker, start, content):
    "A JPEG with segments of metadata."
    parts = [start + content[i : i + 65000] for i in range(0, len(content), 65000)]
    packed = b"".join(marker + struct.pack(">H", len(part) + 2) + part for part in parts)
    return encoded()[:2] + packed + encoded()[2:]


def in_png(content):
    chunk = b"eXIf" + content
    png = encoded(format="PNG")
    return (
        png[:33] + struct.pack(">L", len(content)) + chunk + struct.pack(">L", zlib.crc32(chunk)) + png[33:]
    )


def in_avif(content):
    plain = b"II*\0" + struct.pack("<L", 8) + bytes(len(content) - 8)
    return encoded(format="AVIF", exif=plain).replace(plain, content)


def in_tiff(content):
    "A TIFF whose only directory is that of the metadata."
    return content


SHARED, LONG = costly(2600, 32000, 5, True), costly(20_000, 300_000, 7, False)


@pytest.mark.parametrize(
    "place", ["jpeg", "segments", "png", "webp", "avif", "avif, first directory", "tiff"]
)
def test_metadata_that_would_cost_minutes_or_gigabytes_are_refused_unread(place):
    content = dict(
        jpeg=lambda: segments(b"\xff\xe1", b"Exif\0\0", SHARED[:65000]),
        segments=lambda: segments(b"\xff\xe1", b"Exif\0\0", LONG),
        png=lambda: in_png(SHARED),
        webp=lambda: encoded(format="WEBP", exif=SHARED),
        avif=lambda: in_avif(SHARED),
        tiff=lambda: LONG,
    )[place.partition(",")[0]]()
    if "first" in place:
        content = in_avif(LONG)
    start = time.process_time()
    with pytest.raises(PhotoError, match="metadata declare more"):
        photo_and_gps(content)
    assert time.process_time() - start < 2


def test_the_list_of_further_pictures_in_a_jpeg_is_not_read():
    start = time.process_time()
    assert open_photo(segments(b"\xff\xe2", b"MPF\0", SHARED[:65000])).size == (64, 48)
    assert time.process_time() - start < 2


def test_the_limit_of_time_holds_within_a_few_kilobytes(monkeypatch):
    content = scans(900, 1000)
    assert len(content) < 60_000
    monkeypatch.setattr(images, "check_scans", lambda content: None)
    monkeypatch.setattr(images, "_MAX_SECONDS", 0.05)
    with pytest.raises(PhotoError, match="takes more than 0.05 s"):
        open_photo(content)


def test_a_picture_has_a_limit_of_time(monkeypatch):
    monkeypatch.setattr(images, "_MAX_SECONDS", 0.2)
    start = time.process_time()
    with pytest.raises(PhotoError, match="takes more than 0.2 s"):
        open_photo(blocks(400_000))
    assert time.process_time() - start < 2
    assert open_photo(blocks(100)).size == (4, 4)


def test_tiles_blocks_and_layers_of_ordinary_files_are_read():
    noise = Image.effect_noise((500, 400), 50).convert("RGB")
    how = dict(
        tile_size=(64, 64), codeblock_size=(16, 16), precinct_size=(64, 64), quality_layers=[40, 20, 5]
    )
    for ending in ("a.jp2", "a.j2k"):
        noise.save(f := io.BytesIO(), "JPEG2000", no_jp2=ending == "a.j2k", **how)
        assert open_photo(f.getvalue()).size == (500, 400)
    assert open_photo(encoded(noise, "TIFF", compression="jpeg")).size == (500, 400)
    assert open_photo(tiff_of_jpeg(5)).size == (600, 600)


def test_ordinary_progressive_pictures_and_what_follows_them_are_read():
    assert open_photo(scans(5, 200)).size == (200, 200)
    assert open_photo(encoded(progressive=True) + b"\xff\xda" * 1000).size == (64, 48)  # a film behind it
    padded = encoded(progressive=True)[:-2] + b"\xff" * 1_000_000 + b"\0" + b"\xff\xda" * 50
    start = time.process_time()
    check_photo(padded)
    assert time.process_time() - start < 2
    exif = Image.Exif()
    exif[0x010E] = "\xff\xda" * 500
    assert open_photo(encoded(exif=exif)).size == (64, 48)


def test_very_large_jpegs_are_decoded_at_a_smaller_scale():
    content = encoded(Image.new("L", (9000, 6000), 100))
    picture = open_photo(content)
    assert picture.size == (4500, 3000) and picture.getpixel((0, 0)) == (100,) * 3


@pytest.mark.parametrize(
    "im, format, pixel",
    [
        (Image.new("I;16", (8, 8), 32896), "PNG", (128,) * 3),
        (Image.new("I;16", (8, 8), 32896), "TIFF", (128,) * 3),
        (Image.new("RGBA", (8, 8), (255, 0, 0, 0)), "PNG", (255,) * 3),
        (Image.new("RGBA", (8, 8), (255, 0, 0, 0)), "WEBP", (255,) * 3),
        (Image.new("LA", (8, 8), (0, 0)), "PNG", (255,) * 3),
    ],
)
def test_greys_and_transparency_are_the_same_from_every_source(tmp_path, im, format, pixel):
    content = encoded(im, format, lossless=True) if format == "WEBP" else encoded(im, format)
    (tmp_path / "a.png").write_bytes(content)
    (tmp_path / "t.csv").write_text("file,lat,lon\na.png,48.07,11.6\n")
    pd.DataFrame([dict(id="a", image=content, lat=48.07, lon=11.6)]).to_parquet(
        tmp_path / "mp16-reason-train.parquet"
    )
    raw = datasets.Dataset.from_dict(dict(id=["a"], images=[[dict(bytes=content, path="a")]]))
    sources = [
        open_photo(content),
        open_photo(tmp_path / "a.png"),
        open_photo(Image.open(io.BytesIO(content))),
        from_csv(tmp_path / "t.csv")[0]["image"],
        load_benchmark("mp16-reason-train", tmp_path)[0]["image"],
        checked_pictures(raw)[0]["image"],
        open_photo(picture_of(undecoded(raw)[0])),
    ]
    assert [s.getpixel((3, 3)) for s in sources] == [pixel] * len(sources)


def test_no_row_of_a_table_opens_a_file_of_this_machine(tmp_path):
    secret = str(fill(tmp_path, secret__jpg=encoded()) / "secret.jpg")
    row = dict(image=dict(bytes=None, path=secret))
    for named in (row, dict(image=secret), dict(images=[secret])):
        with pytest.raises(PhotoError, match="not opened"):
            open_photo(picture_of(named))
    stolen = datasets.Dataset.from_dict(
        dict(id=["a", "b"], image=[row["image"], dict(bytes=encoded(), path=secret)])
    )
    for dataset in (stolen, stolen.cast_column("image", datasets.Image())):
        kept = checked_pictures(dataset, ledger := [])
        assert kept["id"][:] == ["b"] and "not opened" in ledger[0]["reason"]
        stored = kept.cast_column("image", datasets.Image(decode=False))[0]["image"]
        assert stored["path"] is None
        assert picture_of(undecoded(dataset)[0]) == row["image"]
    table = dict(id="1", images=[row["image"]], lat=48.07, lon=11.6)
    pd.DataFrame([table]).to_parquet(tmp_path / "mp16-reason-train.parquet")
    assert len(load_benchmark("mp16-reason-train", tmp_path, ledger := [])) == 0
    assert "not opened" in ledger[0]["reason"]
    stolen.add_column("lat", [1.0, 2.0]).add_column("lon", [1.0, 2.0])
    for content in ("/etc/hostname", 10**10, [255, 216], 1.5):
        for source in (dict(bytes=content), picture_of(dict(image=dict(bytes=content, path=secret)))):
            with pytest.raises(PhotoError, match="its bytes are"):
                images.stored(source)
    with pytest.raises(PhotoError, match="not opened"):
        to_official(stolen.select([0]), tmp_path / "out", "test")


def test_a_dataset_without_pictures_is_refused_by_name(tmp_path, capsys):
    from globe.cli import main

    datasets.Dataset.from_dict(dict(id=["a"], photo=[b"x"])).to_parquet(str(tmp_path / "a.parquet"))
    how = ["--endpoint", "http://127.0.0.1:9 m"]
    assert main(["distill", str(tmp_path / "a.parquet"), "--out", str(tmp_path / "out"), *how]) == 1
    assert "id, photo: call it image" in capsys.readouterr().err


def test_distillation_sends_no_file_that_a_row_names(tmp_path):
    secret = str(fill(tmp_path, secret__jpg=encoded()) / "secret.jpg")
    seen = []

    class Teacher:
        name = "witness"

        def judge(self, rows):
            for row in rows:
                seen.append(row["image"].mode)
                yield judgement(row["id"], self.name, parsed=True)

    named = datasets.Dataset.from_dict(dict(id=["a"], image=[secret]))
    assert distill(named, [Teacher()], tmp_path / "named", watch=False).failed.tolist() == [1] and not seen
    stray = [dict(bytes=None, path=secret), dict(bytes=encoded(format="PPM"), path=None)]
    kinds = datasets.Features(thumb=datasets.Image(), more=datasets.List({"inner": datasets.Image()}))
    strays = datasets.Dataset.from_list([dict(thumb=s, more=[dict(inner=s)]) for s in stray], features=kinds)
    assert undecoded(strays).to_list() == [dict(thumb=s, more=[dict(inner=s)]) for s in stray]
    pictures = [dict(bytes=None, path=secret), dict(bytes=encoded(format="PPM"), path=None)]
    pictures.append(dict(bytes=encoded(Image.new("I;16", (8, 8), 9), "PNG"), path=secret))
    photos = datasets.Dataset.from_dict(dict(id=list("abc"), image=pictures))
    for i, rows in enumerate((photos, photos.cast_column("image", datasets.Image()))):
        counts = distill(rows, [Teacher()], tmp_path / str(i), watch=False)
        assert counts.failed.tolist() == [2] and seen == ["RGB"] * (i + 1)
    content = encoded()
    for i, row in enumerate((dict(image=content), dict(images=[dict(bytes=content, path=None)]))):
        pd.DataFrame([dict(IMG_ID="x", **row)]).to_parquet(tmp_path / f"{i}.parquet")  # as others write it
        foreign = datasets.Dataset.from_parquet(str(tmp_path / f"{i}.parquet"))
        counts = distill(foreign, [Teacher()], tmp_path / f"foreign{i}", watch=False)
        assert counts.failed.tolist() == [0] and len(seen) == 3 + i


# EXIF that has no one meaning


def gps(lat=(36, 51, 0), south="S", lon=(174, 45, 0), east="E"):
    exif = Image.Exif()
    tags = {1: south, 2: lat, 3: east, 4: lon}
    exif[0x8825] = {k: v for k, v in tags.items() if v is not None}
    return encoded(exif=exif)


@pytest.mark.parametrize(
    "how, reason",
    [
        (dict(south=None), "latitude does not say N or S"),
        (dict(east=None), "longitude does not say E or W"),
        (dict(south="E", east="S"), "latitude has the reference 'E'"),
        (dict(lat=(36, 75, 0)), "75 minutes"),
        (dict(lon=(174, 45, 61)), "61 seconds"),
        (dict(lat=(36, 60, 0)), "60 minutes"),
        (dict(lat=None), "latitude cannot be read"),
        (dict(lat=(36.85, 51, 0)), "fraction before smaller parts: 36.85 51 0"),
        (dict(lon=(174, 45.5, 30)), "fraction before smaller parts"),
        (dict(south="Q"), "'Q'"),
        (dict(lat=(136, 51, 0)), "out of range"),
    ],
)
def test_a_coordinate_of_exif_without_one_meaning_is_refused(tmp_path, how, reason):
    assert len(from_folder(fill(tmp_path, a__jpg=gps(**how)), rows := [])) == 0
    assert re.search(reason, rows[0]["reason"])


def tiff_directory(*entries, at=8):
    "A TIFF directory at an address, its longer values behind it."
    behind = at + 6 + 12 * len(entries)
    head, values = struct.pack("<H", len(entries)), b""
    for tag, kind, count, value in entries:
        head += struct.pack("<HHL", tag, kind, count)
        head += value.ljust(4, b"\0") if len(value) <= 4 else struct.pack("<L", behind + len(values))
        values += value * (len(value) > 4)
    return head + bytes(4) + values


def with_gps(*entries, pointers=1):
    "EXIF with these entries about the position, at the last address of several."
    at = 14 + 12 * pointers
    more = at + len(inner := tiff_directory(*entries, at=at))
    first = [(0x8825, 4, 1, struct.pack("<L", address)) for address in (at, more)[:pointers]]
    return b"Exif\0\0II*\0\x08\0\0\0" + tiff_directory(*first) + inner + tiff_directory(*entries, at=more)


def degrees_of(*numbers):
    return 5, len(numbers), b"".join(struct.pack("<LL", n, 1) for n in numbers)


SOUTH, EAST = (1, 2, 2, b"S\0"), (3, 2, 2, b"E\0")
LAT, LON = (2, *degrees_of(36, 51, 0)), (4, *degrees_of(174, 45, 0))


@pytest.mark.parametrize(
    "exif, reason",
    [
        (with_gps(SOUTH, (2, 1, 2, b"36"), EAST, LON), "latitude cannot be read"),
        (with_gps(SOUTH, LAT, (2, *degrees_of(10, 0, 0)), EAST, LON), "twice"),
        (with_gps((1, 2, 2, b"N\0"), SOUTH, LAT, EAST, LON), "twice"),
        (with_gps(SOUTH, LAT, EAST, LON, pointers=2), "twice"),
        (with_gps(SOUTH, LAT, EAST, LON, LAT), ""),
    ],
)
def test_bytes_are_no_degrees_and_two_positions_are_none(tmp_path, exif, reason):
    if not reason:
        assert photo_and_gps(encoded(exif=exif))[1] == (-36.85, 174.75, "")
        return
    assert len(from_folder(fill(tmp_path, a__jpg=encoded(exif=exif)), rows := [])) == 0
    assert reason in rows[0]["reason"]


def test_a_position_that_a_tiff_gives_twice_is_none():
    at = 8 + 6 + 12 * 11
    south, lat, other = SOUTH, LAT, (2, *degrees_of(10, 0, 0))
    picture = [(256, 3, 1, b"\x08\0"), (257, 3, 1, b"\x08\0"), (258, 3, 1, b"\x08\0"), (259, 3, 1, b"\x01\0")]
    picture += [(262, 3, 1, b"\x01\0"), (273, 4, 1, struct.pack("<L", 1000)), (277, 3, 1, b"\x01\0")]
    picture += [(278, 3, 1, b"\x08\0"), (279, 4, 1, b"\x40\0"), (0x8825, 4, 1, struct.pack("<L", at))]
    for entries, reason in (((south, lat, EAST, LON), ""), ((south, lat, other, EAST, LON), "twice")):
        head = b"II*\0\x08\0\0\0" + tiff_directory(*picture)
        content = (head.ljust(at, b"\0") + tiff_directory(*entries, at=at)).ljust(1000, b"\0") + bytes(64)
        assert reason in photo_and_gps(content)[1][2]
        assert math.isnan(photo_and_gps(content)[1][0]) == bool(reason)


ZEROED = b"Exif\0\0" + bytes(200)
CUT = with_gps(SOUTH, LAT, EAST, LON)[:66]
DAMAGED = {
    "zeroed": lambda: encoded(exif=ZEROED),
    "no TIFF": lambda: encoded(exif=b"Exif\0\0garbage!!"),
    "cut": lambda: encoded(exif=CUT),
    "cut at once": lambda: encoded(exif=b"Exif\0\0II*\0\xff\xff\xff\xff"),
    "png": lambda: encoded(format="PNG", exif=b"garbage"),
    "webp": lambda: encoded(format="WEBP", exif=b"Exif\0\0II*\0"),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_whole_picture_with_damaged_metadata_is_used(tmp_path, damage):
    content = DAMAGED[damage]()
    assert open_photo(content).size == images.open_photo(images.stored(content)).size == (64, 48)
    assert len(from_folder(fill(tmp_path, a__jpg=content), rows := [])) == 0
    assert "metadata of the picture are damaged" in rows[0]["reason"]
    assert from_csv(fill(tmp_path, t__csv="file,lat,lon\na.jpg,48.07,11.6\n") / "t.csv")["country_code"][
        :
    ] == ["DE"]


def test_a_png_with_metadata_in_no_hexadecimal_text_is_used():
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("Raw profile type exif", "\nexif\n 4\nnone")
    assert photo_and_gps(encoded(format="PNG", pnginfo=info))[0].size == (64, 48)


@pytest.mark.parametrize("marker, body", [(b"\xee", b"Adobe"), (b"\xee", b"Adobe\0"), (b"\xe0", b"JFIF")])
def test_a_picture_with_a_short_header_of_adobe_or_jfif_is_used(marker, body):
    plain = encoded()
    content = plain[:2] + b"\xff" + marker + struct.pack(">H", len(body) + 2) + body + plain[2:]
    assert open_photo(content).tobytes() == open_photo(plain).tobytes()


def test_a_picture_with_damaged_metadata_is_turned_where_they_say_so():
    turned = tiff_directory((0x0112, 3, 1, b"\x06\0"), (0x8825, 4, 1, struct.pack("<L", 60000)))
    picture, (*_, why) = photo_and_gps(encoded(exif=b"Exif\0\0II*\0\x08\0\0\0" + turned))
    assert picture.size == (48, 64) and "damaged" in why


def test_an_avif_with_damaged_metadata_says_so():
    with pytest.raises(PhotoError, match="metadata"):
        open_photo(in_avif(bytes(len(LONG))))


@pytest.mark.parametrize("lat, lon", [((90.5, 0, 0), (24, 0, 0)), ((60, 0, 0), (61208, 56, 0))])
def test_a_coordinate_of_exif_beyond_the_poles_or_the_dateline_is_none(tmp_path, lat, lon):
    content = gps(lat, "N", lon, "E")
    _, (found, _, why) = photo_and_gps(content)
    assert "out of range" in why and math.isnan(found)


@pytest.mark.parametrize("south", ["S", "s", "South", "SOUTH", "S\0"])
def test_a_reference_that_is_a_word_is_read(tmp_path, south):
    row = from_folder(fill(tmp_path, a__jpg=gps(south=south, east="East")))[0]
    assert (row["city"], row["country_code"]) == ("Auckland", "NZ")


# coordinates that contradict the table's country


@pytest.mark.parametrize(
    "lat, lon, country, reason",
    [
        (36.85, 174.76, "New Zealand", "sign of the latitude"),
        (48.86, -2.35, "Germany", "not near any town"),
        (40.71, 74.01, "United States", "sign of the longitude"),
        (33.45, 70.67, "Chile", "signs of latitude and longitude"),
        (139.7, 35.7, "Japan", "out of range"),
        (2.35, 48.86, "France", "swapped"),
    ],
)
def test_a_coordinate_in_another_country_is_a_row_of_the_ledger(tmp_path, lat, lon, country, reason):
    fill(tmp_path, a__jpg=encoded(), t__csv=f"file,lat,lon,country\na.jpg,{lat},{lon},{country}\n")
    assert len(from_csv(tmp_path / "t.csv", ledger=(rows := []))) == 0
    assert re.search(reason, rows[0]["reason"]) and (country in rows[0]["reason"] or "range" in reason)


@pytest.mark.parametrize(
    "lat, lon, country",
    [
        (-20.9, 55.5, "France"),
        (18.45, -66.1, "United States"),
        (48.573, 7.803, "Germany"),
        (-77.85, 166.67, "Antarctica"),
        (-25.3, 131.0, "Australia"),
        (48.07, 11.6, "somewhere"),
    ],
)
def test_borders_territories_and_deserts_are_no_contradiction(tmp_path, lat, lon, country):
    fill(tmp_path, a__jpg=encoded(), t__csv=f"file,lat,lon,country\na.jpg,{lat},{lon},{country}\n")
    assert len(from_csv(tmp_path / "t.csv", ledger=[])) == 1


@pytest.mark.parametrize(
    "header, row, reason",
    [
        ("state", "36,120,California", "sign of the longitude.*California"),
        ("admin1", "33,97,Texas", "sign of the longitude.*Texas"),
        ("region", "-30,-97,Texas", "sign of the latitude"),
        ("location", '48.85,-2.35,"Paris, France"', "sign of the longitude.*Paris"),
        ("country", "-77.85,166.67,New Zealand", "not near any town of the country"),
        ("note", "36.85 E,174.76 S,", "'36.85 E', '174.76 S' cannot be read"),
        ("note", "-36.85 N,174.76 E,", "cannot be read"),
        ("note", "36 51 0 South,174 45 0 East,", "cannot be read"),
        ("note", "36 51.5 30 S,174 45 0 E,", "cannot be read"),
        ("note", "n/a,,", "no coordinate"),
    ],
)
def test_what_a_table_says_about_the_place_must_agree(tmp_path, header, row, reason):
    fill(tmp_path, a__jpg=encoded(), t__csv=f"file,lat,lon,{header}\na.jpg,{row}\n")
    assert len(from_folder(tmp_path, ledger=(rows := []))) == 0
    assert len(rows) == 1 and re.search(reason, rows[0]["reason"])


@pytest.mark.parametrize(
    "header, row",
    [
        ("state", "43.7,-79.4,Ontario"),
        ("state", "62,129.7,Yakutia"),
        ("region", "35,-90,South"),
        ("location", "48.85,-2.35,home"),
        ("location", '33.75,-84.39,"Atlanta, Georgia"'),
        ("location", '33.66,-95.55,"Paris, Texas"'),
        ("location", '34.05,-118.24,"Los Angeles, CA"'),
        ("location", '39.74,-75.55,"Wilmington, DE"'),
        ("location", "33.75,-84.39,Georgia"),
        ("location", "36.1,113.2,home"),
        ("location", '-8.09,113.21,"Krajan, Indonesia"'),
        ("state", "40.71,-74.0,NY"),
        ("state", "-2.53,-44.3,MA"),
        ("state,country", "52.5,13.2,Berlin,Germany"),
        ("state,country", "-25.3,131.0,NT,Australia"),
        ("country", "48.1,11.6,Bavaria"),
        ("country", "55.95,-3.19,Scotland"),
        ("city,state", '41.88,-87.63,"Chicago, IL",Illinois'),
        ("location", '41.587,-109.203,"Wyoming, United States"'),
        ("location", '-20.99,-47.66,"São Paulo, Brazil"'),
        ("state,country", "44.4605,-110.8281,Wyoming,United States"),
        ("location", '44.4605,-110.8281,"Wyoming, United States"'),
    ],
)
def test_what_agrees_or_is_not_known_is_no_contradiction(tmp_path, header, row):
    fill(tmp_path, a__jpg=encoded(), t__csv=f"file,lat,lon,{header}\na.jpg,{row}\n")
    assert len(from_folder(tmp_path, ledger=(rows := []))) == 1 and not rows


@pytest.mark.parametrize(
    "name, text",
    [
        ("T.CSV", "file,lat,lon\na.jpg,48.85,2.35\n"),
        ("t.tsv", "file\tlat\tlon\na.jpg\t48.85\t2.35\n"),
        ("metadata.jsonl", '{"file_name": "a.jpg", "lat": 48.85, "lon": 2.35}\n'),
    ],
)
def test_a_table_in_a_folder_is_used_whatever_its_ending_and_not_left_out(tmp_path, name, text):
    fill(tmp_path, a__jpg=encoded())
    (tmp_path / name).write_text(text)
    assert from_folder(tmp_path, ledger=(rows := []))["city"][:] == ["Paris"] and not rows


@pytest.mark.parametrize(
    "lat, lon, city, country, reason",
    [
        (51.5, -0.12, "Paris", "", "not near any place of that name: the table says Paris"),
        (60.17, 24.94, "Tampere", "Finland", "not near any place"),
        (52.4, 4.9, "Auckland", "", "not near any place"),
        (36.85, 174.76, "Auckland", "", "sign of the latitude"),
        (2.35, 48.86, "Paris", "", "swapped"),
        (44.84, 0.58, "Bordeaux", "France", "sign of the longitude"),
        (-0.31, 32.58, "Kampala", "Uganda", "sign of the latitude"),
    ],
)
def test_a_coordinate_in_another_city_is_a_row_of_the_ledger(tmp_path, lat, lon, city, country, reason):
    table = f"file,lat,lon,city,country\na.jpg,{lat},{lon},{city},{country}\n"
    fill(tmp_path, a__jpg=encoded(), t__csv=table)
    assert len(from_csv(tmp_path / "t.csv", ledger=(rows := []))) == 0
    assert reason in rows[0]["reason"] and f"the table says {city}" in rows[0]["reason"]


@pytest.mark.parametrize(
    "lat, lon, city",
    [
        (48.8, 2.5, "Paris"),
        (33.66, -95.55, "Paris"),
        (40.65, -73.95, "New York City"),
        (52.5, 13.4, "Kreuzberg"),
        (43.77, 11.25, "Tuscany"),
        (35.68, 139.76, "東京"),
        (51.5, -0.12, "a village that no list knows"),
        (51.5, -0.12, "-"),
        (39.78, -89.65, "Springfield"),
        (50.80, 0.06, "Brighton"),
        (51.77, 0.11, "London"),
    ],
)
def test_namesakes_districts_and_unknown_names_are_no_contradiction(tmp_path, lat, lon, city):
    fill(tmp_path, a__jpg=encoded(), t__csv=f"file,lat,lon,city\na.jpg,{lat},{lon},{city}\n")
    assert len(from_csv(tmp_path / "t.csv", ledger=[])) == 1


# folders


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes")
def test_pipes_devices_loops_and_endless_files_hang_nothing(tmp_path):
    fill(tmp_path, a__jpg=camera(48.07, 11.6))
    for name in ("b.jpg", "b.csv", "b"):
        os.mkfifo(tmp_path / name)
    for name, to in [("c.jpg", "c.jpg"), ("c.csv", "/dev/zero"), ("d.jpg", "/dev/zero"), ("d.csv", "d.csv")]:
        os.symlink(to, tmp_path / name)
    for name in ("h/e.jpg", "f/e.jpg", "e.csv", "e"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
        os.truncate(tmp_path / name, 1 << 36)
    (tmp_path / "g.csv").mkdir()
    assert from_folder(tmp_path, rows := [])["id"][:] == ["a.jpg"]
    told = {row["file"]: row["reason"] for row in rows}
    assert "MB, more than" in told["h/e.jpg"] and "MB, more than" in told["f/e.jpg"]
    assert any("a table that cannot be read (e.csv has 69 GB" in row["reason"] for row in rows)
    assert sum("neither a file nor a link to one" in reason for reason in told.values()) == 7
    for table in ("b.csv", "c.csv"):
        with pytest.raises(ValueError, match="is not a file"):
            from_csv(tmp_path / table)
    fill(tmp_path, t__csv="id,lat,lon\ne.jpg,1,2\n")
    (tmp_path / "e.csv").unlink()
    assert len(from_csv(tmp_path / "t.csv", ledger=(rows := []))) == 0 and "fits 2" in rows[0]["reason"]


def test_what_may_not_be_opened_is_said(tmp_path, monkeypatch):
    fill(tmp_path, a__jpg=camera(48.07, 11.6), b=b"\xff\xd8\xff")
    (tmp_path / "locked").mkdir()
    scan, opened = os.scandir, Path.open

    def refused(path):
        if Path(path).name in ("locked", "b"):
            raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", lambda path: refused(path) or scan(path))
    monkeypatch.setattr(Path, "open", lambda path, *how, **more: refused(path) or opened(path, *how, **more))
    assert len(from_folder(tmp_path, rows := [])) == 1
    assert sorted(Path(row["file"]).name for row in rows) == ["b", "locked"]
    assert all("cannot be opened (Permission denied)" in row["reason"] for row in rows)


def test_every_ending_that_pillow_reads_and_no_ending(tmp_path):
    Image.init()
    readable = {end for end, format in Image.registered_extensions().items() if format in images.FORMATS}
    assert readable <= collections._ENDINGS
    kinds = dict(jfif="JPEG", jpe="JPEG", mpo="MPO", avif="AVIF", jp2="JPEG2000", tif="TIFF", bmp="BMP")
    for ending, format in kinds.items():
        (tmp_path / f"a.{ending}").write_bytes(encoded(format=format))
    for format in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "JPEG2000", "AVIF"):
        (tmp_path / f"without-{format}").write_bytes(encoded(format=format))
        (tmp_path / f"a.{format}.1").write_bytes(encoded(format=format))
    (tmp_path / "a.dng").write_bytes(encoded(format="TIFF", tiffinfo={254: 1}))
    found = list(picture_files(tmp_path, skipped := []))
    assert len(found) == len(kinds) + 16 + 1 and skipped == []
    reasons = {p.name: why(p) for p in found}
    assert {name: reason for name, reason in reasons.items() if reason}.keys() == {"a.dng"}
    assert "raw" in reasons["a.dng"]


def why(path):
    try:
        open_photo(path)
    except PhotoError as e:
        return str(e)


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="there are no links")
def test_a_link_is_read_only_within_its_folder(tmp_path):
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "a.jpg").write_bytes(camera(48.07, 11.6))
    (tmp_path / "private" / "t.csv").write_text("file,lat,lon\nlink.jpg,1,2\n")
    photos = tmp_path / "photos"
    (photos / "sub").mkdir(parents=True)
    (photos / "sub" / "b.jpg").write_bytes(camera(60.17, 24.94))
    links = {"link.jpg": "../private/a.jpg", "own.jpg": "sub/b.jpg", "t.csv": "../private/t.csv"}
    for name, to in links.items():
        os.symlink(to, photos / name)
    os.symlink(tmp_path / "private" / "a.jpg", photos / "sub" / "far.jpg")
    assert [p.name for p in picture_files(photos)] == ["own.jpg", "b.jpg"]
    assert len(from_folder(photos, ledger=(rows := []))) == 1
    told = {row["file"]: row["reason"] for row in rows}
    assert {n for n, why in told.items() if "leads out of the folder" in why} == {*links, "sub/far.jpg"} - {
        "own.jpg"
    }
    (photos / "u.csv").write_text("file,lat,lon\nlink.jpg,48,11.6\n")
    assert len(from_csv(photos / "u.csv", ledger=[])) == 0
    cache = tmp_path / "datasets--a" / "snapshots" / "1"  # of the Hub
    (cache / "images").mkdir(parents=True)
    (tmp_path / "datasets--a" / "blobs").mkdir()
    (tmp_path / "datasets--a" / "blobs" / "7").write_bytes(encoded())
    os.symlink("../../../blobs/7", cache / "images" / "a.jpg")
    assert [p.name for p in picture_files(cache / "images")] == ["a.jpg"]


def test_no_name_of_a_train_table_leads_out_of_a_copy_of_mp16(tmp_path):
    from globe.photos.official import _mp16_picture

    (tmp_path / "mp16" / "aa").mkdir(parents=True)
    for name in ("x.jpg", "mp16/aa/b.jpg"):
        (tmp_path / name).write_bytes(encoded())
    assert _mp16_picture([tmp_path / "mp16"], "aa_b").name == "b.jpg"
    assert _mp16_picture([tmp_path / "mp16"], ".._x") is None


def test_thumbnails_and_copies_of_editors_are_no_photographs(tmp_path):
    names = "thumb/a.jpg Thumbnail/b.jpg _vti_cnf/c.jpg x.lrdata/d.jpg e.thm f.jpg_original g.jpg~ h.jpg.bak"
    for name in [*names.split(), "thumb.jpg"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(encoded())
    found = list(picture_files(tmp_path, skipped := []))
    assert [p.name for p in found] == ["thumb.jpg"]
    assert sum(int((re.search(r"and (\d+) more", row["reason"]) or [0, 0])[1]) + 1 for row in skipped) == 8


def test_what_a_folder_holds_besides_pictures_is_said(tmp_path):
    for name in (
        "a.jpg",
        "@eaDir/a.jpg/SYNOPHOTO_THUMB_XL.jpg",
        "@eaDir/b.jpg",
        "__MACOSX/._a.jpg",
        "__MACOSX/b",
        "__MACOSX/c",
        "sub/Thumbs/1.jpg",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(camera(48.07, 11.6))
    fill(tmp_path, a__txt="x", b__txt="x", c__mov=b"\0\0\0\x14ftypqt  ", _x="")
    os.mkfifo(tmp_path / "pipe.jpg")
    assert from_folder(tmp_path, rows := [])["id"][:] == ["a.jpg"]
    told = {r["file"]: r["reason"] for r in rows}
    assert told.keys() == {"@eaDir", "__MACOSX", "sub/Thumbs", "a.txt", "b.txt", "c.mov", "_x", "pipe.jpg"}
    assert "2 files" in told["@eaDir"] and "neither a file" in told["pipe.jpg"]


def test_a_picture_is_that_of_the_row_that_names_it(tmp_path):
    "Another row that fits by name alone does not get it, and does not take its place."
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "1.jpg").write_bytes(encoded())
    (tmp_path / "t.csv").write_text("file,lat,lon\ntrain/1.jpg,60.17,24.94\ntest/1.jpg,48.86,2.35\n")
    (photo,) = from_csv(tmp_path / "t.csv", ledger=(rows := []))
    assert photo["country"] == "France"
    assert [(row["file"], "another row's" in row["reason"]) for row in rows] == [("train/1.jpg", True)]
    (tmp_path / "t.csv").write_text("file,lat,lon\ntrain/1.jpg,60.17,24.94\nvalid/1.jpg,48.86,2.35\n")
    assert len(from_csv(tmp_path / "t.csv", ledger=(rows := []))) == 0 and len(rows) == 2
    (tmp_path / "t.csv").write_text("file,lat,lon\ntrain/1.jpg,60.17,24.94\n")
    with pytest.warns(UserWarning, match="another folder than the table says: test/1.jpg for train/1.jpg"):
        assert from_csv(tmp_path / "t.csv", ledger=[])["country"][:] == ["Finland"]
    for place in ("48.1", "48.2"):  # a dot in a name begins no ending
        (tmp_path / f"{place}.jpg").write_bytes(encoded(Image.new("RGB", (9, int(place[-1]) + 8))))
    (tmp_path / "t.csv").write_text("file,lat,lon\n48.1,60.17,24.94\n48.2,48.86,2.35\n")
    with warnings.catch_warnings(action="error"):
        assert from_csv(tmp_path / "t.csv", ledger=[])["country"][:] == ["Finland", "France"]
    for name in ("1.jpg", "data/test/1.jpg", "test_1.jpg", "test/1", "1"):
        (tmp_path / "t.csv").write_text(f"file,lat,lon\n{name},60.17,24.94\n")
        with warnings.catch_warnings(action="error"):
            assert from_csv(tmp_path / "t.csv", ledger=[])["country"][:] == ["Finland"]


def test_names_in_two_unicode_forms_are_one_name(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "Zürich.jpg") for form in ("NFC", "NFD"))
    (tmp_path / decomposed).write_bytes(encoded())
    (tmp_path / "t.csv").write_text(f"file,lat,lon\n{composed},47.37,8.54\n", encoding="utf-8")
    assert len(from_csv(tmp_path / "t.csv")) == len(from_folder(tmp_path, [])) == 1
    (tmp_path / composed).write_bytes(encoded(Image.new("RGB", (9, 9), "blue")))
    rows = f"file,lat,lon\n{composed},47.37,8.54\n{decomposed},48.07,11.6\n"
    (tmp_path / "t.csv").write_text(rows, encoding="utf-8")
    got = from_csv(tmp_path / "t.csv")
    assert got["id"][:] == [composed, decomposed] and got["city"][0] == "Zürich"
    assert got[0]["image"].getpixel((0, 0))[2] > 200


def test_a_name_that_fits_two_pictures_fits_none(tmp_path):
    for i, colour in enumerate(("red", "blue"), 1):
        (tmp_path / str(i)).mkdir()
        (tmp_path / str(i) / "1.jpg").write_bytes(encoded(Image.new("RGB", (9, 9), colour)))
        (tmp_path / str(i) / "same.jpg").write_bytes(encoded())
    table = "file,lat,lon\n1.jpg,48.07,11.6\n2/1.jpg,47.37,8.54\nsame.jpg,52.5,13.4\n"
    got = from_csv(fill(tmp_path, t__csv=table) / "t.csv", ledger=(rows := []))
    assert got["id"][:] == ["2/1.jpg", "same.jpg"]
    assert "fits 2 different pictures: 1/1.jpg and 2/1.jpg" in rows[0]["reason"]
    with_folder = fill(tmp_path, t__csv="folder,file,lat,lon\n1,1.jpg,48.07,11.6\n") / "t.csv"
    assert from_csv(with_folder)[0]["image"].getpixel((0, 0))[0] > 200


# ids, names and texts


def test_names_that_no_text_file_takes(tmp_path):
    names = [b"caf\xe9.jpg", b"two\nlines.jpg", b"x" * 246 + b".jpg", b"=cmd|calc.jpg", b"tab\t.jpg"]
    for i, name in enumerate(names):
        content = b"" if i else camera(48.07, 11.6)
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(content)
    got = from_folder(tmp_path, tmp_path.parent / "ledger.csv")
    assert got["id"][:] == ["caf\\udce9.jpg"] and len(got.to_pandas()) == 1
    text = (tmp_path.parent / "ledger.csv").read_text(encoding="utf-8")
    assert "\n'=cmd|calc.jpg," in text
    files = read_table(tmp_path.parent / "ledger.csv").rows.file
    assert set(files) == {"two\nlines.jpg", "x" * 246 + ".jpg", "=cmd|calc.jpg", "tab\t.jpg"}


@pytest.mark.parametrize(
    "id", ["x" * 300, "é" * 150, "a\0b", "a\nb", "=cmd|calc", "-1", "@a", "..", "a/../../b"]
)
def test_ids_become_file_names(tmp_path, id):
    listing = dict(id=id, file=encoded(), lat=48.07, lon=11.6, given_city="=1+1", given_country="Germany")
    photos = photo_dataset([listing], str(tmp_path), [])
    table = to_official(photos, tmp_path / "out", "test")
    (picture,) = (tmp_path / "out" / "eval_images").iterdir()
    assert len(os.fsencode(picture.name)) < 200 and picture.name.isprintable()
    back = load_benchmark("mp16-reason-test", tmp_path / "out")
    assert (len(back), back["city"][0]) == (1, "=1+1") and ",'=1+1," in table.read_text(encoding="utf-8")


def test_no_cell_for_people_is_a_formula(tmp_path):
    texts = [
        "=cmd|' /C calc'!A0",
        "+1+1",
        "-2+3",
        "@SUM(A1)",
        "\tx",
        "\rx",
        "＝1",
        " =1+1",
        "\0=1",
        "\ufeff=1",
        "-33.9",
        "+1e-5",
        "-5 %",
        "-",
        "a=b",
    ]
    path = write_csv(tmp_path / "a.csv", pd.DataFrame({"=x": texts, "n": [-1.5] * len(texts)}))
    with path.open(newline="", encoding="utf-8") as f:
        header, *rows = csv.reader(f)
    assert (
        header[0] == "'=x"
        and [row[0] for row in rows] == ["'" + t.replace("\r", "\n") for t in texts[:10]] + texts[10:]
    )
    assert {row[1] for row in rows} == {"-1.5"}
    again = read_table(path).rows
    assert list(again["=x"][:4]) == texts[:4]


def test_half_of_a_surrogate_pair_stops_no_reader(tmp_path):
    fill(
        tmp_path,
        a__jpg=encoded(),
        t__jsonl='{"file": "a.jpg", "lat": 48.07, "lon": 11.6, "licence": "\\ud83d"}\n',
    )
    assert from_csv(tmp_path / "t.jsonl")["licence"][:] == ["?"]
    fill(tmp_path, b__json='[{"file": "a.jpg", "lat": 48.07, "lon": 11.6, "x\\ud83d": ["\\ude00"]}]')
    assert len(from_csv(tmp_path / "b.json")) == 1


def test_surrogates_in_utf_8_spoil_no_other_name(tmp_path):
    table = "file,lat,lon,licence\nZürich.jpg,47.37,8.54,\ud83d\n東京.jpg,35.68,139.69,\ud83d\ude00\n"
    (tmp_path / "t.csv").write_bytes(table.encode("utf-8", "surrogatepass"))
    found = read_table(tmp_path / "t.csv")
    assert found.rows.file.tolist() == ["Zürich.jpg", "東京.jpg"]
    assert found.rows.licence.tolist() == ["\ufffd", "\U0001f600"] and "replacement" in found.warnings[0]


def test_a_file_that_meets_a_full_disk_is_named(tmp_path, monkeypatch):
    def full(old, new):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left .*left_out.csv"):
        write_csv(tmp_path / "left_out.csv", [dict(file="a")])
    assert not list(tmp_path.iterdir())


def test_a_stored_jpeg_holds_nothing_but_its_picture():
    "Whatever a segment, a thumbnail or the bytes around hold is not stored; a bare JPEG stays as it is."
    bare, secret = encoded(quality=92), b"48.8584 N, 2.2945 E of a person"
    assert images.stored(bare) == bare
    for more in (dict(progressive=True), dict(restart_marker_rows=1), dict(subsampling=0, optimize=True)):
        assert images.stored(plain := encoded(**more)) == plain
    segment = lambda kind, body: bytes([255, kind]) + (len(body) + 2).to_bytes(2, "big") + body
    thumbnail = segment(0xE0, b"JFIF\0\x01\x01\0\0\x01\0\x01\x03\x04" + secret + bytes(36 - len(secret)))
    header = bare[2:20]
    assert header[:4] == b"\xff\xe0\0\x10"
    frame = bare.index(b"\xff\xc0")
    hidden = [
        *(bare[:20] + segment(kind, secret) + bare[20:] for kind in (*range(0xE0, 0xF0), 0xFE, 0xF5)),
        *(bare[:frame] + segment(kind, secret) + bare[frame:] for kind in (0xE5, 0xEB, 0xFE)),
        bare[:2] + thumbnail + bare[20:],
        bare[:20] + segment(0xE0, b"JFXX\0\x10" + secret) + bare[20:],
        bare[:20] + secret + bare[20:],  # between two segments
        bare + secret,
        bare + bare[:2] + secret,
        bare + bytes(9) + secret,
        bare + b"\0",
        bare[:-2] + segment(0xEB, secret) + bare[-2:],  # behind the scan
    ]
    for content in hidden:
        assert secret in content or content == bare + b"\0"
        try:
            kept = images.stored(content)
        except PhotoError:
            continue
        assert secret not in kept and kept != content and open_photo(kept).size == SCENE.size
        assert images.stored(kept) == kept


def test_a_tiff_of_numbers_may_hold_pixels_that_are_none():
    import numpy as np

    values = np.linspace(-5, 20, 64 * 48, dtype=np.float32).reshape(48, 64)
    whole = open_photo(encoded(Image.fromarray(values), "TIFF"))
    for wrong in (np.nan, np.inf, -np.inf):
        odd = values.copy()
        odd[0, 0] = odd[20, 30] = wrong
        picture = open_photo(encoded(Image.fromarray(odd), "TIFF"))
        assert picture.getpixel((30, 20)) == (0, 0, 0)  # the lowest number
        assert all(abs(a - b) <= 1 for a, b in zip(picture.getpixel((9, 40)), whole.getpixel((9, 40))))
    with pytest.raises(PhotoError, match="no pixel holds a number"):
        open_photo(encoded(Image.fromarray(np.full((48, 64), np.nan, np.float32)), "TIFF"))


def test_a_formula_behind_characters_that_do_not_show_is_no_formula_in_a_csv(tmp_path):
    "Whatever the Unicode database calls a blank, a control, a format or a mark, and letters that are drawn as blanks."
    unseen = [
        chr(i) for i in range(0x110000) if unicodedata.category(chr(i)) in ("Cc", "Cf", "Co", "Zs", "Mn")
    ]
    unseen += ["\u3164", "\u115f", "\u1160", "\u2800", "\uffa0", " \u200e\t", "\u2028"]
    for sign in ("=1+1", "+1+cmd|x", "-1+cmd|x", "@SUM(A1)", "\ufe66x", "\uff1dx", "\u2212x"):
        wrong = [c for c in unseen if not safe_cell(c + sign).startswith("'")]
        assert not wrong, (sign, wrong[:5])
    for plain in ("a=1", "\u200fשלום", "e\u0301", "-33.9", "  two"):
        assert safe_cell(plain) == plain


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252", "utf-16-le"])
def test_photo_tables_in_every_encoding(tmp_path, encoding):
    for name in ("Zürich.jpg", "Köln.jpg", "Málaga.jpg"):
        (tmp_path / name).write_bytes(encoded(Image.new("RGB", (9, 9), "red")))
    rows = ("Zürich.jpg,47.37,8.54,Zürich", "Köln.jpg,50.94,6.96,Köln", "Málaga.jpg,36.72,-4.42,Málaga")
    table = "\n".join(["file,lat,lon,city", *rows, ""])
    (tmp_path / "t.csv").write_bytes(table.encode(encoding))
    assert len(from_csv(tmp_path / "t.csv", ledger=[])) == 3
    assert len(from_folder(tmp_path, [])) == 3


def test_a_train_table_in_another_encoding_or_with_an_open_quotation_mark(tmp_path):
    fill(tmp_path, a__jpg=encoded())
    table = "IMG_ID,LAT,LON,response,__#solution,entities\n"
    table += "a.jpg,47.37,8.54,Zürich ist groß,<city>Zürich</city>,[]\n"
    (tmp_path / "mp16-reason-train.csv").write_bytes(table.encode("cp1252"))
    prompt = [dict(role="user", content=[dict(type="text", text="Where?")])]
    with pytest.warns(UserWarning, match="Windows-1252"):
        row = from_official(tmp_path, prompt)[0]
    assert (row["reasoning"], row["city"]) == ("Zürich ist groß", "Zürich")
    (tmp_path / "mp16-reason-train.csv").write_text(
        table.replace("Zürich<", "Z\ufffdrich<"), encoding="utf-8"
    )
    with pytest.warns(UserWarning, match="replacement characters"):
        assert len(from_official(tmp_path, prompt, ledger=(rows := []))) == 0
    assert "were lost" in rows[0]["reason"]
    fill(tmp_path, **{"mp16-reason-train__csv": table.replace("Zürich ist", '"Zürich ist')})
    with pytest.raises(ValueError, match="quotation mark"):
        from_official(tmp_path, prompt)


def test_answers_in_files_of_their_own_say_how_they_were_read(tmp_path):
    texts = {"a": "city: Zürich".encode("cp1252"), "b": "city: Z\ufffdrich".encode(), "c": b"city: Rome"}
    for name, content in texts.items():
        (tmp_path / f"{name}.txt").write_bytes(content)
    told = answers_by_file(tmp_path).warnings
    assert [line.partition(" ")[0] for line in told] == ["a.txt", "b.txt"]
    for n in range(20):
        (tmp_path / f"d{n}.txt").write_bytes(texts["b"])
    assert len(told := answers_by_file(tmp_path).warnings) == 6 and "17 more" in told[-1]


def test_avif_on_a_pillow_that_cannot_read_it_has_a_sentence_of_its_own(monkeypatch):
    content = encoded(format="AVIF")
    assert open_photo(content).size == (64, 48)
    monkeypatch.setattr(images, "FORMATS", [name for name in images.FORMATS if name != "AVIF"])
    with pytest.raises(PhotoError, match="Pillow does not read AVIF"):
        open_photo(content)


@pytest.mark.parametrize(
    "content, word", [("Köln".encode("cp1252"), "Windows-1252"), ("K\ufffdln".encode(), "replacement")]
)
def test_lost_letters_and_a_guessed_encoding_of_a_photo_table_are_told(tmp_path, content, word):
    SCENE.save(tmp_path / "a.jpg")
    (tmp_path / "t.csv").write_bytes(b"file,lat,lon,city\na.jpg,50.94,6.96," + content + b"\n")
    for read in (lambda: from_csv(tmp_path / "t.csv", ledger=[]), lambda: from_folder(tmp_path, ledger=[])):
        with pytest.warns(UserWarning, match=word):
            assert len(read()) == 1


@pytest.mark.parametrize(
    ("lat", "lon", "country", "fits"),
    [
        (48.208, 16.373, "Slovakia", False),  # Vienna
        (60.17, 24.94, "Estonia", False),  # Helsinki
        (-34.6, -58.4, "Uruguay", False),  # Buenos Aires
        (54.6, -5.93, "Ireland", False),  # Belfast
        (43.08, -79.07, "USA", True),  # Niagara Falls
        (45.83, 6.86, "Italy", True),  # Mont Blanc
        (46.2, 6.14, "France", True),  # Geneva
        (22.3, 114.17, "China", True),  # Hong Kong
    ],
)
def test_a_country_across_the_border_fits_only_near_the_border(lat, lon, country, fits):
    assert (contradiction(lat, lon, country) is None) is fits


def test_pictures_as_bytes_are_named_before_a_training():
    "A parquet file without metadata gives them; `checked_pictures` makes pictures of them."
    raw = encoded(Image.new("RGB", (40, 40), "red"), "PNG")
    for column in (dict(image=[dict(bytes=raw, path=None)]), dict(image=[raw]), dict(images=[[raw]])):
        rows = datasets.Dataset.from_dict(column)
        with pytest.raises(ValueError, match="holds bytes, not pictures"):
            check_pictures(rows)
        check_pictures(checked_pictures(rows))


def test_a_parquet_file_without_rows_is_not_called_incomplete(tmp_path):
    pd.DataFrame(dict(image=[], lat=[])).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="has no rows$"):
        read_dataset(tmp_path / "a.parquet")
