"""What comes in from outside: requests to the demo's page, and texts for every regular expression."""

import ast, json, re, signal, socket
from pathlib import Path

import pytest
from PIL import Image

import globe
from worst_texts import worst_bytes, worst_texts

# the page of `globe demo`


class Witness:
    "A model that keeps what it was asked."

    name, note = "witness", ""

    def __init__(self):
        self.asked = []

    def ask(self, rows, temperature):
        from globe.distillation.teachers import from_text

        for row in rows:
            self.asked.append(row["id"])
            yield from_text(row["id"], self.name, "country: France\ncity: Paris")


class Page:
    "The page under way, and requests to it."

    def __init__(self, made, url, model):
        import httpx

        self.client, self.model, self.url = httpx.Client(base_url=url, timeout=60), model, url.rstrip("/")
        config = self.client.get("/config").json()
        self.ids = {f["api_name"]: f["id"] for f in config["dependencies"]}
        self.takes_several = any(part["type"] == "gallery" for part in config["components"])

    def ask(self, *data, headers={}, name="look"):
        body = dict(data=list(data), fn_index=self.ids[name], session_hash="s")
        return self.client.post("/gradio_api/run/predict", json=body, headers=headers)

    def answer(self, pictures):
        "What the page shows at last."
        body = dict(data=[pictures, 1, 0.5], fn_index=self.ids["look"], session_hash="q")
        assert self.client.post("/gradio_api/queue/join", json=body).status_code == 200
        with self.client.stream("GET", "/gradio_api/queue/data?session_hash=q") as events:
            for line in events.iter_lines():
                if "process_completed" in line:
                    return line

    def upload(self, content, headers={}):
        return self.client.post("/gradio_api/upload", files=dict(files=("a.png", content)), headers=headers)


@pytest.fixture
def page(tmp_path):
    pytest.importorskip("gradio")
    from globe.app.demo import LOCAL, demo
    from globe.app.locate import Geolocator

    Image.new("RGB", (30, 30), "green").save(tmp_path / "example.png")
    model = Witness()
    made = demo(Geolocator(model), tmp_path / "own", [tmp_path / "example.png"])
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    _, url, _ = made.launch(**LOCAL, server_port=port, prevent_thread_lock=True)
    yield Page(made, url, model)
    made.close()


def test_the_demo_reads_uploaded_files_only(page, tmp_path):
    secret = tmp_path / "secret.png"
    Image.new("RGB", (30, 30), "red").save(secret)
    mark = dict(meta={"_type": "gradio.FileData"})
    for path in (secret, tmp_path, "/etc/hostname", tmp_path / "missing.png", "/proc/self/environ"):
        for more in ({}, mark):
            assert page.ask(dict(path=str(path)) | more, 1, 0.5).status_code == 403
    assert page.ask([dict(image=dict(path=str(secret)))], 1, 0.5).status_code == 403
    form, kind = ("Content-Type", "multipart/form-data; boundary=x"), ("Content-Type", "application/json")
    said = json.dumps(dict(data=[[dict(image=dict(path=str(secret)))], 1, 0.5], fn_index=page.ids["look"]))
    for headers in (
        [kind, form],
        [form, kind],
        [form],
        [("Content-Type", "multipart/x, application/json")],
        [],
    ):
        for path in ("run/predict", "queue/join", "call/look", "api/look", "run/predict?path=a&path=b"):
            answer = page.client.post(f"/gradio_api/{path}", content=said, headers=headers)
            assert answer.status_code == 403, (headers, path)
    inner = [json.dumps(dict(path=str(secret))), dict(image=str(secret)), [str(secret), None], str(secret)]
    for data in (*inner, *([one] for one in inner)):
        assert page.ask(data, 1, 0.5).status_code >= 400
    assert not page.model.asked
    uploaded = page.upload(secret.read_bytes()).json()[0]
    file = dict(path=uploaded) | mark
    page.answer([dict(image=file)] if page.takes_several else file)
    assert len(page.model.asked) == 1
    page.answer(page.ask(0, name="load_example").json()["data"][0]["value"])
    assert len(page.model.asked) == 2


def test_no_label_of_the_demo_covers_a_picture(page):
    "gradio draws the label of a gallery over a corner of its first picture."
    parts = page.client.get("/config").json()["components"]
    (gallery,) = [part for part in parts if part["type"] == "gallery"]
    assert gallery["props"]["show_label"] is False


def test_the_demo_answers_this_machine_only(page):
    here = page.url.partition("//")[2]
    port = here.rpartition(":")[2]
    for headers in (
        dict(Host="evil.example"),
        dict(Host=f"evil.example:{port}"),
        dict(Host=f"127.0.0.1.evil.example:{port}"),
        dict(Origin="http://evil.example"),
        dict(Origin="null"),
        dict(Origin="http://127.0.0.1:1"),
        {"X-Forwarded-Host": "evil.example"},
        {"Forwarded": "host=evil.example"},
    ):
        assert page.client.get("/config", headers=headers).status_code == 403
        assert (
            page.upload(b"x", headers).status_code
            == page.ask(None, 1, 0.5, headers=headers).status_code
            == 403
        )
    for headers in (dict(Origin=page.url), dict(Host=f"localhost:{port}")):
        assert page.client.get("/config", headers=headers).status_code == 200
        assert page.ask(None, 1, 0.5, headers=headers).status_code == 200


# regular expressions

MOST = 5.0  # seconds of processor time for one text at one door


@pytest.fixture(scope="module")
def doors(tmp_path_factory):
    "Whatever takes a text from outside."
    from globe.answers import completions, labels, mentions
    from globe.evaluation.columns import parted, read_coordinates
    from globe.evaluation.predictions import predictions
    from globe.csv_files import safe_cell
    from globe.foreign_text import file_name
    from globe.photos import official, tables
    from globe.photos.encodings import decoded
    from globe.places.match import locate, same_city, same_country
    from globe.places.sphere import degrees
    from globe.training import rewards
    from globe.training.visual_grounding import visual_grounding

    folder = tmp_path_factory.mktemp("tables")

    def table(text):
        (folder / "a.csv").write_text('id,text\na,"' + text.replace('"', '""').replace("\0", "") + '"\n')
        return tables.read_table(folder / "a.csv")

    label = dict(country=["France"], city=["Paris"])
    seen = [[dict(text="palm trees", share=0.2)]]
    return dict(
        predictions=lambda text: predictions([text], ["a"]),  # by `read_answer`
        own_reasoning=lambda text: completions.own_reasoning(text, "Where is it?", len(text)),
        loops=completions.loops,
        mentions=mentions.mentions,
        form=lambda text: rewards.form([text]),
        released_form=lambda text: rewards.form([text], released=True),
        geo_accuracy=lambda text: rewards.geo_accuracy([text], **label),
        visual_grounding=lambda text: visual_grounding([f"<think>{text}</think><answer>a</answer>"], seen),
        names=labels.names_no_place,  # of columns of predictions
        locate=lambda text: locate(text, text),
        same=lambda text: same_city(text, "Paris") or same_country(text, "France"),
        degrees=degrees,
        coordinates=lambda text: read_coordinates([text], [text], "a"),
        parted=lambda text: parted([text]),
        decoded=lambda text: decoded(text.encode("latin-1", "ignore") + b"\xb0", "a"),
        table=table,
        workbook_cell=safe_cell,
        file_name=file_name,
        solution=official._read_solution,
        entities=official._read_entities,
        image_id=official.image_id,
    )


def test_no_text_costs_more_than_its_length(doors):
    """Each regular expression of the package has its worst texts (see `worst_texts`), and each of them goes
    through every door. A pattern that is not linear by itself must see bounded text only."""

    slow = [
        (name, where, text[:30])
        for where, text in worst_texts()
        for name, door in doors.items()
        if is_late(door, text)
    ]
    assert not slow


def test_no_bytes_cost_more_than_their_length():
    "The same for the patterns that are searched for in files, each with its own worst bytes."
    found = list(worst_bytes())
    assert len({pattern.pattern for pattern, _ in found}) >= 3
    assert not [p.pattern for p, content in found if is_late(lambda c: list(p.finditer(c)), content)]
    assert is_late(lambda c: re.search(rb"\xff+[^\x00\xff]", c), b"\xff" * 100_000 + b"\0", 0.5)


def is_late(door, content, most=MOST):
    "Whether a door takes longer than so many seconds of processor time."

    def late(*args):
        raise TimeoutError

    handler = signal.signal(signal.SIGVTALRM, late)
    signal.setitimer(signal.ITIMER_VIRTUAL, most)
    try:
        door(content)
    except TimeoutError:
        return True
    except ValueError:
        pass  # a refusal
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, handler)
    return False


def test_no_model_brings_code_along():
    "Every call that loads a model by an automatic class says so: what a call leaves open, transformers asks for."
    loading, open_calls = 0, []
    for path in sorted(Path(globe.__file__).parent.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        shared = re.search(r"how = dict\([^)]*trust_remote_code=False", text)
        for call in ast.walk(ast.parse(text)):
            if not isinstance(call, ast.Call) or not re.search(
                r"\bAuto\w+\.from_pretrained$", ast.unparse(call.func)
            ):
                continue
            loading += 1
            said = ast.unparse(call)
            if "trust_remote_code=False" not in said and not (shared and "**how" in said):
                open_calls.append(f"{path.name}: {said}")
    assert loading >= 4 and not open_calls
