"""The runner and the command line, on small projects that the tests write themselves."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

from globe.cli import main
from globe.locks import Busy, alone
from globe.pipeline.notebooks import NotebookFailed, Usage, execute
from globe.pipeline.publish import publish
from globe.pipeline.reproduce import reproduce
from globe.settings import SettingsError

ROOT = Path(__file__).parent.parent
GLOBE = [sys.executable, "-m", "globe"]


def notebook(path, *cells, parameters=None):
    made = [nbformat.v4.new_markdown_cell(f"# {path.stem}: a test\n> For a test.")]
    if parameters:
        made.append(nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}))
    made += [nbformat.v4.new_code_cell(c) for c in cells]
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(
        nbformat.v4.new_notebook(
            cells=made,
            metadata={"kernelspec": {"name": "python3", "display_name": "python3", "language": "python"}},
        ),
        path,
    )
    return path


@pytest.fixture
def project(tmp_path):
    (tmp_path / "nbs" / "profiles").mkdir(parents=True)
    (tmp_path / "nbs" / "profiles" / "mini.yaml").write_text("sft: {steps: 1}")
    (tmp_path / "nbs" / "profiles" / "smoke.yaml").write_text("")
    return tmp_path


def executed(project, name, profile="mini"):
    cells = nbformat.read(project / "data" / profile / "executed" / "paper" / f"{name}.ipynb", 4).cells
    return "".join(o.get("text", "") for c in cells for o in c.get("outputs", []))


def test_parameters_reach_the_notebook(project):
    notebook(
        project / "nbs" / "paper" / "01_a.ipynb",
        "print(profile, seeds, photos)",
        parameters="profile = 'mini'\nseeds = 1\nphotos = ''",
    )
    (project / "trip").mkdir()
    reproduce("smoke", seeds=3, photos=project / "trip", root=project)
    assert executed(project, "01_a", "smoke") == f"smoke 3 {project / 'trip'}\n"
    assert (
        not (project / "figures").exists()
        and (project / "data" / "smoke" / "figures" / "run_report.md").exists()
    )


def test_an_unknown_parameter_is_an_error(project):
    path = notebook(project / "nbs" / "01_a.ipynb", "print(steps)", parameters="steps = 1")
    with pytest.raises(ValueError, match="unknown parameter 'stepz', it declares steps"):
        execute(path, project / "out.ipynb", {"stepz": 5})
    with pytest.raises(ValueError, match="unknown parameter 'steps', it declares none"):
        execute(notebook(project / "nbs" / "02_b.ipynb", "1"), project / "out.ipynb", {"steps": 5})
    assert not (project / "out.ipynb").exists()


def test_a_parameters_cell_without_profile_is_found_before_anything_runs(project):
    notebook(project / "nbs" / "00_first.ipynb", "open('ran', 'w')")
    notebook(project / "nbs" / "paper" / "01_a.ipynb", "1", parameters="profil = 'mini'")
    with pytest.raises(ValueError, match="does not declare `profile`"):
        reproduce(root=project)
    assert not (project / "nbs" / "ran").exists()


def test_kernels_are_this_interpreter_in_the_folder_of_the_notebook_and_offline(project, monkeypatch):
    decoy = project / "home" / ".local" / "share" / "jupyter" / "kernels" / "python3"
    decoy.mkdir(parents=True)
    (decoy / "kernel.json").write_text(
        json.dumps(
            {
                "argv": ["/nowhere/python", "-m", "ipykernel_launcher", "-f", "{connection_file}"],
                "display_name": "decoy",
                "language": "python",
            }
        )
    )
    monkeypatch.setenv("HOME", str(project / "home"))
    monkeypatch.delenv("JUPYTER_PREFER_ENV_PATH", raising=False)
    notebook(
        project / "nbs" / "paper" / "01_a.ipynb",
        "import sys, os; print(sys.executable, os.getcwd(), os.environ['HF_HUB_OFFLINE'])",
    )
    reproduce(root=project)
    assert executed(project, "01_a").split() == [sys.executable, str(project / "nbs" / "paper"), "1"]


def test_a_failing_notebook_is_one_line_that_says_where(project, capsys):
    notebook(project / "nbs" / "paper" / "01_a.ipynb", "1", "{}['country']")
    notebook(project / "nbs" / "paper" / "02_b.ipynb", "open('ran', 'w')")
    with pytest.raises(NotebookFailed) as failed:
        reproduce(root=project)
    assert "nbs/paper/01_a.ipynb, cell 2: KeyError: 'country'" in str(
        failed.value
    ) and "data/mini/executed/paper/01_a.ipynb" in str(failed.value)
    assert (project / "data" / "mini" / "executed" / "paper" / "01_a.ipynb").exists() and not (
        project / "nbs" / "paper" / "ran"
    ).exists()


def test_a_kernel_that_dies_is_said_to_have_died(project):
    notebook(project / "nbs" / "paper" / "01_a.ipynb", "import os; os.kill(os.getpid(), 9)")
    with pytest.raises(NotebookFailed, match="its kernel died"):
        reproduce(root=project)


def test_a_second_run_of_the_same_profile_is_refused(project):
    notebook(project / "nbs" / "paper" / "01_a.ipynb", "1")
    with alone(project / "data" / "mini"), pytest.raises(Busy, match="another run is using"):
        reproduce(root=project)


def test_only_replaces_its_own_rows_of_the_report(project):
    for name in ("01_a", "02_b"):
        notebook(
            project / "nbs" / "paper" / f"{name}.ipynb", f"open('../../figures/{name}.csv', 'w').write('1')"
        )
    reproduce(root=project)
    whole = (project / "figures" / "run_report.md").read_bytes()
    report = reproduce(only="02_b", root=project)
    assert (project / "figures" / "run_report.md").read_bytes() == whole
    assert [(r.item, r.files) for r in report.rows] == [("02_b", ["figures/02_b.csv"])]
    lines = (project / "data" / "mini" / "run_report.md").read_text().splitlines()
    cells = [[c.strip() for c in line.split("|")[1:4]] for line in lines]
    for name in ("01_a", "02_b"):
        assert [name, f"nbs/paper/{name}.ipynb", f"figures/{name}.csv"] in cells


def test_a_run_with_changed_settings_leaves_the_committed_figures_and_report_alone(project, capsys):
    write = (
        "(figures_folder(profile, {root!r}) / 'a.csv').write_text(str(read_profile(profile, {nbs!r}).sft.lr))"
    )
    cells = ["from globe.folders import figures_folder\nfrom globe.pipeline.profiles import read_profile"]
    cells.append(write.format(root=str(project), nbs=str(project / "nbs" / "profiles")))
    notebook(project / "nbs" / "paper" / "01_a.ipynb", *cells, parameters="profile = 'mini'")
    reproduce(root=project)
    kept = {p: p.read_bytes() for p in (project / "figures").iterdir()}
    assert len(kept) == 3
    reproduce(root=project, overrides=dict(sft=dict(lr=0.5)))
    assert {p: p.read_bytes() for p in (project / "figures").iterdir()} == kept
    assert (project / "data" / "mini" / "figures" / "run_report.md").exists()
    assert "report: data/mini/figures/run_report.md" in capsys.readouterr().out


def test_fresh_forgets_what_was_made(project):
    notebook(
        project / "nbs" / "paper" / "01_a.ipynb",
        f"from globe.pipeline.stages import stage\ns = stage({str(project / 'data' / 'mini' / 's')!r}, lambda f: None, {{}})\nprint(s.run['started'])",
    )
    reproduce(root=project)
    before = executed(project, "01_a")
    time.sleep(1.1)
    reproduce(root=project)
    assert executed(project, "01_a") == before
    reproduce(root=project, force=True)
    assert executed(project, "01_a") != before


def test_publish_keeps_outputs_without_the_injected_cell(project):
    path = notebook(
        project / "nbs" / "paper" / "01_a.ipynb",
        "import warnings; warnings.warn('no'); steps = 1",
        "profile",
        parameters="profile = 'mini'",
    )
    notebook(project / "nbs" / "index.ipynb", "1")  # becomes README.md
    (project / "settings.ini").write_text((ROOT / "settings.ini").read_text())
    reproduce(root=project)
    publish(root=project)
    published, first = nbformat.read(path, 4), path.read_bytes()
    assert [c.cell_type for c in published.cells] == ["markdown", "code", "code", "code"] and published.cells[
        1
    ].metadata.tags == ["parameters"]
    assert published.cells[2].outputs == [] and published.cells[3].outputs[0].data["text/plain"] == "'mini'"
    publish(root=project)
    assert path.read_bytes() == first


SLOW = """
from pathlib import Path
from globe.pipeline.stages import stage
import time
def make(folder):
    for i in range(50):
        if not (folder/str(i)).exists():
            with open(folder.parent/'log', 'a') as f: f.write(f'{i}\\n')
            time.sleep(.1)
            (folder/str(i)).write_text('')
stage(Path('../../data/mini/slow').resolve(), make, {})
"""


@pytest.fixture
def slow(project):
    "A run of a slow notebook in a process of its own: (project, function that starts it)."
    notebook(project / "nbs" / "paper" / "01_slow.ipynb", SLOW)
    script = project / "run.py"
    script.write_text(
        f"import sys, globe.cli, globe.pipeline.reproduce as r\nr.checkout = lambda: {str(project)!r}\nsys.exit(globe.cli.main(['reproduce']))"
    )
    listen = lambda: signal.signal(
        signal.SIGINT, signal.SIG_DFL
    )  # a background job of a shell inherits an ignored Ctrl-C
    return project, lambda: subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=listen
    )


def wait_for(log, rows, limit=60):
    until = time.time() + limit
    while not (log.exists() and len(log.read_text().split()) >= rows):
        assert time.time() < until, "the stage did not start"
        time.sleep(0.05)


@pytest.mark.parametrize("how, code", [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_run_that_was_stopped_goes_on_where_it_was(slow, how, code):
    project, start = slow
    log = project / "data" / "mini" / "log"
    running = start()
    wait_for(log, 5)
    running.send_signal(how)
    out, err = running.communicate(timeout=30)
    assert running.returncode == code and "Traceback" not in err
    if how == signal.SIGINT:
        assert "interrupted" in err
    again = start()
    out, err = again.communicate(timeout=300)
    assert again.returncode == 0, err
    assert "resumes" in out and "▶ slow" in out
    rows = log.read_text().split()
    assert set(rows) == {str(i) for i in range(50)} and len(rows) <= 51, "more than the unit in hand was lost"


def globe(*arguments):
    return subprocess.run([*GLOBE, *arguments], capture_output=True, text=True)


def test_importing_globe_is_light():
    code = "import time; t = time.perf_counter(); import globe; s = time.perf_counter() - t; import sys; print(s, 'torch' in sys.modules)"
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.split()
        for _ in range(3)
    ]
    assert min(float(s) for s, _ in runs) < 0.5 and {t for _, t in runs} == {"False"}


@pytest.mark.parametrize(
    "module",
    [
        "places.match",
        "photos.collections",
        "photos.benchmarks",
        "evaluation.score",
        "evaluation.compare",
        "evaluation.baselines",
        "evaluation.leakage",
        "evaluation.calibration",
        "pipeline.profiles",
        "pipeline.stages",
        "pipeline.reproduce",
        "pipeline.publish",
        "pipeline.model_cards",
        "pipeline.doctor",
        "command_options",
        "cli",
    ],
)
def test_the_ground_floor_does_not_import_torch(module):
    assert (
        subprocess.run(
            [sys.executable, "-c", f"import globe.{module}, sys; sys.exit('torch' in sys.modules)"]
        ).returncode
        == 0
    )


def test_help_comes_at_once_and_names_every_command():
    before = os.times()
    helped = globe("--help")
    after = os.times()
    seconds = after.children_user + after.children_system - before.children_user - before.children_system
    assert helped.returncode == 0 and seconds < 0.5  # of the processor, whatever else runs on this machine
    for command in ("reproduce", "doctor", "score", "distill", "publish"):
        assert command in helped.stdout
        assert globe(command, "--help").returncode == 0


@pytest.mark.parametrize(
    "arguments, code, text",
    [
        ([], 2, "required: COMMAND"),
        (["reproduse"], 2, "invalid choice"),
        (["reproduce", "--profile", "huge"], 2, "no profile 'huge'; there are mini, one-gpu, paper, smoke"),
        (["reproduce", "--seeds", "0"], 2, "at least 1"),
        (["reproduce", "--seeds", "0", "--dry-run"], 2, "at least 1"),
        (["doctor", "--profile", "huge"], 2, "no profile 'huge'"),
        (["train", "grpo", "--profile", "huge"], 2, "no profile 'huge'"),
        (["reproduce", "--photos", "nowhere"], 2, "nowhere is not a folder"),
        (["reproduce", "--only", "tabel3"], 2, "no notebook fits 'tabel3'; the closest names are table3, "),
        (["reproduce", "--only", "nosuch"], 2, "for all names: ls nbs nbs/*"),
        (["score", "nowhere.csv", "--truth", "nowhere.csv"], 1, "nowhere.csv"),
    ],
)
def test_exit_codes_and_one_line_errors(arguments, code, text):
    done = globe(*arguments)
    assert done.returncode == code and text in done.stderr and "Traceback" not in done.stderr


def test_score_reads_two_files_and_speaks_json(tmp_path):
    (tmp_path / "truth.csv").write_text("id,lat,lon\na,60.17,24.94\nb,48.86,2.35\n")
    (tmp_path / "said.csv").write_text("id,lat,lon\na,60.17,24.94\nb,-33.87,151.21\n")
    done = globe("score", str(tmp_path / "said.csv"), "--truth", str(tmp_path / "truth.csv"), "--json")
    assert done.returncode == 0, done.stderr
    assert 0.5 in json.loads(done.stdout).values()
    assert (
        globe(
            "score",
            str(tmp_path / "said.csv"),
            "--truth",
            str(tmp_path / "truth.csv"),
            "--figure",
            str(tmp_path / "map.png"),
        ).stdout.count("|")
        > 4
    )
    assert (tmp_path / "map.png").stat().st_size > 10_000 and (tmp_path / "map.svg").exists()


def test_doctor_says_what_is_there_and_how_to_get_what_is_not(monkeypatch, capsys):
    done = globe("doctor", "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 0 and {"python", "torch", "device"} <= set(found)
    monkeypatch.setattr("globe.pipeline.doctor._unfit", lambda *extras: [("numpy<3,>=2.0", "1.26")])
    assert main(["doctor"]) == 0
    told = capsys.readouterr().out
    assert "numpy<3,>=2.0" in told and "1.26" in told and "pip install" in told
    assert main(["doctor", "--profile", "smoke"]) == 1
    assert "numpy<3,>=2.0" in capsys.readouterr().err


def test_usage_errors_come_before_any_work(project):
    notebook(project / "nbs" / "01_a.ipynb", "1")
    for wrong in (dict(profile="huge"), dict(seeds=0), dict(photos="nowhere"), dict(only="zebra")):
        with pytest.raises((Usage, SettingsError)):
            reproduce(root=project, **wrong)
    assert not (project / "data").exists()


def test_a_checkpoint_is_evaluated_on_a_benchmark(tmp_path, capsys):
    from globe.world import student
    from PIL import Image

    student.student(0, hidden=96, layers=1, depth=1).save(tmp_path / "model")
    folder = tmp_path / "benchmarks" / "mp16-reason-test"
    folder.mkdir(parents=True)
    for name in "abc":
        Image.new("RGB", (80, 60), "red").save(folder / f"{name}.jpg")
    (folder / "mp16-reason-test-12k.csv").write_text(
        "IMG_ID,LAT,LON,city,country\na,60.17,24.94,Helsinki,Finland\nb,48.86,2.35,Paris,France\nc,35.69,139.69,Tokyo,Japan\nlost,1,2,,\n"
    )
    command = [
        "evaluate",
        "--model",
        str(tmp_path / "model"),
        "--benchmark",
        "mp16-reason-test",
        "--data",
        str(tmp_path / "benchmarks"),
        "--out",
        str(tmp_path / "answers"),
        "--max-new-tokens",
        "4",
    ]
    assert main([*command, "--limit", "2"]) == 0
    answers = next((tmp_path / "answers").rglob("answers.jsonl"))
    first = answers.read_text().splitlines()
    assert len(first) == 2
    assert main(command) == 0  # goes on with the third
    assert answers.read_text().splitlines()[:2] == first and len(answers.read_text().splitlines()) == 3
    told = capsys.readouterr()
    assert "named-city oracle" in told.out and "acc@25 km" in told.out and "lost" in told.err
    assert "could not be used: 1" in told.out
    assert (answers.parent / "predictions.csv").exists()
    assert main([*command[:4], "nowhere", *command[5:]]) == 1 and "known: " in capsys.readouterr().err


def test_a_dry_run_lists_what_the_paper_needs_and_fetches_nothing(monkeypatch, capsys):
    import socket

    reached = set()

    def refuse(address, *a, **k):  # a thread may ask: the test cannot fail here
        reached.add(address[0])
        raise OSError("no network")

    monkeypatch.setattr(socket, "create_connection", refuse)
    assert main(["reproduce", "--profile", "paper", "--seeds", "3", "--dry-run"]) == 1
    assert reached <= {"localhost", "127.0.0.1"}  # are the teachers there?
    out = capsys.readouterr().out
    for what in [
        "Qwen/Qwen2.5-VL-7B-Instruct",
        "Qwen/Qwen2.5-VL-72B-Instruct",
        "OpenGVLab/InternVL3-78B",
        "geoclip",
        "nvidia/segformer",
        "sentence-transformers/all-mpnet-base-v2",
        "judge, 2 passes",
        "every model, 14,997 test photographs",
        "two of GRPO, 480 test photographs 16 times",
        "mp16-reason-train",
        "im2gps3k",
        "grpo-all-readme, 3 seeds",
        "GPU hours",
        "disk: about",
    ]:
        assert what in out
    assert (
        main(["reproduce", "--dry-run"]) == 0 and "disk: about 300 MB; free here" in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    "profile, free, says, left",
    [
        ("paper", 20, "and the photographs", "20 GB"),
        ("mini", 0.1, "300 MB", "100 MB"),
        ("mini", 0.0001, "300 MB", "100 kB"),
    ],
)
def test_a_dry_run_refuses_a_disk_that_is_too_small(monkeypatch, capsys, profile, free, says, left):
    import shutil

    usage = shutil.disk_usage("/")._replace(free=int(free * 1e9))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert main(["reproduce", "--profile", profile, "--dry-run"]) == 1
    lines = capsys.readouterr().out.splitlines()
    (line,) = [line for line in lines if line.startswith("cannot run: this run writes about")]
    assert says in line and f"only {left} are free" in line and "larger disk" in line
    assert not lines[-1].startswith("then:")


def test_a_run_refuses_a_disk_that_is_too_small(monkeypatch, capsys):
    import shutil

    usage = shutil.disk_usage("/")._replace(free=1_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    monkeypatch.setattr("globe.reproduce_command._DRAWN_GB", 100)  # more than an earlier run wrote
    assert main(["reproduce", "--profile", "smoke"]) == 1
    assert "cannot run here: this run writes about" in capsys.readouterr().err


def test_a_part_of_a_run_prints_its_own_row_and_tables(monkeypatch, capsys):
    from globe.pipeline import reproduce as module
    from globe.pipeline.report import Report, Row

    files = ["figures/claims.csv", "figures/claims.md", "figures/claims.png", "figures/dataset_card.md"]
    row = Row("nbs/paper/09_claims.ipynb", "Claims", files, dict(profile="mini"), 12.0)
    monkeypatch.setattr(module, "reproduce", lambda *given: Report("mini", [row]))
    main(["reproduce", "--only", "09_claims"])
    out = capsys.readouterr().out
    assert out.count(".ipynb") == 1 and "GRPO improves the base model" in out and "license" not in out


def test_the_profile_paper_goes_as_far_as_its_first_download(monkeypatch):
    from globe.pipeline.tasks import Run

    run = Run("paper")
    assert run.base() == "Qwen/Qwen2.5-VL-7B-Instruct" and [t.name for t in run.teachers()][2] == "geoclip"
    for split in ("train", "test", "shifted"):
        with pytest.raises(FileNotFoundError, match="put .* into that folder"):
            run.photos(split)


def test_a_clock_that_is_set_back_neither_silences_a_run_nor_changes_its_times(tmp_path, monkeypatch, capsys):
    import time
    from globe.pipeline.report import Watch

    (tmp_path / "progress").write_text("")
    watch, now = Watch(tmp_path / "progress", every=0), time.time()
    monkeypatch.setattr(time, "time", lambda: now - 3600)
    watch.look()
    watch.status("cell 1 of 2")
    assert watch.beside >= 0 and "cell 1 of 2" in capsys.readouterr().out
