"""Answers are asked for once, survive whatever happens, and a bad endpoint costs nothing but time."""

import base64, contextlib, datetime, decimal, io, json, os, re, shutil, signal, socket, sqlite3, struct, subprocess, sys
import threading, time, urllib.request, warnings, zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from pathlib import Path

import pytest
from datasets import Dataset, Features, Image, Value
from filelock import FileLock
from PIL import Image as PIL

from globe.cli import main
from globe.distillation.distill import distill, ray_distill
from globe.answers.replies import Reply, chat_answer
from globe.distillation.store import (
    Answers,
    AnswerStore,
    answer_files,
    answered,
    judgements,
    key,
    outcomes,
    photo_keys,
    records,
)
from globe.distillation.teachers import EndpointTeacher, VLMTeacher, from_text, judgement
from globe.exchange import _LARGEST
from globe.models.client import _STRIKES
from globe.world.simulated import CoordinateTeacher, SimulatedTeacher
from globe.world.postcards import postcards
from globe.models.vlm import load
from globe.world.student import student

ANSWER = (
    "<think>A flag.</think>\n<answer>\ncountry: [Finland]\ncity: [Helsinki]\nlocalizability: 0.9\n</answer>"
)
FEATURES = Features(
    dict(
        id=Value("string"),
        image=Image(),
        lat=Value("float64"),
        lon=Value("float64"),
        city=Value("string"),
        country=Value("string"),
        country_code=Value("string"),
    )
)


def photo(i):
    return dict(
        id=f"p{i}",
        image=PIL.new("RGB", (32, 24), (i % 255, 99, 9)),
        lat=48.86,
        lon=2.35,
        city="Paris",
        country="France",
        country_code="FR",
    )


def photos(n):
    return Dataset.from_list([photo(i) for i in range(n)], features=FEATURES)


def lines(path):
    return [json.loads(l) for l in path.read_bytes().split(b"\n") if l]


def ids(path):
    return [r["id"] for r in lines(path.with_suffix(".jsonl"))]


def stored(path):
    "How many judgements stand in a store, also while a run writes it."
    try:
        with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
            return db.execute("SELECT count(*) FROM answers").fetchone()[0]
    except sqlite3.OperationalError:  # not there yet
        return 0


def only_lines(folder):
    "Leave what an earlier version would have left: JSON lines."
    for p in folder.glob("*.sqlite*"):
        p.unlink()


class Counting(SimulatedTeacher):
    "Remembers whom it was asked about."

    def __init__(self, *a, **k):
        super().__init__(*a, **k)
        self.asked = []

    def answer(self, row):
        self.asked.append(row["id"])
        return super().answer(row)


# --- never twice, never lost ---

SLOW = """
import sys, time
sys.path.insert(0, {tests!r})
from test_distill import *
class Slow(SimulatedTeacher):
    def answer(self, row): time.sleep(.01); return super().answer(row)
distill(photos(120), [Slow("simulated-a")], {out!r}, watch=False)
"""


def test_kill_9_in_the_middle_loses_and_doubles_nothing(tmp_path):
    path = tmp_path / "simulated-a.sqlite"
    code = SLOW.format(tests=os.path.dirname(__file__), out=str(tmp_path))
    run = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    try:
        until = time.time() + 120
        while run.poll() is None and stored(path) < 20 and time.time() < until:
            time.sleep(0.005)
        assert run.poll() is None, "the run ended before it could be killed"
    finally:
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
    before = len(list(records(tmp_path)))
    assert 20 <= before < 120 and not path.with_suffix(".jsonl").exists()
    teacher = Counting("simulated-a")
    distill(photos(120), [teacher], tmp_path, watch=False)
    assert sorted(ids(path)) == sorted(f"p{i}" for i in range(120))
    assert len(teacher.asked) == 120 - before
    distill(photos(120), [SimulatedTeacher("simulated-a")], tmp_path / "whole", watch=False)
    whole = tmp_path / "whole" / "simulated-a.jsonl"
    assert path.with_suffix(".jsonl").read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("cut", [1, 7, 150, 333, 334, 1000])
def test_a_file_cut_anywhere_is_completed_to_the_same_bytes(tmp_path, cut):
    path = tmp_path / "simulated-a.jsonl"
    distill(photos(6), [SimulatedTeacher()], tmp_path, watch=False)
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    only_lines(tmp_path)
    distill(photos(6), [SimulatedTeacher()], tmp_path, watch=False)
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    "rubbish", [b"null\n", b"[1]\n", b"{}\n", b"\x00\xff\xfe\n", b'{"id": "p0", "error": ""', b"\n"]
)
def test_rubbish_in_the_file_is_dropped(tmp_path, rubbish):
    path = tmp_path / "t.jsonl"
    good = json.dumps(dict(id="p1", error="")).encode() + b"\n" if rubbish.endswith(b"\n") else b""
    path.write_bytes(rubbish + good)
    lost = pytest.warns(UserWarning, match="t.jsonl: 1 lines are no judgements")
    with lost if rubbish.strip() else contextlib.nullcontext():
        assert list(answered(path)[0]) == [key("p1")] * bool(good)
    with AnswerStore(tmp_path / "t.sqlite"):
        pass
    assert path.read_bytes() == good


def test_a_last_line_that_is_whole_needs_no_newline(tmp_path):
    (tmp_path / "t.jsonl").write_text("\n".join(json.dumps(judgement(f"p{i}", "t")) for i in range(3)))
    with warnings.catch_warnings(action="error"):
        assert [r["id"] for r in records(tmp_path)] == ["p0", "p1", "p2"]


def test_failed_answers_are_asked_again_and_only_those(tmp_path):
    class Moody(Counting):
        def answer(self, row):
            r = super().answer(row)
            return r | dict(error="HTTP 500") if row["id"] == "p2" else r

    assert distill(photos(5), [Moody()], tmp_path, watch=False).failed.tolist() == [1]
    better = Counting()
    distill(photos(5), [better], tmp_path, watch=False)
    assert better.asked == ["p2"]
    assert sorted(ids(tmp_path / "simulated-a.jsonl")) == [f"p{i}" for i in range(5)]


def test_more_photos_later_cost_only_themselves(tmp_path):
    distill(photos(3), [SimulatedTeacher()], tmp_path, watch=False)
    later = Counting()
    distill(photos(7), [later], tmp_path, watch=False)
    assert later.asked == ["p3", "p4", "p5", "p6"]


def test_a_broken_picture_is_a_record_with_an_error(tmp_path):
    rows = [photo(i) for i in range(3)]
    rows[1]["image"] = dict(bytes=b"\xff\xd8 not a picture", path=None)
    distill(
        Dataset.from_list(rows, features=FEATURES),
        [SimulatedTeacher(), CoordinateTeacher()],
        tmp_path,
        watch=False,
    )
    for name in ["simulated-a", "simulated-coordinates"]:
        got = {r["id"]: r["error"] for r in lines(tmp_path / f"{name}.jsonl")}
        assert len(got) == 3 and got["p1"].startswith("picture:") and not got["p0"] + got["p2"]


def png(side):
    "A picture that says it is `side` pixels wide and high, and is not."
    chunk = lambda kind, data: (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    )
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    "image, why", [(dict(bytes=png(60_000), path=None), "decompression bomb"), (None, "there is none")]
)
def test_a_bomb_and_a_missing_picture_are_records_with_an_error(tmp_path, image, why):
    rows = [photo(i) for i in range(3)]
    rows[1]["image"] = image
    with Server() as s:
        counts = distill(
            Dataset.from_list(rows, features=FEATURES),
            [s.teacher(), SimulatedTeacher()],
            tmp_path,
            watch=False,
        )
    assert counts.failed.tolist() == [1, 1] and len(s.seen) == 2
    assert all(
        r["error"].startswith("picture:") == (why in r["error"]) == (r["id"] == "p1")
        for r in records(tmp_path)
    )


def test_two_runs_on_one_file_do_not_mix(tmp_path):
    with FileLock(tmp_path / "simulated-a.sqlite.lock"), pytest.raises(RuntimeError, match="another run"):
        distill(photos(1), [SimulatedTeacher()], tmp_path, watch=False)


def test_two_processes_at_once_pay_for_no_photo_twice(tmp_path):
    code = SLOW.format(tests=os.path.dirname(__file__), out=str(tmp_path))
    runs = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) for _ in "ab"]
    ends = [(run.communicate(timeout=200)[1], run.returncode) for run in runs]
    assert 0 in [code for _, code in ends]
    assert all("another run is writing" in said for said, code in ends if code)
    assert sorted(ids(tmp_path / "simulated-a.sqlite")) == sorted(f"p{i}" for i in range(120))


@pytest.mark.parametrize(
    "first, second, fits",
    [(None, (1, 2), False), ((1, 2), None, False), ((1, 2), (2, 12), False), ((1, 2), (2, 2), True)],
)
def test_runs_of_another_division_are_refused_and_other_shards_of_the_same_are_not(
    tmp_path, first, second, fits
):
    go, here = threading.Event(), threading.Event()

    class Waiting(SimulatedTeacher):
        def answer(self, row):
            here.set()
            go.wait(60)
            return super().answer(row)

    run = threading.Thread(target=distill, args=(photos(20), [Waiting()], tmp_path, False, first))
    run.start()
    try:
        assert here.wait(60)
        if fits:
            distill(photos(20), [SimulatedTeacher()], tmp_path, False, second)
        else:
            with pytest.raises(RuntimeError, match="another division"):
                distill(photos(20), [SimulatedTeacher()], tmp_path, False, second)
        distill(
            photos(20), [SimulatedTeacher("simulated-b")], tmp_path, False, second
        )  # another teacher is nobody's business
    finally:
        go.set()
        run.join()
    distill(photos(20), [SimulatedTeacher()], tmp_path, False, second)  # free again
    found = [i for p in answer_files(tmp_path)["simulated-a"] for i in ids(p)]
    assert len(found) == len(set(found))


FULL = """
import resource, signal, sys
sys.path.insert(0, {tests!r})
from test_distill import *
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
data = photos(40)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try: distill(data, [SimulatedTeacher("simulated-a")], {out!r}, watch=False)
except OSError as e: print(e)
"""


def test_a_full_disk_is_one_clear_line_and_no_torn_answer(tmp_path):
    code = FULL.format(tests=os.path.dirname(__file__), out=str(tmp_path))
    said = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | dict(HF_DATASETS_CACHE=str(tmp_path / "hf")),
    )
    assert "no space left" in said.stdout and "the same command again" in said.stdout, said.stderr
    path = tmp_path / "simulated-a.sqlite"
    before = [r["id"] for r in records(tmp_path)]
    assert 0 < len(before) < 40
    teacher = Counting("simulated-a")
    distill(photos(40), [teacher], tmp_path, watch=False)
    assert len(teacher.asked) == 40 - len(before)
    assert sorted(ids(path)) == sorted(f"p{i}" for i in range(40))


def test_an_export_on_a_full_disk_says_so_and_loses_nothing(tmp_path, monkeypatch):
    def full(old, new):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as m:
        m.setattr(os, "replace", full)
        with pytest.raises(OSError, match="space .*simulated-a.sqlite"):
            distill(photos(4), [SimulatedTeacher()], tmp_path, watch=False)
    later = Counting()
    distill(photos(4), [later], tmp_path, watch=False)
    assert not later.asked and ids(tmp_path / "simulated-a.sqlite") == [f"p{i}" for i in range(4)]


def filled(folder, n=60):
    "The path of a store with the answers to `n` photos, of about two on a page, and of their JSON lines."
    path = folder / "simulated-a.sqlite"
    with AnswerStore(path) as store:
        for i in range(n):
            store.write(judgement(f"p{i}", "simulated-a", text="x" * 1200, prompt="teacher"))
    return path


def with_bad_page(path, page):
    with open(path, "r+b") as file:
        file.seek(4096 * page)
        file.write(b"\xff" * 4096)


def test_a_store_that_is_no_database_is_set_aside_and_its_lines_are_taken_over(tmp_path):
    distill(photos(4), [SimulatedTeacher()], tmp_path, watch=False)
    path = tmp_path / "simulated-a.sqlite"
    path.write_bytes(b"this is no store" * 300)
    said = "is damaged .*0 of its answers can be read, 4 more are in simulated-a.jsonl, an unknown number"
    with pytest.warns(UserWarning, match=said):
        assert len(list(records(tmp_path))) == 4
    later = Counting()
    with pytest.warns(UserWarning, match=said):
        with pytest.warns(
            UserWarning, match="kept as .*simulated-a.sqlite.damaged; lost answers are requested"
        ):
            distill(photos(5), [later], tmp_path, watch=False)
    assert later.asked == ["p4"] and path.with_name("simulated-a.sqlite.damaged").stat().st_size == 4800
    with warnings.catch_warnings(action="error"):
        assert len(list(records(tmp_path))) == 5


@pytest.mark.parametrize("change", ['\'{"id": "p1\'', "cast(x'ff00fe' as text)", "'[1]'", "NULL"])
def test_a_record_that_is_damaged_costs_at_most_itself(tmp_path, change):
    distill(photos(4), [SimulatedTeacher()], tmp_path, watch=False)
    path = tmp_path / "simulated-a.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute(f"UPDATE answers SET record = {change} WHERE id = 'p1'")
        db.commit()
    content, whole = path.read_bytes(), path.with_suffix(".jsonl").read_bytes()
    for use in (
        lambda: [r["id"] for r in records(tmp_path)],
        lambda: list(Answers(tmp_path)),
        lambda: [id for _, id, error in outcomes(tmp_path)],
    ):
        with pytest.warns(
            UserWarning, match="3 of its answers can be read, 1 more are in .*jsonl, 0 are lost"
        ):
            assert sorted(use()) == ["p0", "p1", "p2", "p3"]
    later = Counting()
    with pytest.warns(UserWarning, match="0 are lost"):
        distill(photos(4), [later], tmp_path, watch=False)
    assert not later.asked and sorted(path.with_suffix(".jsonl").read_bytes().split()) == sorted(
        whole.split()
    )
    path.write_bytes(content)
    path.with_suffix(".jsonl").unlink()
    with pytest.warns(UserWarning, match="3 of its answers can be read, 0 more .*, 1 are lost"):
        distill(photos(4), [later], tmp_path, watch=False)
    assert later.asked == ["p1"] and len(list(records(tmp_path))) == 4


def test_every_page_may_be_bad_and_the_others_are_read(tmp_path):
    "A run goes on, keeps what can be read, and says how many answers it keeps and lacks."
    whole = filled(tmp_path).read_bytes()
    pages, kept = len(whole) // 4096, []
    assert pages > 20
    for page in range(pages):
        out = tmp_path / str(page)
        out.mkdir()
        path = out / "simulated-a.sqlite"
        path.write_bytes(whole)
        with_bad_page(path, page)
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            read = len(list(records(out)))
            with AnswerStore(path) as store:
                (n,) = store.db.execute("SELECT count(*) FROM answers").fetchone()
        kept.append(n)
        said = " ".join(str(w.message) for w in seen)
        told = re.search(r"(\d+) of its answers can be read, 0 more [^,]*, ([^,]*) are lost", said)
        assert n == read == int(told[1]) and told[2] in (str(60 - n), "an unknown number"), (page, told[0])
        assert Path(f"{path}.damaged").read_bytes()[: 4096 * page] == whole[: 4096 * page]
        with warnings.catch_warnings(action="error"):
            assert len(list(records(out))) == n
    with open(path := tmp_path / "simulated-a.sqlite", "r+b") as file:
        file.seek(200)
        file.write(b"\xff" * 3896)  # the definition of the table
    with pytest.warns(UserWarning, match="60 of its answers can be read"):
        path.with_suffix(".jsonl").unlink()
        assert len(list(records(tmp_path))) == 60
    assert sum(n < 55 for n in kept) <= 1, kept  # the page that leads to all others
    assert kept[0] == 60  # it holds what every store begins with


def test_a_store_that_is_cut_keeps_its_beginning_and_its_log(tmp_path):
    path = filled(tmp_path)
    path.write_bytes(path.read_bytes()[: 4096 * 12 + 100])
    path.with_suffix(".jsonl").unlink()
    with pytest.warns(UserWarning, match="of its answers can be read"):
        assert 10 < len(list(records(tmp_path))) < 60
    store = AnswerStore(tmp_path / "b.sqlite")
    for i in range(40):
        store.write(judgement(f"p{i}", "b", text="x" * 1200))
    there = tmp_path / "killed"
    there.mkdir()
    for part in ("", "-wal"):
        shutil.copy(f"{store.path}{part}", there)
    store.__exit__(None)
    with open(
        there / "b.sqlite-wal", "r+b"
    ) as log:  # a bad page in the log, which hides the frames behind it
        log.seek(20 * 4120)
        log.write(b"\xff" * 4096)
    assert 0 < len(list(records(there))) < 40
    with AnswerStore(there / "b.sqlite"):
        pass
    assert 0 < len(list(records(there))) < 40


def test_a_kill_between_both_renamings_of_a_repair_loses_nothing(tmp_path, monkeypatch):
    path = filled(tmp_path)
    with_bad_page(path, 9)
    path.with_suffix(".jsonl").unlink()

    def killed(old, new):
        raise KeyboardInterrupt

    with monkeypatch.context() as m, pytest.raises(KeyboardInterrupt), pytest.warns(UserWarning):
        m.setattr(os, "replace", killed)
        AnswerStore(path)
    assert not path.exists() and Path(f"{path}.damaged").exists()
    with AnswerStore(path):
        pass
    assert len(list(records(tmp_path))) >= 56 and not Path(f"{path}.part").exists()


def test_a_repair_that_was_killed_is_begun_anew_and_another_database_is_named(tmp_path):
    path = filled(tmp_path)
    with_bad_page(path, 9)
    path.with_suffix(".jsonl").unlink()
    Path(f"{path}.part").write_bytes(path.read_bytes()[:9999])
    with pytest.warns(UserWarning, match="of its answers can be read"), AnswerStore(path):
        pass
    assert len(list(records(tmp_path))) >= 56 and not list(tmp_path.glob("*.part*"))
    with contextlib.closing(sqlite3.connect(tmp_path / "other.sqlite")) as db:
        db.execute("CREATE TABLE answers (question TEXT)")
    for use in (lambda: AnswerStore(tmp_path / "other.sqlite"), lambda: list(records(tmp_path, ["other"]))):
        with pytest.raises(ValueError, match="other.sqlite is no store of answers .*move it away"):
            use()


def test_lines_that_were_edited_are_kept_and_named(tmp_path):
    path = filled(tmp_path, 3)
    text = path.with_suffix(".jsonl").read_text().replace('"city": ""', '"city": "Lahti"', 1)
    first, second, third = text.splitlines(keepends=True)
    path.with_suffix(".jsonl").write_text(first + second + "my remark\n")
    with pytest.warns(UserWarning, match="1 lines are no judgements"):
        with pytest.warns(UserWarning, match="1 answers in .*jsonl differ from those in simulated-a.sqlite"):
            assert [r["city"] for r in records(tmp_path)] == ["", "", ""]
    said = "1 answers differ from those in simulated-a.sqlite, which are used, 1 are missing, 1 lines are no "
    for _ in range(2):
        with pytest.warns(
            UserWarning, match=said + "judgements.*a copy is kept as .*simulated-a.jsonl.changed"
        ):
            store = AnswerStore(path)
        store.db.execute("PRAGMA user_version = 7")  # as after a kill before the lines were taken over
        store.db.close()
    with warnings.catch_warnings(action="ignore"), AnswerStore(path) as store:
        store.lines.write_text(first)  # while the run is writing
        store.export()
    kept = sorted(p.read_text() for p in tmp_path.glob("*.changed*"))
    assert kept == sorted([first + second + "my remark\n", first])
    assert len(lines(path.with_suffix(".jsonl"))) == 3
    with warnings.catch_warnings(action="error"), AnswerStore(path):
        pass


def test_a_store_that_is_copied_without_its_log_is_named(tmp_path):
    (tmp_path / "copy").mkdir()
    store = AnswerStore(tmp_path / "simulated-a.sqlite")
    store.write(judgement("p0", "simulated-a"))
    shutil.copy(store.path, tmp_path / "copy")
    said = "copy/simulated-a.sqlite may lack answers.*copy both.*requests the lost answers again"
    for _ in range(2):  # the first read leaves an empty log
        with pytest.warns(UserWarning, match=said):
            assert not list(records(tmp_path / "copy"))
    with pytest.warns(UserWarning, match=said):
        distill(photos(2), [SimulatedTeacher()], tmp_path / "copy", watch=False)
    (tmp_path / "both").mkdir()
    for path in (store.path, f"{store.path}-wal"):
        shutil.copy(path, tmp_path / "both")
    with warnings.catch_warnings(action="error"):
        assert len(list(records(tmp_path / "both"))) == 1
    store.__exit__(None)
    with warnings.catch_warnings(action="error"):
        assert len(list(records(tmp_path))) == 1
        with AnswerStore(store.path):  # a run that has written nothing yet
            assert len(list(records(tmp_path))) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="needs a folder that not even root can write to")
def test_a_folder_that_cannot_be_written_to_is_named_with_what_to_do(tmp_path, capsys):
    from globe.files import write_atomic
    from globe.locks import acquired, alone

    said = "^.*?/proc(/out)? cannot be written to .*make it writable, or give another folder"
    for use in (
        lambda: write_atomic("/proc/a.csv", ""),
        lambda: acquired("/proc/a.lock"),
        lambda: alone("/proc/out").__enter__(),
    ):
        with pytest.raises(OSError, match=said):
            use()
    PIL.new("RGB", (30, 30)).save(tmp_path / "a.png")
    assert main(["distill", str(tmp_path), "--out", "/proc/out", "--endpoint", "http://127.0.0.1:9 m"]) == 1
    assert re.search(said, capsys.readouterr().err, re.M)


def test_a_store_that_is_no_file_or_cannot_be_written_is_named(tmp_path):
    (tmp_path / "simulated-a.sqlite").mkdir()
    for use in (
        lambda: list(records(tmp_path)),
        lambda: distill(photos(4), [Counting()], tmp_path, watch=False),
    ):
        with pytest.raises(OSError, match="simulated-a.sqlite cannot be opened"):
            use()


def test_lines_copied_from_another_machine_are_taken_over(tmp_path):
    distill(photos(4), [SimulatedTeacher()], tmp_path / "there", watch=False)
    distill(photos(2), [SimulatedTeacher()], tmp_path / "here", watch=False)
    name = "simulated-a.jsonl"
    (tmp_path / "here" / name).write_bytes((tmp_path / "there" / name).read_bytes())
    assert len(list(records(tmp_path / "here"))) == len(Answers(tmp_path / "here")) == 4
    later = Counting()
    distill(photos(4), [later], tmp_path / "here", watch=False)
    assert not later.asked and sorted(ids(tmp_path / "here" / name)) == [f"p{i}" for i in range(4)]


def test_answers_are_read_while_a_run_writes_them(tmp_path):
    seen = []

    class Watched(SimulatedTeacher):
        def answer(self, row):
            seen.append(stored(tmp_path / "simulated-a.sqlite"))
            return super().answer(row)

    distill(photos(5), [Watched()], tmp_path, watch=False)
    assert seen == list(range(5)) == sorted(seen) and len(list(outcomes(tmp_path))) == 5


def test_doubled_ids_and_names_are_refused(tmp_path):
    with pytest.raises(ValueError, match="'p1' occurs twice"):
        distill(Dataset.from_list([photo(1), photo(1)], features=FEATURES), [SimulatedTeacher()], tmp_path)
    with pytest.raises(ValueError, match="share a name"):
        distill(photos(1), [SimulatedTeacher(), SimulatedTeacher()], tmp_path)
    with pytest.raises(FileNotFoundError, match="run `distill` first"):
        judgements(tmp_path)


@pytest.mark.parametrize(
    "some",
    [
        [b"a", b"b"],
        [datetime.datetime(2020, 1, 1), datetime.datetime(2020, 1, 2)],
        [decimal.Decimal("1.10"), decimal.Decimal("2.0")],
        [1.0, 2.5],
        [True, False],
    ],
)
def test_ids_of_any_kind_are_stored_as_text_and_asked_about_once(tmp_path, some):
    photographs = photos(2).remove_columns("id").add_column("id", some)
    told = [distill(photographs, [Counting("simulated-a")], tmp_path, watch=False) for _ in "ab"]
    assert [t.asked.item() for t in told] == [2, 0]
    assert (
        all(isinstance(id, str) for id in judgements(tmp_path).id)
        and len(ids(tmp_path / "simulated-a.sqlite")) == 2
    )


def test_a_photo_without_an_id_is_refused_before_anything_is_asked(tmp_path):
    photographs, teacher = (
        photos(2).remove_columns("id").add_column("id", ["a", None]),
        Counting("simulated-a"),
    )
    with pytest.raises(ValueError, match="row 2"):
        distill(photographs, [teacher], tmp_path, watch=False)
    assert not teacher.asked


def test_simulated_answers_depend_on_teacher_and_photo_only(tmp_path):
    distill(photos(8), [SimulatedTeacher()], tmp_path / "a", watch=False)
    distill(photos(8).select([5, 2, 7]), [SimulatedTeacher()], tmp_path / "b", watch=False)
    a, b = ({r["id"]: r for r in lines(tmp_path / k / "simulated-a.jsonl")} for k in "ab")
    assert b == {i: a[i] for i in ["p5", "p2", "p7"]}


# --- shards ---


@pytest.mark.parametrize("shard", [None, (1, 2), (2, 2)])
def test_a_teacher_with_the_name_of_a_shard_is_asked_once(tmp_path, shard):
    names = ["simulated-a", "simulated-a.shard-1-of-2", "simulated%2Ea"]
    told = [distill(photos(9), [SimulatedTeacher(n) for n in names], tmp_path, False, shard) for _ in "ab"]
    assert told[0].asked.tolist() == told[0].photos.tolist() and told[1].asked.tolist() == [0, 0, 0]
    assert set(answer_files(tmp_path)) == set(names) == set(judgements(tmp_path).teacher)
    whole = distill(photos(9), [SimulatedTeacher(n) for n in names], tmp_path, False)
    assert (whole.known == told[0].photos).all()


def by_id(rows):
    return sorted(rows, key=lambda r: r["id"])


def test_shards_cover_every_photo_once_in_any_order(tmp_path):
    distill(photos(60), [SimulatedTeacher()], tmp_path / "whole", watch=False)
    asked = [
        distill(photos(60), [SimulatedTeacher()], tmp_path / "parts", watch=False, shard=(i, 4)).asked[0]
        for i in (3, 1, 4, 2)
    ]
    assert sum(asked) == 60 and min(asked) > 5 and len(answer_files(tmp_path / "parts")["simulated-a"]) == 4
    assert by_id(records(tmp_path / "parts")) == by_id(records(tmp_path / "whole"))
    more = [set(ids(p)) for p in answer_files(tmp_path / "parts")["simulated-a"]]
    distill(photos(90), [SimulatedTeacher()], tmp_path / "parts", watch=False, shard=(1, 4))
    assert more[0] <= set(ids(answer_files(tmp_path / "parts")["simulated-a"][0])), (
        "a photo stays in its shard when others are added"
    )


def test_another_division_pays_for_nothing_twice(tmp_path):
    distill(photos(40), [SimulatedTeacher()], tmp_path, watch=False, shard=(2, 4))
    first = len(list(records(tmp_path)))
    asked = [
        distill(photos(40), [SimulatedTeacher()], tmp_path, watch=False, shard=s).asked[0]
        for s in [(1, 3), (2, 3), (3, 3), None]
    ]
    assert sum(asked) == 40 - first and asked[-1] == 0 and len(list(records(tmp_path))) == 40


def test_a_failure_in_one_file_does_not_hide_the_answer_in_another(tmp_path):
    bad = judgement("p0", "simulated-a", error="HTTP 500")
    (tmp_path / "simulated-a.shard-1-of-2.jsonl").write_text(json.dumps(bad) + "\n")
    (tmp_path / "simulated-a.shard-1-of-3.jsonl").write_text(
        json.dumps(from_text("p0", "simulated-a", ANSWER)) + "\n"
    )
    from globe.validation.ledger import _by_photo

    for source in (list(records(tmp_path)), list(records(tmp_path))[::-1], tmp_path):
        assert _by_photo(source)[0]["p0"]["simulated-a"]["city"] == "Helsinki"


def test_answers_are_found_on_disk_whatever_the_files(tmp_path):
    teachers = [SimulatedTeacher(), CoordinateTeacher()]
    for i in (1, 2, 3):
        distill(photos(30), teachers[:1], tmp_path, watch=False, shard=(i, 3))
    distill(photos(20), teachers[1:], tmp_path, watch=False)
    answers, wanted = Answers(tmp_path), {}
    for r in records(tmp_path):
        wanted.setdefault(r["id"], {})[r["teacher"]] = r
    assert (
        len(answers) == 30
        and set(answers) == set(wanted)
        and all(answers[i] == wanted[i] for i in wanted)
        and answers.get("p99", {}) == {}
    )
    assert list(answers["p25"]) == ["simulated-a"] and set(
        Answers(tmp_path, ["simulated-coordinates"])["p3"]
    ) == {"simulated-coordinates"}


def test_a_torn_line_is_no_answer_and_hides_none(tmp_path):
    distill(photos(5), [SimulatedTeacher()], tmp_path, watch=False)
    path = tmp_path / "simulated-a.jsonl"
    path.write_bytes(path.read_bytes()[:-60])
    only_lines(tmp_path)
    assert len(list(records(tmp_path))) == len(Answers(tmp_path)) == 4 and "p4" not in Answers(tmp_path)


@pytest.mark.parametrize(
    "odd",
    [
        b"null\n",
        b"{}\n",
        b'{"id": "p9"}\n',
        b'{"id": ["p9"], "error": ""}\n',
        b"[" * 100_000 + b"\n",
        b"\xff\n",
        b"7\n",
    ],
)
def test_all_readers_pass_over_the_same_lines(tmp_path, odd):
    distill(photos(3), [SimulatedTeacher()], tmp_path, watch=False)
    path = tmp_path / "simulated-a.jsonl"
    path.write_bytes(odd + path.read_bytes() + odd)
    only_lines(tmp_path)
    assert (
        len(list(records(tmp_path))) == len(Answers(tmp_path)) == len(list(Answers(tmp_path))) == 3
        and Answers(tmp_path)["p2"]["simulated-a"]["id"] == "p2"
    )
    assert (
        distill(photos(3), [SimulatedTeacher()], tmp_path, watch=False).asked.tolist() == [0]
        and len(lines(path)) == 3
    )


def test_an_answer_to_an_older_prompt_is_asked_for_again_and_kept(tmp_path):
    said = [
        from_text("p0", "org_Model-7B", ANSWER, prompt="teacher-0"),
        from_text("p1", "org_Model-7B", ANSWER, prompt="teacher-1"),
        from_text("p2", "org_Model-7B", ANSWER),
    ]
    del said[2]["prompt"]
    path = tmp_path / "org_Model-7B.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in said))
    (tmp_path / "org_Model-7B.shard-1-of-1.jsonl").write_bytes(path.read_bytes())  # of another division
    with Server() as s:
        for asked in (1, 0):
            assert distill(photos(3), [s.teacher()], tmp_path, watch=False).asked.tolist() == [asked]
    assert len(s.seen) == 1 and stored(tmp_path / "org_Model-7B.sqlite") == 4
    assert {r["id"]: r.get("prompt") for r in records(tmp_path)} == dict(
        p0="teacher-1", p1="teacher-1", p2=None
    ) and Answers(tmp_path)["p0"]["org_Model-7B"]["prompt"] == "teacher-1"


def test_a_shard_that_is_not_there_is_refused(tmp_path):
    for shard in [(0, 4), (5, 4)]:
        with pytest.raises(ValueError, match="counted from 1"):
            distill(photos(3), [SimulatedTeacher()], tmp_path, watch=False, shard=shard)


def test_two_workers_of_a_ray_cluster_answer_every_photo(tmp_path):
    ray = pytest.importorskip("ray")
    pytest.importorskip("ray.data")
    photos(30).save_to_disk(tmp_path / "photos")
    source, out = str(tmp_path / "photos"), str(tmp_path / "out")

    def load():
        from datasets import load_from_disk

        return load_from_disk(source)

    def teachers():
        from globe.world.simulated import SimulatedTeacher

        return [SimulatedTeacher()]

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100_000_000)
    try:
        first, again = ray_distill(load, teachers, out, shards=4), ray_distill(load, teachers, out, shards=4)
    finally:
        ray.shutdown()
    assert first.asked.sum() == 30 and again.asked.sum() == 0 and sorted(first["shard"]) == [1, 2, 3, 4]
    distill(photos(30), [SimulatedTeacher()], tmp_path / "whole", watch=False)
    assert by_id(records(out)) == by_id(records(tmp_path / "whole"))


# --- a real server that behaves badly ---


class Server:
    "Speaks OpenAI's protocol; `plan` names what each request meets, then all is well."

    def __init__(self, *plan):
        self.plan, self.seen, self.heads, self.open, self.most, self.lock = (
            list(plan),
            [],
            [],
            0,
            0,
            threading.Lock(),
        )
        outer, self.models = self, []

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *a):
                pass

            def do_GET(self):
                self.send_response(200 if outer.models else 404)
                self.end_headers()
                self.wfile.write(json.dumps(dict(data=[dict(id=m) for m in outer.models])).encode())

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer.lock:
                    outer.seen.append(body)
                    outer.heads.append(dict(self.headers))
                    outer.open += 1
                    outer.most = max(outer.most, outer.open)
                    what = outer.plan.pop(0) if outer.plan else "ok"
                try:
                    outer.behave(self, what)
                except OSError:
                    pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"

    def behave(self, h, what):
        reply = lambda **choice: json.dumps(
            dict(
                choices=[dict(message=dict(content=ANSWER)) | choice],
                usage=dict(prompt_tokens=900, completion_tokens=40),
            )
        ).encode()
        good = reply(finish_reason="stop")
        code, body, kind, length, head = 200, good, "application/json", None, {}
        if isinstance(what, int):
            code, body = what, b'{"error": "no, sk-secret-1234"}'
        if isinstance(what, tuple):
            _, code, said = what
            body = json.dumps(dict(error=said)).encode()
        if what == "429 wait":
            code, body, head = 429, b"slow down", {"Retry-After": "0.3"}
        if what == "half":
            body = good[:25]
        if what == "cut":
            body, length = good[:25], len(good)
        if what == "429 long":
            code, body, head = 429, b"slow down", {"Retry-After": "600"}
        if isinstance(what, threading.Barrier):
            what.wait(30)
        if what == "html":
            body, kind = b"<html>login</html>", "text/html"
        if what == "empty":
            body = json.dumps(dict(choices=[])).encode()
        if what == "gzip":
            head = {"Content-Encoding": "gzip"}  # which it is not
        if what == "deep":
            body = b"[" * 100_000
        if what == "huge":
            body = b'{"x": "' + b"a" * _LARGEST + b'"}'
        if what == "charset":
            kind = "text/html; charset=hex"
        if what in ("length", "content_filter"):
            body = reply(message=dict(content=ANSWER[:30]), finish_reason=what)
        if what == "null":
            body = json.dumps(dict(choices=[dict(message=dict(content=None))])).encode()
        if what == "hang":
            time.sleep(1.2)
        if what == "slow":
            time.sleep(0.05)
        with self.lock:  # before the client can know that the answer is whole, and send the next request
            self.open -= 1
        h.send_response(code)
        for k, v in (head | {"Content-Type": kind, "Content-Length": str(length or len(body))}).items():
            h.send_header(k, v)
        h.end_headers()
        for i in range(0, len(body), step := 20 if what in ("drip", "slowly") else len(body)):
            h.wfile.write(body[i : i + step])
            if step == 20:
                time.sleep(0.15)
        if what == "cut":
            h.close_connection = True

    def __enter__(self):
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *a):
        self.http.shutdown()
        self.http.server_close()

    def teacher(self, **kw):
        return EndpointTeacher(
            self.url, "org/Model-7B", **(dict(backoff=0.01, timeout=0.5, concurrency=1) | kw)
        )


@pytest.mark.parametrize(
    "trouble", [500, 503, 429, "half", "cut", "html", "empty", "null", "hang", "gzip", "deep", "huge", "drip"]
)
def test_passing_trouble_is_tried_again(tmp_path, trouble):
    with Server(trouble, trouble) as s:
        counts = distill(photos(2), [s.teacher()], tmp_path, watch=False)
    assert counts.failed.tolist() == [0] and len(s.seen) == 4
    assert [r["city"] for r in lines(tmp_path / "org_Model-7B.jsonl")] == ["Helsinki"] * 2


@pytest.mark.parametrize("trouble", ["gzip", "deep"])
def test_odd_responses_that_last_are_recorded(tmp_path, trouble):
    with Server(*[trouble] * 2) as s:
        counts = distill(photos(3), [s.teacher(tries=2)], tmp_path, watch=False)
    assert (
        counts.failed.tolist() == [1]
        and len(s.seen) == 4
        and sorted(ids(tmp_path / "org_Model-7B.jsonl")) == ["p0", "p1", "p2"]
    )


def test_a_rubbish_charset_hides_no_answer(tmp_path):
    with Server("charset") as s:
        assert distill(photos(1), [s.teacher()], tmp_path, watch=False).failed.tolist() == [0]
    assert len(s.seen) == 1


@pytest.mark.parametrize("reason, why", [("length", "raise"), ("content_filter", "content filter")])
def test_a_cut_or_filtered_answer_is_recorded_as_such_and_asked_for_again(tmp_path, reason, why):
    with Server(reason) as s:
        assert distill(photos(2), [s.teacher(max_tokens=7)], tmp_path, watch=False).failed.tolist() == [1]
        assert (
            len(s.seen) == 2
            and s.seen[0]["max_tokens"] == 7
            and why in next(r["error"] for r in records(tmp_path) if r["error"])
        )
        assert distill(photos(2), [s.teacher()], tmp_path, watch=False)[
            ["asked", "failed"]
        ].values.tolist() == [[1, 0]]


def test_the_pause_that_the_server_asks_for_is_kept(tmp_path):
    with Server("429 wait") as s:
        start = time.time()
        distill(photos(1), [s.teacher()], tmp_path, watch=False)
    assert time.time() - start >= 0.3


def test_lasting_trouble_is_recorded_and_asked_again_alone(tmp_path):
    with Server("ok", *[500] * 2, "ok") as s:
        assert distill(photos(3), [s.teacher(tries=2)], tmp_path, watch=False).failed.tolist() == [1]
        bad = [r for r in lines(tmp_path / "org_Model-7B.jsonl") if r["error"]]
        assert len(bad) == 1 and bad[0]["error"].startswith("HTTP 500") and bad[0]["city"] == ""
        before = len(s.seen)
        assert distill(photos(3), [s.teacher()], tmp_path, watch=False).asked.tolist() == [1]
        assert len(s.seen) == before + 1
    assert sorted(ids(tmp_path / "org_Model-7B.jsonl")) == ["p0", "p1", "p2"]


def test_many_at_once_but_not_more(tmp_path):
    with Server(*["slow"] * 40) as s:
        distill(photos(40), [s.teacher(concurrency=5, timeout=5)], tmp_path, watch=False)
    assert 2 <= s.most <= 5 and sorted(ids(tmp_path / "org_Model-7B.jsonl")) == sorted(
        f"p{i}" for i in range(40)
    )


def test_the_key_is_sent_but_never_told(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-1234")
    with Server("ok", 500, 500, 401) as s:
        teacher = s.teacher(tries=2)
        with pytest.raises(PermissionError) as refused:
            distill(photos(4), [teacher], tmp_path)
    assert s.heads[0]["Authorization"] == "Bearer sk-secret-1234"
    told = (
        str(refused.value)
        + repr(teacher)
        + str(vars(teacher))
        + (tmp_path / "org_Model-7B.jsonl").read_text()
        + "".join(capfd.readouterr())
    )
    assert "401" in told and "***" in told and "secret" not in told


def test_a_wrong_address_stops_at_once(tmp_path):
    with Server(404) as s, pytest.raises(PermissionError, match="404"):
        distill(photos(50), [s.teacher()], tmp_path, watch=False)
    assert len(s.seen) == 1


def test_an_endpoint_that_refuses_every_photo_is_not_called_dead(tmp_path):
    with (
        Server(*[400] * 50) as s,
        pytest.raises(ConnectionError, match="3 photos .*HTTP 400") as caught,
    ):
        distill(photos(50), [s.teacher(give_up=3)], tmp_path, watch=False)
    assert "is running" in str(caught.value) and "start" not in str(caught.value)


def test_photos_that_are_refused_for_good_do_not_end_a_run_that_gets_answers(tmp_path):
    with Server("ok", *["length"] * 6) as s:
        counts = distill(photos(10), [s.teacher(give_up=3, concurrency=1)], tmp_path, watch=False)
    assert (counts.asked.item(), counts.failed.item()) == (10, 6)


def test_a_run_begins_with_the_photos_that_were_not_asked_about(tmp_path):
    with Server(*["length"] * 3) as s:
        with pytest.raises(ConnectionError, match="begins with the photos not asked about"):
            distill(photos(10), [s.teacher(give_up=3, concurrency=1)], tmp_path, watch=False)
        counts = distill(photos(10), [s.teacher(give_up=3, concurrency=1)], tmp_path, watch=False)
    assert counts.failed.item() == 0 and len(s.seen) == 3 + 10
    stored = [r["id"] for r in records(tmp_path)]
    assert sorted(stored) == sorted(f"p{i}" for i in range(10))


def test_photos_that_stay_refused_do_not_end_later_runs(tmp_path):
    with Server(*["ok"] * 4, *["length"] * 12) as s:
        for _ in range(2):
            counts = distill(photos(10), [s.teacher(give_up=3, concurrency=1)], tmp_path, watch=False)
            assert counts.failed.item() == 6


def test_photos_without_pictures_can_be_asked_about(tmp_path):
    bare = photos(3).remove_columns("image")
    assert distill(bare, [CoordinateTeacher("simulated-c")], tmp_path, watch=False).asked.item() == 3


def test_another_endpoint_answers_what_one_refuses_with_403(tmp_path, monkeypatch):
    monkeypatch.setattr("globe.models.client._pause", lambda *a: 0)
    with Server("ok", *[403] * 50) as one, Server() as two:
        teacher = EndpointTeacher(f"{one.url}|{two.url}", "m", concurrency=1)
        counts = distill(photos(12), [teacher], tmp_path, watch=False)
    assert counts.failed.item() == 0 and len(one.seen) > 1


def test_one_flagged_photo_costs_itself_alone(tmp_path):
    with Server(("status", 403, "Your input was flagged")) as s:
        counts = distill(photos(5), [s.teacher(concurrency=1)], tmp_path, watch=False)
    assert (counts.asked.item(), counts.failed.item()) == (5, 1)


def test_a_403_after_answers_is_about_its_photo(tmp_path):
    with Server("ok", 403) as s:
        counts = distill(photos(5), [s.teacher(concurrency=1)], tmp_path, watch=False)
    assert (counts.asked.item(), counts.failed.item()) == (5, 1)
    with Server("ok", *[403] * 20) as s, pytest.raises(ConnectionError, match="3 photos in a row"):
        distill(photos(30), [s.teacher(concurrency=1, give_up=3)], tmp_path / "b", watch=False)


def test_answers_about_other_pictures_of_the_same_names_are_not_taken(tmp_path):
    teacher = SimulatedTeacher("simulated-t")
    distill(photos(4), [teacher], tmp_path, watch=False)
    assert distill(photos(4), [teacher], tmp_path, watch=False).asked.item() == 0
    others = Dataset.from_list(
        [photo(i) | dict(image=photo(i + 9)["image"]) for i in range(4)], features=FEATURES
    )
    with pytest.raises(ValueError, match="other pictures of the same names .4, such as 'p0'.*another folder"):
        distill(others, [teacher], tmp_path, watch=False)


def test_a_changed_picture_is_asked_about_again(tmp_path, capsys):
    teacher = SimulatedTeacher("simulated-t")
    distill(photos(5), [teacher], tmp_path, watch=False)
    old = {r["id"]: r["picture"] for r in records(tmp_path)}
    rows = [photo(i) for i in range(5)]
    rows[2]["image"] = photo(40)["image"]
    changed = Dataset.from_list(rows, features=FEATURES)
    for asked in (1, 0):
        assert distill(changed, [teacher], tmp_path, watch=False).asked.item() == asked
    now = {r["id"]: r["picture"] for r in records(tmp_path)}
    assert [id for id in old if old[id] != now[id]] == ["p2"] and len(now) == 5
    assert "1 pictures have changed" in "".join(capsys.readouterr())


def test_giving_up_keeps_the_answers_that_are_under_way(tmp_path):
    with (
        Server("hang", "hang", "hang", *[400] * 50) as s,
        pytest.raises(ConnectionError, match="5 photos in a row"),
    ):
        distill(photos(50), [s.teacher(give_up=5, concurrency=4, timeout=5)], tmp_path, watch=False)
    assert len(found := list(records(tmp_path))) == len(s.seen) and sum(not r["error"] for r in found) == 3


def test_a_picture_that_the_model_refuses_costs_itself_alone(tmp_path):
    class Narrow:
        def answer(self, images, **how):
            if any(im.width > 20 * im.height for im in images):
                raise ValueError("absolute aspect ratio must be smaller than 200")
            return [ANSWER] * len(images)

    rows = Dataset.from_list(
        [photo(0), photo(1) | dict(image=PIL.new("RGB", (1600, 40))), photo(2)], features=FEATURES
    )
    counts = distill(rows, [VLMTeacher(Narrow())], tmp_path, watch=False)
    assert counts.failed.tolist() == [1] and {r["id"]: r["error"] for r in records(tmp_path)} == dict(
        p0="", p1="picture: absolute aspect ratio must be smaller than 200", p2=""
    )


@pytest.mark.parametrize(
    "url, how, why",
    [
        ("ftp://h/v1", {}, "not a valid endpoint"),
        ("http://h:port/v1", {}, "not a valid endpoint"),
        ("http://h/v1|", {}, "not a valid endpoint"),
        ("http://h/v1", dict(concurrency=0), "concurrency must be"),
        ("http://h/v1", dict(tries=0), "tries must be"),
        ("http://h/v1", dict(trys=1), "no such setting"),
    ],
)
def test_arguments_that_cannot_be_are_refused_at_once(url, how, why):
    with pytest.raises(ValueError, match=why):
        EndpointTeacher(url, "m", **how)


def test_a_dead_endpoint_ends_the_run_with_one_line(tmp_path):
    teacher = EndpointTeacher("http://127.0.0.1:9/v1", "m", backoff=0.001, tries=2, give_up=3, concurrency=2)
    with pytest.raises(ConnectionError, match="3 photos .*start the endpoint"):
        distill(photos(50), [teacher], tmp_path, watch=False)


def test_the_budget_is_kept_and_what_it_bought_is_safe(tmp_path):
    with Server() as s:
        with pytest.raises(RuntimeError, match="budget of 7 requests"):
            distill(photos(20), [s.teacher(budget=7, concurrency=4)], tmp_path, watch=False)
        assert len(s.seen) == 7 and len(ids(tmp_path / "org_Model-7B.jsonl")) == 7
        distill(photos(20), [s.teacher()], tmp_path, watch=False)
        assert len(s.seen) == 20


def test_the_picture_goes_without_its_exif(tmp_path):
    exif = PIL.Exif()
    exif[0x8825] = {1: "N", 2: (48.0, 51.0, 0.0)}
    raw = io.BytesIO()
    PIL.new("RGB", (3000, 2000)).save(raw, "JPEG", exif=exif)
    rows = Dataset.from_list(
        [photo(0) | dict(image=dict(bytes=raw.getvalue(), path=None))], features=FEATURES
    )
    with Server() as s:
        distill(rows, [s.teacher()], tmp_path, watch=False)
    picture, text = s.seen[0]["messages"][0]["content"]
    sent = PIL.open(io.BytesIO(base64.b64decode(picture["image_url"]["url"].split(",")[1])))
    assert (
        sent.format == "JPEG"
        and 900_000 < sent.width * sent.height <= 1_003_520  # `max_pixels` of the released code
        and not sent.getexif()
        and "localizability" in text["text"]
    )
    assert "Paris" not in json.dumps(s.seen) and "48.86" not in json.dumps(s.seen)


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_thoughts_that_a_server_sets_apart_are_not_lost(field):
    def said(**message):
        return chat_answer(Reply(200, json.dumps(dict(choices=[dict(message=message)])).encode()))["text"]

    think, answer = ANSWER.split("\n", 1)
    assert said(content=answer, **{field: think[7:-8]}) == ANSWER
    assert ANSWER == said(content=ANSWER, **{field: "A flag."}) == said(content=ANSWER, **{field: None})
    assert from_text("p0", "m", said(content=answer, **{field: think[7:-8]}))["reasoning"] == "A flag."


# --- a real model behind a real server ---

# `transformers serve` loads a processor by AutoProcessor, which for Qwen2.5-VL builds a video processor, which
# needs torchvision; the student has none and takes its own
SERVE = """
import sys
from transformers.cli.serving.model_manager import ModelManager
from transformers.cli.transformers import main
from globe.models import vlm
ModelManager._load_processor = lambda self, name, gguf_file=None: vlm.load(name.split("@")[0]).processor
sys.argv = ["transformers", "serve", {folder!r}, "--host", "127.0.0.1", "--port", "{port}", "--device", "cpu"]
main()
"""


class Serve:
    "`transformers serve` with a student, as a process that can be killed."

    def __init__(self, folder):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.code, self.url = (
            SERVE.format(folder=str(folder), port=self.port),
            f"http://127.0.0.1:{self.port}/v1",
        )

    def __enter__(self):
        self.run = subprocess.Popen(
            [sys.executable, "-c", self.code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(240):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health")
                return self
            except OSError:
                time.sleep(0.5)
            if self.run.poll() is not None:
                raise RuntimeError("`transformers serve` did not start: pip install 'transformers[serving]'")
        self.run.kill()
        raise TimeoutError("`transformers serve` was not ready in two minutes")

    def __exit__(self, *a):
        self.run.kill()
        self.run.wait()


@pytest.mark.skipif(
    not os.environ.get("GLOBE_SERVE"),
    reason="GLOBE_SERVE=folder of a trained student: `transformers serve` answers from it, about a minute",
)
def test_a_real_server_that_dies_is_asked_for_the_missing_answers_alone(tmp_path):
    folder, path, few = os.environ["GLOBE_SERVE"], tmp_path / "out" / "student.sqlite", postcards(16, seed=9)
    server = Serve(folder)
    ask = lambda: distill(
        few,
        [EndpointTeacher(server.url, folder, "student", concurrency=2, tries=2, backoff=0.01, give_up=3)],
        tmp_path / "out",
        watch=False,
    )

    def kill():
        while stored(path) < 4:
            time.sleep(0.005)
        server.run.kill()

    with server:
        killer = threading.Thread(target=kill, daemon=True)
        killer.start()
        with pytest.raises(ConnectionError, match="3 photos in a row"):
            ask()
    before = [r for r in records(tmp_path / "out") if not r["error"]]
    assert 4 <= len(before) < 16
    with server:
        counts = ask()
    assert counts.asked.tolist() == [16 - len(before)] and counts.failed.tolist() == [0]
    served, here = (
        {r["id"]: r for r in rows}
        for rows in (records(tmp_path / "out"), VLMTeacher(load(folder), batch_size=1).judge(few))
    )
    assert all(served[i] == r for i, r in ((r["id"], r) for r in before)) and sorted(served) == sorted(
        few["id"]
    )
    assert all(served[i]["text"] and r["tokens"] > 0 and r["prompt_tokens"] > 0 for i, r in served.items())
    same = [
        i for i in served if served[i]["text"] == here[i]["text"]
    ]  # 13 of 16 when this was written; why the others differ is not known
    assert len(same) >= 12 and all(served[i]["reasoning"] == here[i]["reasoning"] != "" for i in same)


# --- several endpoints, several teachers ---


def both(a, b, **kw):
    return EndpointTeacher(
        [a.url, b.url], "org/Model-7B", **(dict(backoff=0.01, timeout=5, concurrency=4) | kw)
    )


def test_the_endpoints_of_a_model_share_the_work(tmp_path):
    with Server(*["slow"] * 40) as a, Server(*["slow"] * 40) as b:
        distill(photos(40), [both(a, b)], tmp_path, watch=False)
    assert (
        len(a.seen) + len(b.seen) == 40 and min(len(a.seen), len(b.seen)) >= 10 and max(a.most, b.most) <= 4
    )
    assert sorted(ids(tmp_path / "org_Model-7B.jsonl")) == sorted(f"p{i}" for i in range(40))


@pytest.mark.parametrize("url", [["http://127.0.0.1:9/v1", "{}"], "http://127.0.0.1:9/v1|{}"])
def test_a_dead_endpoint_is_set_aside_while_another_lives(tmp_path, url):
    with Server() as s:
        urls = url.format(s.url) if isinstance(url, str) else [u.format(s.url) for u in url]
        teacher = EndpointTeacher(urls, "m", backoff=0.001, concurrency=2, give_up=3)
        assert distill(photos(30), [teacher], tmp_path, watch=False).failed.tolist() == [0]
        dead, live = teacher.endpoints
    assert (
        len(s.seen) == 30
        and live.failed == 0
        and _STRIKES <= dead.failed < _STRIKES + 2
        and teacher.sent == 30 + dead.failed
    )


def test_an_endpoint_that_comes_back_is_used_again(tmp_path):
    with Server(*[500] * _STRIKES) as a, Server() as b:
        teacher = both(a, b, concurrency=1)
        distill(photos(12), [teacher], tmp_path, watch=False)
        assert len(a.seen) == _STRIKES
        teacher.endpoints[0].aside = 0.0  # half a minute later
        distill(photos(24), [teacher], tmp_path, watch=False)
        assert len(a.seen) > _STRIKES + 3 and teacher.endpoints[0].failed == 0


def test_who_asks_for_a_pause_gets_it_and_the_others_go_on(tmp_path):
    with Server("429 long") as a, Server() as b:
        assert distill(photos(20), [both(a, b)], tmp_path, watch=False).failed.tolist() == [0]
    assert len(a.seen) <= 4 and len(a.seen) + len(b.seen) == 21


def test_teachers_behind_endpoints_are_asked_at_the_same_time(tmp_path):
    together = threading.Barrier(2)
    with Server(together) as a, Server(together) as b:
        teachers = [
            EndpointTeacher(s.url, name, concurrency=1, tries=1) for s, name in [(a, "first"), (b, "second")]
        ]
        counts = distill(photos(3), [*teachers, SimulatedTeacher()], tmp_path, watch=False)
    assert (
        counts.teacher.tolist() == ["first", "second", "simulated-a"]
        and counts.failed.tolist() == [0, 0, 0]
        and not together.broken
    )


def test_a_teacher_that_is_down_does_not_keep_the_others_from_finishing(tmp_path):
    with Server(*["slow"] * 30) as s:
        teachers = [
            EndpointTeacher("http://127.0.0.1:9/v1", "down", backoff=0.001, tries=1, give_up=3),
            s.teacher(timeout=5),
        ]
        with pytest.raises(ConnectionError, match="down: 3 photos in a row"):
            distill(photos(30), teachers, tmp_path, watch=False)
    assert len(ids(tmp_path / "org_Model-7B.jsonl")) == 30


def test_answers_say_their_prompt_and_their_cost_and_progress_tells_rates(tmp_path):
    told = []
    watch = lambda name: lambda done, of, numbers: told.append((name, done, of, numbers))
    with Server(*["slow"] * 5) as s:
        counts = distill(photos(5), [s.teacher()], tmp_path, watch)
    assert all(
        (r["prompt"], r["tokens"], r["prompt_tokens"]) == ("teacher-1", 40, 900)
        for r in lines(tmp_path / "org_Model-7B.jsonl")
    )
    name, done, of, numbers = told[-1]
    assert counts.tokens.tolist() == [200] and (name, done, of) == ("org_Model-7B", 5, 5)
    assert (numbers["failed"], numbers["seconds_left"]) == (0, 0)
    rate = numbers["rows_per_second"]
    assert rate > 0 and numbers["tokens_per_second"] == pytest.approx(40 * rate, rel=0.05)


HALTED = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job would pass Ctrl-C over
sys.path.insert(0, {tests!r})
from test_distill import *
distill(photos(5000), [EndpointTeacher({url!r}, "m", concurrency=4)], {out!r}, watch=False)
"""


def test_ctrl_c_ends_the_run_soon_and_what_came_is_whole(tmp_path):
    path = tmp_path / "m.sqlite"
    with Server(*["slow"] * 5000) as s:
        code = HALTED.format(tests=os.path.dirname(__file__), url=s.url, out=str(tmp_path))
        run = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)
        until = time.time() + 120
        while run.poll() is None and stored(path) < 20 and time.time() < until:
            time.sleep(0.02)
        try:
            run.send_signal(signal.SIGINT)
            run.communicate(timeout=60)
        finally:
            run.kill()
    assert run.returncode and 20 <= len(ids(path)) == stored(path) < 2000


def interrupted(tmp_path, server, ready):
    "Send Ctrl-C to a run against `server` as soon as `ready()`; the answers on disk."
    code = HALTED.format(tests=os.path.dirname(__file__), url=server.url, out=str(tmp_path))
    run = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)
    try:
        until = time.monotonic() + 600  # imports are slow on a busy machine
        while run.poll() is None and not ready():
            assert time.monotonic() < until, "the run has sent no request within 600 seconds"
            time.sleep(0.02)
        assert run.poll() is None, run.stderr.read().decode()
        run.send_signal(signal.SIGINT)
        run.communicate(timeout=200)  # far less than the 600 seconds of the pause
    finally:
        run.kill()
    assert run.returncode
    return lines(tmp_path / "m.jsonl")


def test_ctrl_c_does_not_wait_for_the_pause_of_a_server(tmp_path):
    with Server(*["429 long"] * 5000) as s:
        found = interrupted(tmp_path, s, lambda: s.seen and not s.open)
    assert found and all(r["error"] for r in found)
    assert len(s.seen) < 20


def test_ctrl_c_keeps_the_answers_that_are_under_way(tmp_path):
    with Server(*["slowly"] * 5000) as s:
        found = interrupted(tmp_path, s, lambda: len(s.seen) >= 6)
    asked = [r for r in found if r["error"] != "stopped before it was asked"]  # taken as Ctrl-C came
    assert len(s.seen) == len(asked) and not [r["error"] for r in asked if r["error"]]


# --- the command line ---


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "globe", "distill", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_the_command_asks_in_shards_and_once(tmp_path):
    photos(20).save_to_disk(tmp_path / "saved")
    photos(20).to_parquet(tmp_path / "photos.parquet")
    with Server() as s:
        address = f"{s.url} org/Model-7B"
        done = [
            command(
                tmp_path / "saved",
                "--out",
                tmp_path / "out",
                "--endpoint",
                address,
                "--shard",
                f"{i}/2",
                "--json",
            )
            for i in (1, 2)
        ]
        assert [d.returncode for d in done] == [0, 0], done[0].stderr
        assert (
            sum(json.loads(d.stdout)[0]["asked"] for d in done) == len(s.seen) == 20
            and "photo/s" in done[0].stderr
        )
        again = command(tmp_path / "photos.parquet", "--out", tmp_path / "out", "--endpoint", address)
        assert again.returncode == 0 and "org_Model-7B" in again.stdout and len(s.seen) == 20, again.stderr
    assert len(list(records(tmp_path / "out"))) == 20


def test_the_command_takes_a_folder_of_pictures_and_lists_what_it_left_out(tmp_path):
    (tmp_path / "trip").mkdir()
    exif = PIL.Exif()
    exif[0x8825] = {1: "N", 2: (48.0, 51.0, 0.0), 3: "E", 4: (2.0, 21.0, 0.0)}
    PIL.new("RGB", (60, 40), "red").save(tmp_path / "trip" / "a.jpg", exif=exif)
    PIL.new("RGB", (60, 40), "blue").save(tmp_path / "trip" / "b.jpg")
    with Server(*[500] * 4) as s:
        failed = command(tmp_path / "trip", "--out", tmp_path / "out", "--endpoint", f"{s.url} m")
        row = next(line for line in failed.stdout.splitlines() if "failed" in line)
        assert failed.returncode == 1 and "HTTP 500: no" in row and "a.jpg" in row and "log" in row
        left = next(line for line in failed.stdout.splitlines() if "left out" in line)
        assert "| 1 " in left and "b.jpg" in left and "left_out.csv" in left
        assert (
            command(tmp_path / "trip", "--out", tmp_path / "out", "--endpoint", f"{s.url} m").returncode == 0
        )
    assert [r["city"] for r in records(tmp_path / "out")] == ["Helsinki"] and "b.jpg" in (
        tmp_path / "out" / "left_out.csv"
    ).read_text()


def test_nothing_to_ask_is_said_with_the_reason_and_is_a_failure(tmp_path):
    (tmp_path / "trip").mkdir()
    for name in "ab":
        PIL.new("RGB", (60, 40), "blue").save(tmp_path / "trip" / f"{name}.jpg")
    out = tmp_path / "out"
    done = command(tmp_path / "trip", "--out", out, "--endpoint", "http://127.0.0.1:9/v1 m")
    assert done.returncode == 1 and "none of its 2 files can be used" in done.stderr
    row = next(line for line in done.stdout.splitlines() if "left out" in line)
    assert "| 2 " in row and "a.jpg" in row and str(out / "left_out.csv") in row


def test_a_run_that_ends_early_says_what_is_missing_and_why(tmp_path):
    photos(30).save_to_disk(tmp_path / "saved")
    arguments = [tmp_path / "saved", "--out", tmp_path / "out", "--endpoint"]
    with Server(*[413] * 30) as s:
        done = command(*arguments, f"{s.url} m", "--concurrency", "1")
    rows = [line for line in done.stdout.splitlines() if "|" in line]
    failed = next(line for line in rows if "failed" in line)
    assert (
        done.returncode == 1 and "| 20 " in failed and "HTTP 413" in failed and "size of a request" in failed
    )
    assert (
        "| 10 " in next(line for line in rows if "not asked" in line) and "20 photos in a row" in done.stderr
    )


def test_a_model_that_is_not_served_is_named_before_anything_is_asked(tmp_path):
    photos(1).save_to_disk(tmp_path / "saved")
    with Server(404) as s:  # to one token of text, which is no photo
        s.models = ["qwen", "bge-m3"]
        wrong, alone = (
            command(tmp_path / "saved", "--out", tmp_path / "out", "--endpoint", f"{s.url}{name}")
            for name in (" gwen", "")
        )
    assert wrong.returncode == 2 and "'gwen'" in wrong.stderr and "qwen" in wrong.stderr
    assert alone.returncode == 0 and "asking qwen" in alone.stderr and len(s.seen) == 2
    assert [r["teacher"] for r in records(tmp_path / "out")] == ["qwen"]


def test_the_command_asks_a_model_in_this_process(tmp_path):
    photos(3).save_to_disk(tmp_path / "saved")
    student(0).save(tmp_path / "tiny")
    ask = lambda: command(
        tmp_path / "saved",
        "--out",
        tmp_path / "out",
        "--model",
        tmp_path / "tiny",
        "--max-tokens",
        "4",
        "--json",
    )
    first, again = ask(), ask()
    assert first.returncode == again.returncode == 0, first.stderr
    assert [json.loads(d.stdout)[0]["asked"] for d in (first, again)] == [3, 0] and len(
        list(records(tmp_path / "out"))
    ) == 3


@pytest.mark.parametrize(
    "arguments, code, text",
    [
        (["nowhere", "--out", "out", "--endpoint", "http://127.0.0.1:9/v1 m"], 2, "there is no nowhere"),
        (["p.parquet", "--out", "out", "--endpoint", "http://127.0.0.1:9/v1"], 1, "Connection refused"),
        (["p.parquet", "--out", "out", "--model", "no-such-model"], 1, "no such folder"),
        ([".", "--out", "out", "--endpoint", "http://127.0.0.1:9/v1 m"], 1, "it contains no picture"),
        (
            [".", "--out", "out", "--endpoint", "http://127.0.0.1:9/v1 m", "--shard", "3/2"],
            2,
            "is not a shard",
        ),
        ([".", "--out", "out"], 2, "give --endpoint, --model or --geoclip"),
        (
            [".", "--out", "cut.parquet", "--endpoint", "http://127.0.0.1:9/v1 m"],
            2,
            "is a file: give a folder",
        ),
        (["cut.parquet", "--out", "out", "--endpoint", "ftp://x m"], 2, "'ftp://x' is not a valid"),
        (
            ["cut.parquet", "--out", "out", "--endpoint", "http://127.0.0.1:9/v1 m"],
            1,
            "cut.parquet cannot be read",
        ),
    ],
)
def test_wrong_commands_are_one_line(tmp_path, monkeypatch, arguments, code, text):
    monkeypatch.chdir(tmp_path)
    if "cut.parquet" in arguments:
        (tmp_path / "cut.parquet").write_bytes(b"PAR1" + bytes(99))
    if arguments[0] == "p.parquet":
        photos(1).to_parquet("p.parquet")
    done = command(*arguments)
    assert done.returncode == code and text in done.stderr and "Traceback" not in done.stderr


def asked_with(server, folder, capsys, *more, **key):
    "(exit code, JSON, standard error) of `globe distill --json` about 8 photos, one request at a time."
    photos(8).save_to_disk(folder / "saved")
    arguments = [
        "--out",
        str(folder / "out"),
        "--endpoint",
        f"{server.url} m",
        "--concurrency",
        "1",
        "--json",
    ]
    code = main(["distill", str(folder / "saved"), *arguments, *more])
    out, err = capsys.readouterr()
    return code, json.loads(out), err


ENDINGS = {  # what the server does, or None for Ctrl-C -> (exit code, words of the ending)
    "401": (["ok", "ok", 401], 1, "(401): no, ***; correct the key in OPENAI_API_KEY"),
    "budget": (["ok"] * 3, 1, "budget of 2 requests"),
    "interrupted": (["ok"] * 3, 130, "interrupted"),
    "disk": (["ok"] * 3, 1, "no space left"),
}


@pytest.mark.parametrize("how", ENDINGS)
def test_json_says_what_was_done_and_why_a_run_ended_early(tmp_path, capsys, monkeypatch, how):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-1234")
    plan, code, why = ENDINGS[how]
    write, more = AnswerStore.write, ["--max-requests", "2"] if how == "budget" else []
    if how in ("interrupted", "disk"):

        def full(store, *record):
            if store.written == 2:
                raise KeyboardInterrupt if how == "interrupted" else OSError(28, "no space left")
            write(store, *record)

        monkeypatch.setattr(AnswerStore, "write", full)
    with Server(*plan) as s:
        got, (row,), err = asked_with(s, tmp_path, capsys, *more)
    assert got == code and why in row["ended"] and why in err
    assert (row["teacher"], row["photos"], row["known"], row["asked"], row["failed"]) == ("m", 8, 0, 2, 0)
    (reason,) = row["reasons"]
    assert (reason["what"], reason["photos"]) == ("not asked", 6) and row["seconds"] > 0
    assert ("again" in reason["what helps"]) == (how != "401"), reason
    monkeypatch.setattr(AnswerStore, "write", write)
    with Server() as s:
        got, (row,), err = asked_with(s, tmp_path / "again", capsys)
    assert got == 0 and row["ended"] is None and row["asked"] == 8 and row["reasons"] == []


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_shard_without_photos_is_said_before_anybody_is_asked(tmp_path, capsys, more):
    photos(3).save_to_disk(tmp_path / "saved")
    keys = photo_keys(photos(3))
    i = next(i for i in range(1, 1001) if all(keys % 1000 != i - 1))
    with Server() as s:
        arguments = ["--out", str(tmp_path / "out"), "--endpoint", f"{s.url} m", "--shard", f"{i}/1000"]
        capsys.readouterr()
        assert main(["distill", str(tmp_path / "saved"), *arguments, *more]) == 0 and not s.seen
    out, err = capsys.readouterr()
    why = f"shard {i}/1000 contains none of its 3 photos"
    assert why in err and (not more or why in json.loads(out)[0]["ended"])


def test_json_says_that_there_is_nothing_to_ask(tmp_path, capsys):
    (tmp_path / "trip").mkdir()
    PIL.new("RGB", (60, 40), "blue").save(tmp_path / "trip" / "a.jpg")
    arguments = ["--out", str(tmp_path / "out"), "--endpoint", "http://127.0.0.1:9/v1 m", "--json"]
    assert main(["distill", str(tmp_path / "trip"), *arguments]) == 1
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["asked"], row["reasons"][0]["for example"]) == (0, "a.jpg") and "nothing to ask" in row[
        "ended"
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        ["distill", "nowhere", "--out", "out", "--geoclip"],
        ["distill", "saved", "--out", "out", "--endpoint", "http://127.0.0.1:9/v1"],
        ["score", "nowhere.csv", "--truth", "nowhere.csv"],
        ["locate", "nowhere.jpg", "--model", "http://127.0.0.1:9/v1 m"],
        ["locate", "a.jpg", "--model", "http://127.0.0.1:9/v1"],
        ["doctor", "--profile", "huge"],
    ],
)
def test_json_of_every_command_says_why_it_ended(tmp_path, capsys, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    photos(1).save_to_disk("saved")
    PIL.new("RGB", (60, 40), "blue").save("a.jpg")
    capsys.readouterr()
    code = main([*arguments, "--json"])
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert code in (1, 2) and told["exit_code"] == code and told["error"] in err


def test_geojson_of_a_run_that_ends_early_holds_what_was_found(tmp_path, capsys, monkeypatch):
    from globe.app.locate import Geolocator

    PIL.new("RGB", (60, 40), "blue").save(tmp_path / "a.jpg")
    each = Geolocator.each

    def interrupted(*arguments):
        yield from each(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(Geolocator, "each", interrupted)
    with Server() as s:
        assert main(["locate", str(tmp_path / "a.jpg"), "--model", f"{s.url} m", "--geojson"]) == 130
    found = json.loads(capsys.readouterr().out)
    assert len(found["features"]) == 1 and found["error"] == "interrupted"


@pytest.mark.parametrize(
    "status, says",
    [
        (401, "correct OPENAI_API_KEY (which is not set)"),
        (402, "pay for OPENAI_API_KEY"),
        (403, "allow OPENAI_API_KEY (which is not set) to use m, or use another"),
        (404, "the name of the model, m"),
        (405, "correct the address"),
        (407, "proxy"),
        (410, "name another model"),
    ],
)
def test_the_advice_after_a_refusal_names_its_cause(tmp_path, capsys, monkeypatch, status, says):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with Server(status) as s:
        code, (row,), err = asked_with(s, tmp_path, capsys)
        assert len(s.seen) == 1
    (reason,) = row["reasons"]
    assert code == 1 and says in row["ended"] and says in err and says in reason["what helps"]
    assert "again" not in reason["what helps"] + err


@pytest.mark.parametrize(
    "reason, says",
    [
        ("refused: HTTP 400: API key not valid. Please pass a valid API key", "set OPENAI_API_KEY"),
        ("HTTP 429: You exceeded your current quota, please check your plan and billing", "pay"),
        ("HTTP 429: slow down", "wait"),
        (
            "refused: HTTP 400: 'max_tokens' or 'max_completion_tokens' is too large: 1024. This model's maximum "
            "context length is 512 tokens and your request has 300 input tokens (1024 > 512 - 300).",
            "lower --max-tokens",
        ),
        (
            "refused: HTTP 400: max_tokens is too large: 1024. This model supports at most 512 completion tokens",
            "lower --max-tokens",
        ),
        ("refused: HTTP 400: max_tokens must be at least 1, got -299.", "context length, or send smaller"),
        (
            'refused: HTTP 422: [{"loc": ["body", "max_tokens"], "msg": "extra fields not permitted"}]',
            "--param max_tokens=null",
        ),
        ("refused: the answer was cut at `max_tokens`: raise it", "raise --max-tokens"),
        ("refused: HTTP 413: request entity too large", "size of a request"),
        ("refused: HTTP 400: m is not a multimodal model", "reads pictures"),
        ("refused: HTTP 600: what", "what the server states"),
        ("not a chat answer: ", "chat model"),
        ("refused: HTTP 400: model 'x' not found, try pulling it first", "name of the model"),
        ("m: 20 photos in a row got no answer (last: ConnectError: Connection refused)", "start the server"),
        ("m: 20 photos in a row got no answer (last: timeout: no complete answer)", "concurrency"),
        ("http://h/v1: it redirects to https://h/v1: give that address yourself", "redirects"),
        ("refused: an answer of 500,000 characters: at most 400,000 are read", "lower --max-tokens"),
        ("the answer states an error: worker died", "log"),
        (
            "OPENAI_API_KEY contains a line break or another character that is invalid in a key",
            "OPENAI_API_KEY",
        ),
        ("no space left for a.sqlite (database or disk is full)", "free some space"),
        ("another run is writing a.sqlite; wait for it or stop it", "wait for it"),
    ],
)
def test_the_advice_fits_the_cause(reason, says):
    from globe.distillation.summary import advice

    assert says in advice(reason)


def test_two_models_do_not_share_answers(tmp_path, capsys):
    "Names of files are shorter than names of models: llava/7b and llava:7b have the same one."
    photos = tmp_path / "photos"
    photos.mkdir()
    PIL.new("RGB", (64, 64), "red").save(photos / "a.jpg")
    (photos / "table.csv").write_text("file,lat,lon\na.jpg,48.86,2.35\n")
    out = tmp_path / "answers"
    with Server() as s:
        ask = lambda model: main(
            ["distill", str(photos), "--out", str(out), "--endpoint", f"{s.url} {model}"]
        )
        assert [ask("llava/7b"), ask("llava/7b")] == [0, 0] and len(s.seen) == 1
        assert ask("llava:7b") == 1 and len(s.seen) == 1
        assert "holds answers of 'llava/7b', not of 'llava:7b'" in capsys.readouterr().err
        (out / "llava_7b.sqlite").unlink()  # JSON lines only
        assert ask("llava:7b") == 1 and ask("llava/7b") == 0 and len(s.seen) == 1
        (out / "llava_7b.jsonl").rename(out / "llava_7b.shard-1-of-2.jsonl")
        assert ask("llava:7b") == 1 and len(s.seen) == 1


def test_two_models_of_this_process_do_not_share_answers(tmp_path):
    class Parrot:
        answer = lambda self, images, **how: ["country: France"] * len(images)

    ask = lambda model: distill(photos(2), [VLMTeacher(Parrot(), "a-b", model=model)], tmp_path, watch=False)
    with AnswerStore(tmp_path / "a-b.sqlite") as store:  # an error before any answer notes no model
        store.write(judgement("first", "a-b", error="picture: cut"))
    ask("a/b"), ask("a/b")
    with pytest.raises(ValueError, match="holds answers of 'a/b', not of 'a-b'"):
        ask("a-b")


def test_what_was_left_out_is_counted_file_by_file(tmp_path, capsys):
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(20):
        (photos / f"{i}.jxl").write_bytes(b"\xff\x0a")
    assert main(["distill", str(photos), "--out", str(tmp_path / "out"), "--endpoint", "localhost:9 m"]) == 1
    told = capsys.readouterr()
    assert "none of its 20 files" in told.err and re.search(r"left out +\| 20 ", told.out)


def test_a_table_of_another_shape_is_no_store(tmp_path):
    with contextlib.closing(sqlite3.connect(tmp_path / "m.sqlite")) as db:
        db.execute("CREATE TABLE answers (id TEXT, prompt TEXT, record TEXT)")
    for use in (lambda: AnswerStore(tmp_path / "m.sqlite"), lambda: list(records(tmp_path, ["m"]))):
        with pytest.raises(ValueError, match="no store of answers"):
            use()
    assert [p.name for p in tmp_path.iterdir()] == ["m.sqlite"]
