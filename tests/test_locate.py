"""A photograph gets a place, an abstention or an error; a bad one never costs the others.

The page of `globe demo` in a real browser, where there is one."""

import base64
import io
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.ExifTags import GPS, IFD
from safetensors.numpy import save_file

import globe
from globe.distillation.teachers import from_text
from globe.answers.mentions import highlighted
from globe.app.card import _CUES
from globe.app.consensus import _medoid
from globe.app.locate import Geolocator
from globe.app.models import EndpointModel, LocalModel
from globe.app.prediction import Prediction, Predictions, concluded
from globe.pipeline.students import latest_student
from globe.places.match import locate
from globe.places.sphere import distance_km
from globe.cli import main

ROOT = Path(__file__).parent.parent


def said(city, country, sure=0.9, why="A flag and palm trees."):
    return f"<think>{why}</think>\n<answer>\ncountry: [{country}]\ncity: [{city}]\nlocalizability: {sure}\n</answer>"


class Recorded:
    "Gives recorded answers in turn, and remembers the pictures and temperatures."

    name, note = "recorded", ""

    def __init__(self, *texts):
        self.texts, self.seen, self.temperatures = texts, [], []

    def ask(self, rows, temperature):
        for i, row in enumerate(rows):
            self.seen.append(row["image"])
            self.temperatures.append(temperature)
            text = self.texts[i % len(self.texts)]
            if isinstance(text, Exception):
                raise text
            yield from_text(row["id"], self.name, text)


@pytest.fixture
def photos(tmp_path):
    for i in range(4):
        Image.new("RGB", (64, 48), (50 * i, 99, 9)).save(tmp_path / f"{i}.jpg")
    return tmp_path


# --- reading pictures ---


def test_bad_pictures_are_rows_and_cost_no_others(photos):
    (photos / "0.jpg").write_bytes(b"")
    (photos / "1.jpg").write_bytes((photos / "2.jpg").read_bytes()[:300])
    found = Geolocator(Recorded(said("Paris", "France")))(
        [
            photos / "0.jpg",
            photos / "1.jpg",
            photos / "2.jpg",
            photos / "missing.jpg",
            b"<html>",
            Image.new("L", (9, 9)),
            17,
        ]
    )
    assert [bool(p.error) for p in found] == [True, True, False, True, True, False, True]
    assert [p.city for p in found if not p.error] == ["Paris", "Paris"]
    assert (
        found[0].error == "the file is empty"
        and found[3].error == "the file does not exist"
        and "HTML" in found[4].error
        and "not a picture" in found[6].error
    )
    assert found[4].photo == "picture 5"


@pytest.fixture
def deny(monkeypatch):
    "A function after which files, or all in a folder, can no longer be opened, by root neither."
    denied, real_open, real_stat = [], io.open, os.stat

    def refuse(path):
        here = Path(os.fsdecode(path)) if isinstance(path, (str, bytes, os.PathLike)) else Path()
        if {here, here.parent} & set(denied):
            raise PermissionError(13, "Permission denied", str(path))

    def denying_open(path, *a, **k):
        refuse(path)
        return real_open(path, *a, **k)

    def denying_stat(path, *a, **k):
        if isinstance(path, (str, os.PathLike)) and Path(path).parent in denied:
            refuse(path)
        return real_stat(path, *a, **k)

    monkeypatch.setattr(io, "open", denying_open)
    monkeypatch.setattr(os, "stat", denying_stat)
    return denied.append


def test_a_picture_that_may_not_be_read_says_so_and_costs_no_others(photos, deny):
    deny(photos / "1.jpg")
    found = Geolocator(Recorded(said("Paris", "France")))(sorted(photos.glob("*.jpg")))
    assert found[1].error == "the file cannot be read (Permission denied)"
    assert [p.city for p in found] == ["Paris", "", "Paris", "Paris"]


@pytest.mark.parametrize("wrong", [None, 5, 2.5])
def test_what_is_no_picture_at_all_is_named(wrong):
    with pytest.raises(ValueError, match=f"a list of pictures or a folder, got {wrong}"):
        Geolocator(Recorded())(wrong)


def test_one_picture_gives_one_prediction_and_a_folder_gives_a_list(photos):
    geo = Geolocator(Recorded(said("Paris", "France")))
    assert isinstance(geo(photos / "0.jpg"), Prediction) and isinstance(
        geo(str(photos / "0.jpg")), Prediction
    )
    assert isinstance(geo((photos / "0.jpg").read_bytes()), Prediction) and isinstance(
        geo(Image.new("RGB", (8, 8))), Prediction
    )
    assert (
        isinstance(geo(photos), Predictions)
        and len(geo(str(photos))) == 4
        and isinstance(geo([photos / "0.jpg"]), Predictions)
    )
    assert geo([]) == []
    with pytest.raises(FileNotFoundError, match="no pictures"):
        geo(_empty(photos))


def _empty(folder):
    (folder / "empty").mkdir()
    return folder / "empty"


def test_the_model_never_sees_exif_and_large_pictures_are_reduced(photos):
    exif = Image.Exif()
    exif.get_ifd(IFD.GPSInfo).update({GPS.GPSLatitudeRef: "N", GPS.GPSLatitude: (48, 51, 24)})
    Image.new("RGB", (2400, 300)).save(photos / "gps.jpg", exif=exif)
    held = Image.open(photos / "gps.jpg")
    model = Recorded(said("Paris", "France"))
    Geolocator(model)([photos / "gps.jpg", held])
    for image in model.seen:
        assert not dict(image.getexif()) and not image.info and image.size == (1600, 200)
    assert held.size == (2400, 300), "the caller's picture is left alone"


@pytest.mark.parametrize(
    "size, refused",
    [((5000, 10), True), ((3, 600), True), ((5000, 40), True), ((5000, 60), False), ((10, 10), False)],
)
def test_a_picture_that_is_too_narrow_for_a_model_is_a_row_and_costs_no_others(photos, size, refused):
    Image.new("RGB", size).save(photos / "3.png")

    class Picky(Recorded):
        def ask(self, rows, temperature):
            for row in super().ask(rows, temperature):
                if max(self.seen[-1].size) / min(self.seen[-1].size) >= 200:
                    raise ValueError("absolute aspect ratio must be smaller than 200")
                yield row

    found = Geolocator(Picky(said("Paris", "France")))(photos)
    assert [p.city for p in found] == ["Paris"] * 4 + [""] * refused + ["Paris"] * (not refused)
    assert (
        not refused
        or found[4].error
        == Geolocator(Picky(said("Paris", "France")))(Image.new("RGB", size)).error
        == f"{size[0]} x {size[1]} pixels: too narrow for a model"
    )


# --- the stream ---


def test_predictions_leave_in_order_and_pictures_are_opened_only_as_answers_come(photos):
    opened = []

    def lazily():
        for i in range(4):
            opened.append(i)
            yield photos / f"{i}.jpg"

    stream = Geolocator(Recorded(said("Paris", "France"))).each(lazily())
    assert Path(next(stream).photo).name == "0.jpg" and opened == [0]
    assert [Path(p.photo).name for p in stream] == ["1.jpg", "2.jpg", "3.jpg"]


def test_answers_out_of_order_are_put_right(photos):
    class Backwards(Recorded):
        def ask(self, rows, temperature):
            return reversed(
                [
                    from_text(
                        r["id"],
                        "b",
                        said(
                            *[
                                ("Paris", "France"),
                                ("Rome", "Italy"),
                                ("Oslo", "Norway"),
                                ("Bern", "Switzerland"),
                            ][r["id"][0]]
                        ),
                    )
                    for r in rows
                ]
            )

    assert [p.city for p in Geolocator(Backwards())(photos, samples=3)] == ["Paris", "Rome", "Oslo", "Bern"]


def test_what_was_answered_is_kept_when_the_model_dies_and_the_rest_has_the_error(photos):
    found = Geolocator(
        Recorded(
            said("Paris", "France"), said("Rome", "Italy"), said("Rome", "Italy"), ConnectionError("gone")
        )
    )(photos, samples=2)
    assert [p.city for p in found] == ["Paris", "", "", ""]
    assert all("stopped answering (gone)" in p.error for p in found[1:])
    with pytest.raises(ConnectionError, match="gone"):
        Geolocator(Recorded(ConnectionError("gone")))(photos)


def test_one_answer_is_asked_at_temperature_zero_and_several_at_one(photos):
    model = Recorded(said("Paris", "France"))
    geo = Geolocator(model)
    assert geo(photos / "0.jpg").agreement is None and geo(photos / "0.jpg", samples=3).agreement == 1
    assert model.temperatures == [0, 1, 1, 1]
    with pytest.raises(ValueError, match="samples must be at least 1"):
        geo(photos / "0.jpg", samples=0)
    for wrong in ("8", 1.5, None):
        with pytest.raises(ValueError, match="a whole number"):
            geo(photos / "0.jpg", samples=wrong)
    for wrong in (7, -0.1, float("nan"), "0.5"):
        with pytest.raises(ValueError, match="threshold must be from 0 to 1"):
            geo(photos / "0.jpg", threshold=wrong)
    with pytest.raises(TypeError, match="fromarray"):
        geo(np.zeros((50, 50, 3), np.uint8))
    assert len(model.temperatures) == 4


# --- what is concluded ---


def test_abstains_below_the_threshold_and_keeps_the_answers(photos):
    geo = Geolocator(Recorded(said("Paris", "France", 0.31)))
    p = geo(photos / "0.jpg")
    assert (
        p.abstains
        and "localizability 0.31" in p.why
        and p.lat is None
        and p.city == ""
        and p.answers[0]["city"] == "Paris"
    )
    assert geo(photos / "0.jpg", threshold=0.3).city == "Paris"


def test_a_judge_has_the_last_word_on_localizability(photos):
    class Strict:
        def probability(self, images, reasonings):
            return [0.1 if "palm" in r else 0.8 for r in reasonings]

    p = Geolocator(
        Recorded(said("Paris", "France", 0.99), said("Paris", "France", 0.99, "A tower.")), Strict()
    )(photos / "0.jpg", samples=2)
    assert p.localizability == pytest.approx(0.45) and p.abstains


def test_a_judge_that_fails_costs_no_row(photos):
    class Broken:
        def probability(self, images, reasonings):
            raise ConnectionError("judge is down")

    found = Geolocator(Recorded(said("Paris", "France")), Broken())(photos)
    assert len(found) == 4 and all("judge is down" in p.error for p in found)


@pytest.mark.parametrize("text", ["", "I cannot tell.", said("Qqxyz", "Zzyqx"), said("", "")])
def test_answers_that_name_no_place_are_no_place(text):
    p = concluded("a", [from_text(0, "t", text)])
    assert p.lat is None and p.why and not p.error


def test_the_consensus_is_an_answer_and_no_farther_from_all_than_any_other():
    places = [
        locate(*x)
        for x in [("Suva", "Fiji"), ("Apia", "Samoa"), ("Paris", "France"), ("Auckland", "New Zealand")]
    ] + [None]

    def mean(p):
        return sum(distance_km(p.lat, p.lon, q.lat, q.lon) for q in places[:-1])

    assert mean(places[_medoid(places)]) == min(map(mean, places[:-1]))


def test_a_country_alone_has_a_radius_of_its_size():
    p = concluded("a", [from_text(0, "t", said("", "Brazil"))])
    assert p.city == "" and p.country_code == "BR" and p.radius_km > 1000 and "country" in p.radius_from
    assert concluded("a", [from_text(0, "t", said("", "Vatican City"))]).radius_km == 25


def test_the_radius_holds_nine_tenths_of_the_answers_and_unread_ones_count():
    cities = [("Helsinki", "Finland")] * 8 + [("Turku", "Finland"), ("Sydney", "Australia")]
    answers = [from_text(i, "t", said(*c)) for i, c in enumerate(cities)]
    assert 140 < concluded("a", answers).radius_km < 160
    assert concluded("a", answers[:8] + [from_text(8, "t", "?")] * 2).radius_km is None


PLACE, ODD = ("Helsinki", "Finland"), ("Sydney", "Australia")


@pytest.mark.parametrize(
    "n, odd, at_home, inside",
    [  # answers, of them elsewhere; whether the radius is that of a city, answers within it
        (2, 0, True, 2),
        (2, 1, False, 2),
        (3, 0, True, 3),
        (3, 1, True, 2),
        (5, 1, True, 4),
        (5, 2, False, 5),
        (8, 1, True, 7),
        (8, 2, False, 8),
        (10, 1, True, 9),
        (10, 2, False, 10),
        (20, 2, True, 18),
        (20, 3, False, 20),
    ],
)
def test_the_radius_holds_the_largest_share_that_is_at_most_nine_tenths(n, odd, at_home, inside):
    p = concluded("a", [from_text(i, "t", said(*(ODD if i >= n - odd else PLACE))) for i in range(n)])
    assert p.city == "Helsinki" and (p.radius_km == 25) is at_home and (at_home or p.radius_km > 15000)
    assert (
        p.radius_from == f"{'size of a city' if at_home else 'spread of the answers'}; {inside} of {n} inside"
        and p.radius_from in p._repr_html_()
    )
    unread = concluded("a", [from_text(i, "t", "?" if i >= n - odd else said(*PLACE)) for i in range(n)])
    assert (unread.radius_km, unread.radius_from) == (
        (25, f"size of a city; {n - odd} of {n} inside")
        if at_home
        else (None, f"{n - odd} of {n} answers {'names' if n - odd == 1 else 'name'} a place")
    )
    assert at_home or f"unknown: {unread.radius_from}" in unread._repr_html_()


def test_one_answer_has_the_radius_of_its_words():
    p = concluded("a", [from_text(0, "t", said(*PLACE))])
    assert p.radius_km == 25 and "single answer" in p.radius_from


def test_geojson_is_what_the_standard_says():
    found = Predictions(
        [concluded("a", [from_text(0, "t", said("Sydney", "Australia"))]), Prediction("b", error="torn")]
    )
    made = json.loads(json.dumps(found.to_geojson(), allow_nan=False))
    assert made["type"] == "FeatureCollection" and [f["type"] for f in made["features"]] == ["Feature"] * 2
    lon, lat = made["features"][0]["geometry"]["coordinates"]
    assert (round(lon), round(lat)) == (151, -34) and made["features"][1]["geometry"] is None
    assert found.to_frame().city.tolist() == ["Sydney", ""]


# --- what is shown ---

EVIL = "<script>alert(1)</script><img src=x onerror='alert(2)'>\" flag"


def test_nothing_that_a_model_or_a_file_name_says_is_html():
    p = concluded(
        EVIL, [from_text(0, "t", said("Paris", "France", 0.9, EVIL))], model=EVIL, note=EVIL, thumbnail=b"x"
    )
    for shown in (
        p._repr_html_(),
        Predictions([p, Prediction(EVIL, error=EVIL)])._repr_html_(),
        highlighted(EVIL, _CUES),
    ):
        assert "<script" not in shown and "<img src=x" not in shown and "onerror='" not in shown


def test_maps_hold_at_the_dateline_at_the_poles_and_over_the_whole_world():
    for lat, lon, radius in [
        (-16.8, 179.9, 400),
        (-17, -179.9, 1500),
        (78.2, 15.6, 25),
        (-89.9, 0, 25),
        (89.9, 180, 3000),
        (0, 0, 15000),
        (0, 0, None),
    ]:
        answers = [dict(lat=lat, lon=lon)]
        page = Prediction("a", lat=lat, lon=lon, radius_km=radius, answers=answers).map().get_root().render()
        assert "NaN" not in page.rpartition("</head>")[2] and len(page) < 6e5


def test_a_map_loads_nothing_and_model_text_is_data_there():
    evil = "`${alert(1)}` {{ 7 * 7 }} " + EVIL
    answers = [from_text(i, "t", said("Paris", "France", 0.9, evil)) for i in range(2)]
    p = concluded(EVIL, answers)
    for made in (p.map(), Predictions([p, Prediction(EVIL, error=EVIL)]).map()):
        page = made.get_root().render()
        assert not re.findall(r"<(?:script|link|img|iframe)[^>]*(?:src|href)\s*=", page)
        assert "alert(1)" in page and "alert(1)</script>" not in page and "<img src=x" not in page
        assert "`$" not in page and "7 * 7" in page
    assert "sandbox=" in p._repr_html_() and "allow-same-origin" not in p._repr_html_()


def test_a_line_says_when_no_answers_agree_and_when_the_radius_is_unknown():
    places = [("Helsinki", "Finland"), ("Sydney", "Australia"), ("", "")]
    p = concluded("a", [from_text(i, "t", said(*place)) for i, place in enumerate(places)])
    assert "no two of 3 answers agree" in str(p) and "1 of 3" not in str(p)
    p = concluded("a", [from_text(i, "t", said(*place)) for i, place in enumerate(places[1:])])
    assert "radius unknown (1 of 2 answers names a place)" in str(p) and "?" not in str(p)


def test_candidates_start_with_the_prediction_and_count_what_cannot_be_read():
    cities = [("Helsinki", "Finland")] * 5 + [("Sydney", "Australia")] * 3 + [("", "")] * 2
    p = concluded("a", [from_text(i, "t", said(*c)) for i, c in enumerate(cities)])
    assert [(c["city"], c["answers"], c["probability"]) for c in p.top_k()] == [
        ("Helsinki", 5, 0.5),
        ("Sydney", 3, 0.3),
    ]
    assert p.to_frame().city.tolist() == ["Helsinki", "Sydney"] and len(p.top_k(1)) == 1
    for wrong in (-1, 0, "a", 1.5, None):
        with pytest.raises(ValueError, match="k must be at least 1, a whole number, got "):
            p.top_k(wrong)
    assert json.loads(json.dumps(p.to_dict(), allow_nan=False))["candidates"][1]["country_code"] == "AU"
    with pytest.raises(ValueError, match="at least 16 answers"):
        p.density()


# --- models ---


def test_the_student_is_asked_and_says_that_it_knows_synthetic_images_only(tmp_path):
    from globe.world.student import student

    folder = student(0, hidden=48, layers=1, vision=32, depth=1).save(tmp_path / "student")
    geo = globe.Geolocator.from_pretrained(folder, max_new_tokens=4)
    assert isinstance(geo.model, LocalModel) and geo.judge is None and geo.model.prompt == "teacher"
    found = geo([Image.new("RGB", (64, 64), c) for c in ("red", "blue")], samples=3)
    assert [len(p.answers) for p in found] == [3, 3] and all("synthetic images" in p.note for p in found)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        globe.Geolocator.from_pretrained(tmp_path / "none")


def test_samples_of_one_picture_in_several_batches_differ():
    class Dice:
        model = type("M", (), dict(num_parameters=lambda self: 10**9))()

        def answer(self, images, prompt, new, temperature, size, seed):
            return [f"{seed}" for _ in images]

    texts = [
        r["text"]
        for r in LocalModel(Dice(), batch_size=2).ask((dict(id=(0, k), image=None) for k in range(4)), 1.0)
    ]
    assert texts == ["0", "0", "1", "1"]


class Endpoint(ThreadingHTTPServer):
    "An OpenAI-compatible endpoint; `answer(n)` gives (status, text) of the n-th request."

    def __init__(self, answer):
        self.answer, self.bodies, self.keys = answer, [], []
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def reply(self, code, body):
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        self.reply(200, dict(data=[dict(id="the-model")]))

    def do_POST(self):
        self.server.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.server.keys.append(self.headers.get("Authorization"))
        code, text = self.server.answer(len(self.server.bodies) - 1)
        self.reply(code, dict(choices=[dict(message=dict(content=text))]))


def test_an_endpoint_is_asked_at_the_wanted_temperature_with_the_key_and_without_exif(photos, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret-key")
    server = Endpoint(lambda n: (200, said("Paris", "France")))
    geo = Geolocator.from_pretrained(server.url, backoff=0)
    assert (
        isinstance(geo.model, EndpointModel)
        and geo.model.name == "the-model"
        and "secret-key" not in repr(geo)
    )
    found = geo(photos, samples=2)
    assert (
        [p.city for p in found] == ["Paris"] * 4
        and {b["temperature"] for b in server.bodies} == {1.0}
        and len(server.bodies) == 8
    )
    Geolocator.from_pretrained(f"{server.url} a name of words")(photos / "0.jpg")
    assert server.bodies[-1]["model"] == "a name of words"
    geo(photos / "0.jpg")
    assert (
        server.bodies[-1]["temperature"] == 0
        and server.bodies[-1]["model"] == "the-model"
        and set(server.keys) == {"Bearer secret-key"}
    )
    sent = base64.b64decode(
        server.bodies[-1]["messages"][0]["content"][0]["image_url"]["url"].partition(",")[2]
    )
    assert not dict(Image.open(io.BytesIO(sent)).getexif())
    server.shutdown()


def test_an_endpoint_that_refuses_one_picture_costs_one_row(photos):
    server = Endpoint(lambda n: (400, "no") if n == 1 else (200, said("Paris", "France")))
    found = Geolocator.from_endpoint(server.url, "m", concurrency=1)(photos)
    assert [bool(p.error) for p in found] == [False, True, False, False] and "HTTP 400" in found[1].error
    server.shutdown()


def test_an_endpoint_that_dies_leaves_what_it_answered_and_the_key_nowhere(photos, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret-key")
    server = Endpoint(lambda n: (200, said("Paris", "France")) if n < 2 else (403, "secret-key is blocked"))
    found = Geolocator.from_endpoint(server.url, "m", concurrency=1)(photos)
    assert (
        [p.city for p in found] == ["Paris", "Paris", "", ""]
        and "refused" in found[3].error
        and "secret-key" not in str(found)
    )
    with pytest.raises(PermissionError):
        Geolocator.from_endpoint(server.url, "m", concurrency=1)(photos)
    server.shutdown()


# --- globe.Geolocator and the command line ---


def test_import_is_light_and_geolocator_is_loaded_when_asked_for():
    code = (
        "import sys, globe; assert not {'torch', 'numpy', 'pandas', 'globe.app.locate'} & set(sys.modules); "
        "globe.Geolocator; assert not {'torch', 'matplotlib'} & set(sys.modules); "
        "assert 'Geolocator' in dir(globe)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="nonsense"):
        globe.nonsense


def test_the_newest_student_with_all_rewards_is_the_default(tmp_path):
    "The newest by its manifest: files are newer where a folder was copied."
    from globe.pipeline.stages import Manifest

    names = (
        "grpo-all-readme@single-2 internvl-grpo-all-readme-0 grpo-all-readme-1 grpo-all-readme-0 "
        "grpo-accuracy-0 base upper-bound"
    )
    for age, name in enumerate(names.split()):
        folder = tmp_path / "data" / "mini" / "models" / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        run = dict(started=f"2026-11-01T{20 - age}:00:00+0000")
        Manifest(folder, name, {}, {}, {}, run).save()
        os.utime(folder / "manifest.json", (9e8 + 99 * age,) * 2)
    for expected in ("grpo-all-readme-1", "grpo-all-readme-0", "grpo-accuracy-0", "base"):
        assert latest_student(tmp_path).name == expected
        shutil.rmtree(latest_student(tmp_path))
    with pytest.raises(FileNotFoundError, match="globe reproduce"):
        latest_student(tmp_path)


def test_no_model_is_downloaded_unasked(monkeypatch):
    asked = []
    monkeypatch.setattr("globe.models.vlm.load", lambda *a, **k: asked.append((a, k)) or 1 / 0)
    with pytest.raises(ValueError, match=r'from_pretrained\("default"\)'):
        Geolocator.from_pretrained()
    assert not asked
    with pytest.raises(ZeroDivisionError):
        Geolocator.from_pretrained("default")
    ((source,), how) = asked[0]
    assert source == "Qwen/Qwen2.5-VL-7B-Instruct" and re.fullmatch("[0-9a-f]{40}", how["revision"])


def test_a_wrong_model_is_named_before_anything_is_loaded(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("globe.models.vlm.load", lambda *a, **k: pytest.fail("a model was loaded"))
    (tmp_path / "adapter_config.json").write_text("{}")
    for model, said in [("no-such-model", "owner/name"), (str(tmp_path), "adapter"), ("", "name is empty")]:
        assert main(["locate", str(photos), "--model", model]) == 1
        assert said in capsys.readouterr().err.splitlines()[-1]


def test_weights_that_may_not_be_read_are_not_called_damaged(photos, tmp_path, capsys, deny):
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    save_file(dict(weight=np.ones(3)), model / "model.safetensors")
    deny(model / "model.safetensors")
    assert main(["locate", str(photos / "0.jpg"), "--model", str(model)]) == 1
    told = capsys.readouterr().err.splitlines()[-1]
    assert "model.safetensors cannot be read (Permission denied)" in told
    assert "damaged" not in told and "download" not in told and "fetch" not in told


def test_a_photo_in_a_locked_folder_is_a_row_and_costs_no_others(photos, capsys, deny):
    locked = photos / "locked"
    locked.mkdir()
    shutil.copyfile(photos / "0.jpg", locked / "p1.jpg")
    deny(locked)
    server = Endpoint(lambda n: (200, said("Paris", "France")))
    some = [str(photos / "0.jpg"), str(locked / "p1.jpg"), str(photos / "2.jpg")]
    assert main(["locate", *some, "--model", f"{server.url} m"]) == 1
    lines = capsys.readouterr().out.splitlines()
    server.shutdown()
    assert ["Paris" in line for line in lines] == [True, False, True]
    assert "locked/p1.jpg\terror: the file cannot be read (Permission denied)" in lines[1]


def test_a_map_that_cannot_be_written_is_said_before_anything_is_asked(photos, capsys, monkeypatch):
    pytest.importorskip("folium")
    monkeypatch.setattr("globe.locate_command._geolocator", lambda model: pytest.fail("a model was loaded"))
    (photos / "old.html").touch()
    (photos / "ro").mkdir()
    command = ["locate", str(photos / "0.jpg"), "--model", "http://127.0.0.1:9 m", "--map"]
    assert main([*command, str(photos)]) == 2
    assert "this is a folder; name a file in it" in capsys.readouterr().err
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    for out in (photos / "old.html", photos / "ro" / "new.html"):
        assert main([*command, str(out)]) == 2
        assert f"{out.name}: it cannot be written (no permission)" in capsys.readouterr().err


def test_locate_writes_a_map(photos, capsys):
    pytest.importorskip("folium")
    server = Endpoint(lambda n: (200, said("Paris", "France")))
    for what, pins in ((photos / "0.jpg", 1), (photos, 4)):
        out = photos / "map.html"
        assert main(["locate", str(what), "--model", f"{server.url} m", "--map", str(out)]) == 0
        assert out.read_text(encoding="utf-8").count("openstreetmap.org/?mlat") == pins
        assert "map.html" in capsys.readouterr().err
    asked = len(server.bodies)
    command = ["locate", str(photos), "--model", f"{server.url} m", "--map"]
    assert main([*command, str(photos / "none" / "map.html")]) == 2 and len(server.bodies) == asked
    assert "there is no folder" in capsys.readouterr().err
    server.shutdown()


def test_locate_prints_lines_json_and_geojson(photos, capsys):
    server = Endpoint(lambda n: (200, said("Paris", "France", 0.9 if n % 4 else 0.2)))
    command = ["locate", str(photos), "--model", f"{server.url} m", "--samples"]
    assert main([*command, "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert (
        len(lines) == 4
        and sum("Paris, France\t48.8534" in l for l in lines) == 3
        and sum("localizability 0.20" in l for l in lines) == 1
    )
    assert main([*command, "2", "--json"]) == 0
    rows = [json.loads(l) for l in capsys.readouterr().out.splitlines()]
    assert len(rows) == 4 and all(len(r["answers"]) == 2 for r in rows)
    assert main([*command, "1", "--geojson", "--threshold", "0"]) == 0
    assert [f["geometry"]["type"] for f in json.loads(capsys.readouterr().out)["features"]] == ["Point"] * 4
    server.shutdown()


def test_locate_says_what_a_folder_holds_besides_pictures(photos, capsys):
    "A row for each reason, with how many there are and one of them; results stay alone on standard output."
    for name in ("a.txt", "b.txt", "@eaDir/0.jpg", ".x", "sub/c.txt"):
        (photos / name).parent.mkdir(exist_ok=True)
        (photos / name).write_bytes(b"text")
    server = Endpoint(lambda n: (200, said("Paris", "France", 0.9)))
    assert main(["locate", str(photos), "--model", f"{server.url} m", "--json"]) == 0
    server.shutdown()
    out, err = capsys.readouterr()
    assert len([json.loads(line) for line in out.splitlines()]) == 4
    rows = [line for line in err.splitlines() if re.match(r"\| \d", line)]
    assert "left out: 5" in err and len(rows) == 3
    assert sum(r.startswith("| 3 ") and ".txt" in r for r in rows) == 1
    assert sum("hidden" in r for r in rows) == sum("@eaDir" in r and "1 files" in r for r in rows) == 1
    assert main(["locate", str(photos / "sub"), "--model", f"{server.url} m"]) == 2
    assert "no pictures" in (err := capsys.readouterr().err) and "c.txt" in err and ".txt" in err


def test_locate_says_in_one_line_what_is_wrong(photos, capsys, monkeypatch):
    monkeypatch.setattr(
        "globe.pipeline.students.run_folder", lambda name, root=None: photos / "nothing" / name
    )
    server = Endpoint(lambda n: (200, said("Paris", "France")))
    (photos / "0.jpg").write_bytes(b"torn")
    assert main(["locate", str(photos), "--model", f"{server.url} m"]) == 1  # one picture is broken
    out = capsys.readouterr().out
    assert "error: not a picture" in out and out.count("Paris") == 3
    assert main(["locate", str(photos / "1.jpg")]) == 1
    assert "globe reproduce" in capsys.readouterr().err.strip().splitlines()[-1]
    assert main(["locate", "nothere.jpg"]) == 2
    assert "nothere.jpg does not exist" in capsys.readouterr().err
    assert main(["locate", str(_empty(photos))]) == 2
    assert "no pictures in" in capsys.readouterr().err
    assert main(["locate", str(photos), "--model", "http://127.0.0.1:9"]) == 1
    for wrong in (["--samples", "0"], ["--threshold", "7"], ["--threshold", "nan"]):
        with pytest.raises(SystemExit) as called:
            main(["locate", "a.jpg", *wrong])
        assert called.value.code == 2
    assert "--threshold: must be from 0 to 1" in capsys.readouterr().err
    server.shutdown()


def test_file_names_that_no_terminal_can_show_cost_nothing(tmp_path, capsys):
    for name in (b"caf\xe9.jpg", b"two\nlines\x1b[31m.jpg"):
        shutil.copyfile(ROOT / "figures" / "gallery.png", os.path.join(os.fsencode(tmp_path), name))
    server = Endpoint(lambda n: (200, said("Paris", "France")))
    for form in ([], ["--json"], ["--geojson"]):
        assert main(["locate", str(tmp_path), "--model", f"{server.url} m", *form]) == 0
        out = capsys.readouterr().out
        assert (
            out.count("Paris")
            and "\x1b" not in out
            and out.encode()
            and len(out.splitlines()) == (1 if form == ["--geojson"] else 2)
        )
    server.shutdown()


def test_demo_names_the_command_that_installs_gradio(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["demo"]) == 2
    assert "pip install 'globe-geolocation[demo]'" in capsys.readouterr().err


def test_a_stated_coordinate_goes_before_the_point_of_the_name(photos, capsys):
    stated = '{"city": "Paris", "country": "France", "latitude": 48.8584, "longitude": 2.2945}'
    texts = [stated, said("Paris", "France"), said("Lyon", "France"), said("", "France")]
    p = concluded("a", [from_text(i, "t", t) for i, t in enumerate(texts)])
    assert (p.city, p.lat, p.placed_by, p.agreement) == ("Paris", 48.8584, "stated coordinate", 2 / 4)
    alone = concluded("a", [from_text(0, "t", stated)])
    assert (alone.city, alone.lat, alone.lon, alone.radius_km) == ("Paris", 48.8584, 2.2945, 25)
    assert "coordinate: stated by the model" in str(alone) and "stated by the model" in alone._repr_html_()
    assert json.loads(json.dumps(p.to_dict()))["answers"][0]["placed_by"] == "stated coordinate"
    assert "France × 1" in str(p) and p.counts[0][1] == 1 and sum(n for _, n in p.counts) == 4


def test_a_refusal_keeps_its_reasons_and_is_counted():
    no = "<think>A white wall.</think><answer>The location cannot be determined.</answer>"
    p = concluded("a", [from_text(i, "t", no) for i in range(3)])
    assert p.abstains and p.reasoning == "A white wall." and "cannot tell" in p.why
    assert p.counts == [("refused", 3)] and "refused × 3" in str(p) and "A white" in p._repr_html_()
    below = concluded("a", [from_text(0, "t", said("Paris", "France", sure=0.1))])
    assert below.abstains and "palm trees" in below.reasoning and below.placed_by == ""


def test_the_middle_of_a_country_is_nobodys_answer():
    texts = [said("Helsinki", "Finland")] * 3 + [said("", "Finland")] * 5
    p = concluded("a", [from_text(i, "t", t) for i, t in enumerate(texts)])
    assert (p.city, p.placed_by, p.agreement) == ("Helsinki", "city", 3 / 8)
    texts = [said("", "Germany")] * 7 + [said("Paris", "France")]
    p = concluded("a", [from_text(i, "t", t) for i, t in enumerate(texts)])
    assert (p.country, p.placed_by, p.agreement) == ("Germany", "country", 7 / 8)
