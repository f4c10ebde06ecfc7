"What a run promises as a whole: equal seeds give equal bytes, other inputs are never taken for the same."

import json, os, signal, subprocess, sys, time
from pathlib import Path

import psutil, pytest
from PIL import Image

from globe.models.checkpoints import FINISHED
from globe.photos import collections
from globe.pipeline import data
from globe.world import student
from globe.distillation.store import records
from globe.pipeline.comparisons import BACKBONES
from globe.pipeline.tasks import Run
from test_distill import Server


@pytest.fixture(scope="module")
def starts(tmp_path_factory):
    return {
        backbone: student.student(0, backbone).save(tmp_path_factory.mktemp(backbone))
        for backbone in BACKBONES
    }


@pytest.fixture
def run(starts, monkeypatch):
    "Runs of the profile smoke below a folder of their own, from untrained students."
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(Run, "base", lambda self, backbone="qwen2_5_vl": starts[backbone])

    def make(folder, **overrides):
        monkeypatch.setattr(data, "run_folder", lambda name="smoke": Path(folder))
        return Run("smoke", **overrides)

    return make


def files(folder):
    return {
        p.relative_to(folder): p.read_bytes()
        for p in sorted(Path(folder).rglob("*"))
        if p.is_file() and p.name not in ("manifest.json", "training_args.bin") and "datasets" not in p.parts
    }


def test_two_runs_give_the_same_bytes(run, tmp_path):
    for name in "ab":
        r = run(
            tmp_path / name,
            photos=dict(train=60, test=8),
            sft=dict(steps=2),
            grpo=dict(steps=2),
            segmenter=dict(photos=30, steps=20),
        )
        for model in ("sft", "internvl-sft", "grpo-accuracy"):
            r.answers(model, "test")
    a, b = files(tmp_path / "a"), files(tmp_path / "b")
    assert a.keys() == b.keys() and len(a) > 15
    others = FINISHED, "times.csv"
    assert [
        str(p) for p in a if a[p] != b[p] and p.suffix != ".jsonl" and p.name not in others
    ] == []  # answers of teachers carry their seconds, the note of a finished training its folder


def test_answers_that_an_endpoint_owes_are_asked_for_by_the_same_command(run, tmp_path, monkeypatch):
    "What fails for now stops the run and is asked for again, what is refused for good does not."
    with Server(*[500] * 4, 400) as s:
        r = run(
            tmp_path, photos=dict(train=8, test=2), teachers=dict(endpoints=[dict(urls=[s.url], model="m")])
        )
        monkeypatch.setattr(r, "teachers", lambda: [s.teacher(tries=2)])
        with pytest.raises(ConnectionError, match="2 requests failed"):
            r.judgements()
        asked = len(s.seen)
        assert (
            sorted(bool(a["error"]) for a in records(r.judgements())) == [False] * 8
            and len(s.seen) == asked + 3
        ), "two that failed and the one that was refused"


def test_photographs_of_one_name_in_two_folders_are_not_mixed_up(run, tmp_path):
    places = {"A": "29.98,31.13", "B": "48.86,2.35"}
    answers = {}
    for name, place in places.items():
        folder = tmp_path / name / "DCIM"
        folder.mkdir(parents=True)
        Image.new("RGB", (112, 112), "red" if name == "A" else "blue").save(folder / "IMG_1.jpg")
        (folder / "table.csv").write_text(f"file,lat,lon\nIMG_1.jpg,{place}\n")
        r = run(tmp_path / "run")
        _, out = r.own_judgements(collections.from_folder(folder))
        answers[name] = json.loads((out / "simulated-coordinates.jsonl").read_text())["lat"]
    assert abs(answers["A"] - 29.98) < 8 and abs(answers["B"] - 48.86) < 8
    made = json.loads((out / "manifest.json").read_text())
    assert made["key"]["parameters"]["seeds"] == {"simulated-a": 1, "simulated-coordinates": 3}
    assert {p.suffix for p in out.iterdir()} == {".json", ".jsonl"}


def test_a_part_of_a_benchmark_is_drawn_once_and_kept(run, tmp_path, capsys):
    folder = tmp_path / "benchmarks" / "mp16-reason-test"
    folder.mkdir(parents=True)
    for i in range(5):
        Image.effect_noise((112, 112), 80).convert("RGB").save(folder / f"{i}.jpg")
    rows = "".join(f"{i}.jpg,48.86,2.35\n" for i in range(5))
    (folder / "mp16-reason-test.csv").write_text(f"IMG_ID,LAT,LON\n{rows}")
    source = dict(source=str(folder.parent))
    ids = [run(tmp_path / n, photos=source | dict(test_limit=3)).photos("test")["id"] for n in ("a", "b")]
    assert list(ids[0]) == list(ids[1]) == sorted(ids[0]) and len(ids[0]) == 3
    assert "3 of 5 photographs" in capsys.readouterr().out
    whole = run(tmp_path / "a", photos=source | dict(test_limit=9)).photos("test")
    assert len(whole) == len(run(tmp_path / "c", photos=source).photos("test")) == 5
    counts = json.loads((tmp_path / "a/photos/test/manifest.json").read_text())["counts"]
    assert counts == dict(benchmark=5, rows=5)


def test_the_teachers_of_a_profile_answer_about_own_photographs(run, tmp_path):
    "No simulation reads the label beside them; other pictures of the same name are asked about again."
    asked = {}
    with Server() as s:
        teachers = dict(endpoints=[dict(urls=[s.url], model="m")])
        for colour in ("red", "blue"):
            folder = tmp_path / colour
            folder.mkdir()
            Image.new("RGB", (112, 112), colour).save(folder / "IMG_1.jpg")
            (folder / "table.csv").write_text("file,lat,lon\nIMG_1.jpg,48.86,2.35\n")
            r = run(tmp_path / "run", teachers=teachers)
            names, out = r.own_judgements(collections.from_folder(folder))
            asked[colour] = len(s.seen), names, [a["id"] for a in records(out)]
    assert asked == {c: (n, ["m"], ["IMG_1.jpg"]) for n, c in enumerate(asked, 1)}


def test_how_a_training_is_watched_trains_nothing_anew(run, tmp_path, monkeypatch):
    made = []

    def train(kind, base, data, folder, *more, **judge):
        made.append(kind)
        (folder / "model.safetensors").touch()

    monkeypatch.setattr("globe.training.launch.train", train)
    small = dict(photos=dict(train=60, test=8), segmenter=dict(photos=30, steps=20))
    for watched in ({}, dict(sample_steps=5, save_steps=7), dict(steps=2)):
        run(tmp_path, grpo=watched, **small).trained("grpo-accuracy")
    assert made == ["grpo", "grpo"], "steps count, pages of samples do not"


def test_another_hub_id_is_another_stage(run, tmp_path):
    made = []
    for model in ("someone/model-a", "someone/model-b", "someone/model-b"):
        run(tmp_path).make("stage", lambda folder: made.append(model), {}, "photos", [model])
    assert made == ["someone/model-a", "someone/model-b"]


def test_the_student_never_practises_on_the_photographs_of_a_run():
    seeds = {
        int(r["id"].split("-")[2])
        for seed in (0, 1, 77, 78, 10_000)
        for _, rows in student.fresh_batches(1, 3, seed)
        for r in rows
    }
    p = Run("mini").profile
    assert min(seeds) >= student.FIRST_SEED > max(p.photos.seed + 2, p.segmenter.seed) and max(seeds) < 2**32


POOL = """
import threading, time
from multiprocessing import active_children
from globe.processes import in_processes
if __name__ == "__main__":
    threading.Thread(target=in_processes, args=(time.sleep, [60, 60]), daemon=True).start()
    while len(active_children()) < 2: time.sleep(.05)
    print(*(p.pid for p in active_children()), flush=True)
    time.sleep(60)
"""


def test_trainings_end_with_the_run_that_wanted_them(tmp_path):
    "kill -9 of the run: what it trained side by side ends too, so that no stage stays locked."
    (tmp_path / "pool.py").write_text(POOL)
    with subprocess.Popen(
        [sys.executable, str(tmp_path / "pool.py")], stdout=subprocess.PIPE, text=True
    ) as p:
        workers = [int(w) for w in p.stdout.readline().split()]
        assert len(workers) == 2
        time.sleep(3)  # until they have imported what they need
        os.kill(p.pid, signal.SIGKILL)
    deadline = time.time() + 30
    while (
        alive := [
            w for w in workers if psutil.pid_exists(w) and psutil.Process(w).status() != psutil.STATUS_ZOMBIE
        ]
    ) and time.time() < deadline:
        time.sleep(0.2)
    assert not alive


def test_a_model_that_is_asked_for_twice_is_trained_once(run, tmp_path, monkeypatch):
    "With a core for each, two trainings of one model would find each other at work."
    from globe.pipeline import tasks

    made = []
    record = lambda work, jobs, most: made.append([job[2:] for job in jobs])
    monkeypatch.setattr(tasks, "in_processes", record)
    r = run(tmp_path, photos=dict(train=60, test=8), segmenter=dict(photos=30, steps=20))
    r.train([*r.models, *r.variants])
    first, trained, asked = made
    assert first == [("rows_of", "multi")]
    assert sorted(("answers", name, "test", seed) for _, name, seed in trained) == [
        a for a in sorted(asked) if a[2] == "test"
    ]
    assert {name for _, name, split, _ in asked if split == "shifted"} < {name for _, name, _ in trained}
    assert sorted(job[1:] for job in trained) == [
        ("grpo-accuracy", 0),
        ("grpo-all-readme", 0),
        ("grpo-all-recommended", 0),
        ("grpo-all-released", 0),
        ("grpo-distance", 0),
        ("grpo-statements", 0),
        ("sft", 0),
        ("sft@random", 0),
        ("sft@single", 0),
    ]


def test_the_manifest_of_judgements_names_its_teachers_and_their_seeds(run, tmp_path):
    "Cards read the names there: a teacher that is a simulation is never passed over in silence."
    r = run(tmp_path, photos=dict(train=4))
    settings = json.loads((r.judgements() / "manifest.json").read_text())["key"]["parameters"]
    assert settings["teachers"] == [t.name for t in r.teachers()]
    assert settings["seeds"] == {t.name: t.seed for t in r.teachers()}
