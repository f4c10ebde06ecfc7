"""Stages under stress: kills, changes, two runs at once."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from globe.locks import Busy, alone
from globe.pipeline.code import _without_words, code_hashes
from globe.pipeline.stages import Manifest, stage

COUNTER = """
import os, sys, time
from pathlib import Path
from globe.pipeline.stages import stage

def make(folder):
    "Ten units of work; those that are there are not done again."
    for i in range(10):
        unit = folder/f"unit{i}"
        if unit.exists(): continue
        with open(sys.argv[2], "a") as log: log.write(f"{i}\\n")
        time.sleep(.1)
        (folder/"new").write_text(str(i)); os.replace(folder/"new", unit)
    return {"out": 10}

stage(sys.argv[1], make, {"seed": 0})
"""


def count(folder):
    return stage(folder, lambda f: {"out": (f / "rows").write_text("1")}, {"seed": 0})


def test_kill_9_loses_at_most_the_unit_in_hand(tmp_path):
    script, log = tmp_path / "count.py", tmp_path / "log"
    script.write_text(COUNTER)
    command = [sys.executable, script, tmp_path / "out", log]
    for wanted in (3, 6):
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while not (log.exists() and len(set(log.read_text().split())) >= wanted):
            time.sleep(0.02)
        running.send_signal(signal.SIGKILL)
        running.wait()
        assert not (tmp_path / "out").exists(), "an unfinished stage has the name of a finished one"
    done = subprocess.run(command, capture_output=True, text=True)
    assert "resumes" in done.stdout
    units = log.read_text().split()
    assert set(units) == {str(i) for i in range(10)} and len(units) <= 12, (
        "more than the unit in hand was done twice"
    )
    assert set(Manifest.load(tmp_path / "out").outputs) == {f"unit{i}" for i in range(10)}


@pytest.mark.parametrize("after", ["manifest", "old moved away", "new in place"])
def test_kill_during_the_exchange_loses_nothing(tmp_path, after):
    folder, partial, old = tmp_path / "a", tmp_path / "a.partial", tmp_path / "a.old"
    count(folder)
    if after == "manifest":
        folder.rename(partial)
    if after == "old moved away":
        folder.rename(partial)
        old.mkdir()
    if after == "new in place":
        old.mkdir()
    stage(folder, lambda f: 1 / 0, {"seed": 0})
    assert (folder / "rows").read_text() == "1" and not partial.exists() and not old.exists()


def test_old_output_is_back_if_the_new_one_was_never_finished(tmp_path):
    count(tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "a.old")
    stage(tmp_path / "a", lambda f: 1 / 0, {"seed": 0})
    assert (tmp_path / "a" / "rows").exists()


def test_partial_of_other_parameters_is_thrown_away(tmp_path):
    def fail(folder):
        (folder / "row of seed 0").write_text("")
        raise RuntimeError("cut off")

    with pytest.raises(RuntimeError):
        stage(tmp_path / "a", fail, {"seed": 0})
    made = stage(tmp_path / "a", lambda f: {"found": len(list(f.glob("row*")))}, {"seed": 1})
    assert made.counts == {"found": 0}


@pytest.fixture
def package(tmp_path, monkeypatch):
    folder = tmp_path / "planet"
    for chapter in (folder, folder / "valley", folder / "hills"):
        chapter.mkdir()
        (chapter / "__init__.py").write_text("")
    (folder / "valley" / "low.py").write_text("def f(): return 1")
    (folder / "hills" / "high.py").write_text("def g():\n    from ..valley.low import f\n    return f()")
    (folder / "other.py").write_text("x = 1")
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    for name in [m for m in sys.modules if m.partition(".")[0] == "planet"]:
        del sys.modules[name]


def test_a_stage_runs_again_when_code_below_it_changes(package, tmp_path):
    runs = []
    run = lambda: stage(tmp_path / "a", lambda f: runs.append(1), {}, code=["planet.hills.high"])
    run(), run()
    (package / "valley" / "low.py").write_text('def f():\n    "A docstring."\n    return 1  # and a comment')
    (package / "other.py").write_text("x = 2")
    run()
    assert len(runs) == 1
    (package / "valley" / "low.py").write_text("def f(): return 2")
    run()
    assert len(runs) == 2
    assert list(code_hashes(["planet.hills.high"])) == [
        "planet.hills",
        "planet.hills.high",
        "planet.valley",
        "planet.valley.low",
    ]


def test_a_function_that_becomes_empty_without_its_docstring():
    assert _without_words('class A: "Only words."') == _without_words("class A: pass")


def test_a_stage_runs_again_when_its_input_changes(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "1.jpg").write_text("one")
    runs = []
    run = lambda: stage(tmp_path / "a", lambda f: runs.append(1), {}, inputs=[tmp_path / "photos"])
    run(), run()
    (tmp_path / "photos" / "1.jpg").write_text("two")
    run()
    assert len(runs) == 2
    with pytest.raises(FileNotFoundError, match="nowhere"):
        stage(tmp_path / "b", print, {}, inputs=[tmp_path / "nowhere"])


def test_a_damaged_output_is_made_again(tmp_path):
    count(tmp_path / "a")
    (tmp_path / "a" / "rows").write_text("")
    assert count(tmp_path / "a").folder.joinpath("rows").read_text() == "1"


def test_everything_but_the_run_is_the_same_twice(tmp_path):
    one, two = (
        json.loads((count(tmp_path / name / "a").folder / "manifest.json").read_text()) for name in ("x", "y")
    )
    assert {k: v for k, v in one.items() if k != "run"} == {k: v for k, v in two.items() if k != "run"}
    assert {"seconds", "peak_mb", "versions"} <= set(one["run"])


HOLD = """
import sys, time
from globe.locks import alone

with alone(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def held(folder):
    "Another process has locked the folder."
    command = [sys.executable, "-c", HOLD, folder]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout.readline() == "held\n"
            yield
        finally:
            holder.kill()


def test_two_runs_do_not_write_to_one_folder(tmp_path):
    with held(tmp_path / "a"), pytest.raises(Busy, match="another run is using"):
        with alone(tmp_path / "a", wait=0.1):
            pass
    with alone(tmp_path / "a", wait=0.1):
        pass


def test_lines_go_to_the_watcher_and_not_into_the_notebook(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("GLOBE_PROGRESS", str(tmp_path / "progress"))
    count(tmp_path / "a")
    assert capsys.readouterr().out == "" and (tmp_path / "progress").read_text().startswith("▶ a (new)\n✓ a ")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_leaves_the_old_output(tmp_path):
    count(tmp_path / "a")

    def full(folder):
        (folder / "rows").symlink_to("/dev/full")
        with open(folder / "rows", "w") as f:
            f.write("x" * 100_000)

    with pytest.raises(OSError, match="No space left"):
        stage(tmp_path / "a", full, {"seed": 9})
    assert (tmp_path / "a" / "rows").read_text() == "1"


def test_a_stage_that_is_valid_needs_no_lock(tmp_path):
    "Several processes of one run look at the same stage at once, and the slowest stops none of them."
    make = lambda folder: (folder / "a.txt").write_text("a") and {}
    stage(tmp_path / "a", make, {})
    with held(tmp_path / "a"):
        begun = time.monotonic()
        assert stage(tmp_path / "a", lambda folder: 1 / 0, {}).title == "a"
        assert time.monotonic() - begun < 4
