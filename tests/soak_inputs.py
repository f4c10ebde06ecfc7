"Hostile inputs for every door: good ones, damaged at random, each from a seed of its own."

import csv, io, json, random, tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from globe.answers.reader import read_answer
from globe.answers.replies import RefusedAnswer, Reply, TransientError, chat_answer, retry_after
from globe.distillation.store import judgements
from globe.evaluation.score import score_files
from globe.models.client import endpoint_at
from globe.photos.images import MAX_SIDE, PhotoError, open_photo, photo_and_gps, picture_of, stored
from globe.photos.collections import table_rows
from globe.photos.tables import read_table
from test_evaluate import workbook

HERE = Path(__file__).parent
WORDS = [
    b"\0",
    b"\xff\xd8\xff",
    b"\xff\xda",
    b"\r\n",
    b'"',
    b"'",
    b",",
    b";",
    b"{",
    b"}",
    b"[",
    b"]",
    b"\\u",
    b"\xed\xa0",
]
WORDS += [
    b"nan",
    b"-1e999",
    b"<think>",
    b"</answer>",
    b"null",
    b"=cmd|",
    b"\xe2\x80\xae",
    b"\xef\xbb\xbf",
    b"9" * 40,
]


def damaged(good, rng):
    "Some bytes, changed in one to four ways."
    found = bytearray(good)
    for _ in range(rng.randint(1, 4)):
        at, n = rng.randrange(len(found) + 1), rng.choice([1, 2, 8, 64, 999])
        how = rng.randrange(7)
        if how == 0:
            del found[at:]
        elif how == 1:
            del found[at : at + n]
        elif how == 2:
            found[at:at] = rng.choice(WORDS) * rng.choice([1, 1, 3, 500])
        elif how == 3:
            found[at:at] = found[at : at + n] * rng.choice([1, 2, 50])
        elif how == 4:
            found[at:at] = rng.randbytes(n)
        else:
            for i in range(at, min(at + rng.choice([1, 1, 4, 30]), len(found))):
                found[i] = rng.randrange(256)
    return bytes(found)


def _pictures():
    "Files of every format, with EXIF."
    scene = Image.linear_gradient("L").resize((96, 64)).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8825).update({1: "N", 2: (60.0, 10.0, 0.0), 3: "E", 4: (24.0, 56.0, 0.0)})
    found = []
    for kind, more in [
        ("JPEG", dict(exif=exif)),
        ("JPEG", dict(progressive=True)),
        ("PNG", dict(exif=exif)),
        ("WEBP", dict(exif=exif)),
        ("GIF", {}),
        ("TIFF", dict(exif=exif, compression="tiff_lzw")),
        ("BMP", {}),
        ("JPEG2000", {}),
    ]:
        scene.save(f := io.BytesIO(), kind, **more)
        found.append(f.getvalue())
    scene.convert("P").save(f := io.BytesIO(), "PNG", transparency=3)
    scene.save(g := io.BytesIO(), "GIF", save_all=True, append_images=[scene.rotate(90)])
    return [*found, f.getvalue(), g.getvalue()]


def _tables():
    "(ending, bytes) of a table as people store it."
    names = dict(city="Zürich", country="France")
    rows = [dict(file=f"{i}.jpg", lat=48 + i / 10, lon=2.5 * i) | names for i in range(9)]
    frame = pd.DataFrame(rows)
    frame.to_parquet(parquet := io.BytesIO())
    text = io.StringIO()
    csv.DictWriter(text, rows[0], delimiter=";").writerows([dict(zip(rows[0], rows[0])), *rows])
    return [
        (".csv", frame.to_csv(index=False).encode()),
        (".csv", ("sep=;\r\n" + text.getvalue()).encode("cp1252")),
        (".tsv", frame.to_csv(index=False, sep="\t").encode("utf-16")),
        (".json", frame.to_json(orient="records").encode()),
        (".jsonl", "\n".join(json.dumps(r) for r in rows).encode()),
        (".xlsx", workbook([list(rows[0]), *(list(r.values()) for r in rows)])),
        (".parquet", parquet.getvalue()),
    ]


def _replies():
    "Bodies of servers."
    text = "<think>A flag.</think>\n<answer>country: [Finland] city: [Helsinki]</answer>"
    good = dict(
        choices=[dict(message=dict(content=text), finish_reason="stop")], usage=dict(completion_tokens=7)
    )
    parts = [dict(type="thinking", thinking="A flag."), dict(type="text", text=text)]
    listed = dict(
        choices=[dict(message=dict(content=parts, refusal=None, tool_calls=[]), finish_reason="eos")]
    )
    failed = dict(error=dict(message="CUDA out of memory", code=500))
    return [json.dumps(body).encode() for body in (good, listed, failed)]


class Doors:
    "What comes in, by door: a good input, how it is opened, what may be raised, what must hold."

    def __init__(self, folder):
        self.folder, self.pictures, self.tables, self.replies = (
            Path(folder),
            _pictures(),
            _tables(),
            _replies(),
        )
        cases = (HERE / "reader_cases.jsonl").read_text(encoding="utf-8").splitlines()
        self.answers = [json.loads(line)["text"].encode("utf-8", "replace") for line in cases]
        self.truth = self.folder / "truth.csv"
        frame = pd.read_csv(io.BytesIO(self.tables[0][1])).rename(columns=dict(file="id"))
        frame.to_csv(self.truth, index=False)
        self.said = frame.to_csv(index=False).encode()
        judged = [
            dict(id=f"p{i}", teacher="a", error="", text="x", lat=1.5, lon=2.5, prompt="") for i in range(9)
        ]
        self.lines = "".join(json.dumps(j) + "\n" for j in judged).encode()

    def _file(self, name, content):
        path = self.folder / name
        path.write_bytes(content)
        return path

    def picture(self, rng, change):
        "The bytes of a picture, and its coordinate."
        content = change(rng.choice(self.pictures))
        try:
            im = open_photo(content)
            assert im.mode == "RGB" and not im.getexif() and not set(im.info), "metadata is left"
            _, (lat, lon, _) = photo_and_gps(content)
            assert np.isnan([lat, lon]).all() or (abs(lat) <= 90 and abs(lon) <= 180), (lat, lon)
        except PhotoError as e:
            assert str(e)

    def picture_row(self, rng, change):
        "A row of a dataset that somebody else made."
        content = change(rng.choice(self.pictures))
        odd = [
            content,
            dict(bytes=content, path="/etc/passwd"),
            dict(bytes=None, path="/etc/passwd"),
            None,
            7,
            [content],
            {},
        ]
        row = {rng.choice(["image", "images"]): odd[0] if change is same else rng.choice(odd)}
        try:
            kept = stored(picture_of(row))
            with Image.open(io.BytesIO(kept)) as im:
                assert im.format == "JPEG" and max(im.size) <= MAX_SIDE and b"Exif" not in kept
        except PhotoError as e:
            assert str(e)

    def table(self, rng, change):
        "A file with coordinates."
        ending, good = rng.choice(self.tables)
        path = self._file(f"t{ending}", change(good))
        try:
            found = read_table(path)
            assert all(isinstance(c, str) for row in found.rows.itertuples(index=False) for c in row)
            table_rows(path)
        except ValueError as e:
            assert str(e)

    def predictions(self, rng, change):
        "A file of predictions that is to be measured."
        try:
            e = score_files(self._file("p.csv", change(self.said)), self.truth)
            assert 0 <= e.table().to_numpy(dtype=object).size
        except ValueError as e:
            assert str(e)

    def answer(self, rng, change):
        "What a model wrote. Nothing is raised."
        found = read_answer(
            change(rng.choice(self.answers)).decode("utf-8", rng.choice(["replace", "surrogateescape"]))
        )
        assert found.lat is None or (abs(found.lat) <= 90 and abs(found.lon) <= 180), found
        assert found.parsed == bool(found.country or found.lat is not None)

    def reply(self, rng, change):
        "What a server sent."
        status, number = rng.choice([200, 200, 200, 400, 429, 500, 302]), change(b"12").decode("latin-1")
        wait = retry_after(number)
        assert wait is None or wait >= 0
        try:
            said = chat_answer(Reply(status, change(rng.choice(self.replies)), wait))
            assert said["text"].strip() and status == 200
        except (TransientError, RefusedAnswer, PermissionError) as e:
            assert str(e) and len(str(e)) < 400 and "\n" not in str(e)

    def address(self, rng, change):
        "Where an endpoint is said to be."
        text = change(
            rng.choice([b"http://me:pw@host:8000/v1", b"localhost:8000", b"https://[::1]:80/v1?k=v"])
        )
        try:
            e = endpoint_at(text.decode("latin-1"))
            assert e.url.startswith(("http://", "https://")) and "pw" not in repr(e)
        except ValueError as e:
            assert str(e)

    def lines_of_answers(self, rng, change):
        "JSON lines beside a store."
        try:
            found = judgements(self._file("a.jsonl", change(self.lines)).parent, ["a"])
            assert not len(found) or not found.id.astype(str).duplicated().any()
        except ValueError as e:
            assert str(e)


SHARES = dict(  # of the inputs
    picture=0.27,
    picture_row=0.1,
    table=0.2,
    predictions=0.03,
    answer=0.2,
    reply=0.12,
    address=0.03,
    lines_of_answers=0.05,
)


def same(good):
    return good


def tried(doors, door, seed, number):
    "One input at a door; every twentieth is undamaged. Raises what should not be."
    rng = random.Random(f"{door} {seed} {number}")
    change = same if number % 20 == 0 else lambda good: damaged(good, rng)
    getattr(doors, door)(rng, change)


if __name__ == "__main__":  # one input again: python tests/soak_inputs.py DOOR SEED NUMBER
    import sys

    with tempfile.TemporaryDirectory() as folder:
        tried(Doors(folder), sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
