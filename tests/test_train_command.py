"`globe train`: every option is honoured or refused before a model is loaded, and nothing foreign is changed."

import json, shutil
from pathlib import Path

import pandas as pd
import pytest

import standins
from globe.cli import main
from globe.models import checkpoints
from globe.training import launch
from globe.training.settings_launch import LaunchSettings

STEP = ["--set", "steps=1", "--set", "examples_per_step=4"]


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    "Folders of a model and of rows, the published rows, and their pictures."
    from globe.world import postcards, student

    work = tmp_path_factory.mktemp("given")
    photos = postcards.postcards(16, seed=1, localizable_share=1.0)
    student.student(0, hidden=96, layers=1, depth=1).save(work / "start")
    rows = photos.remove_columns("entities").add_column(
        "reasoning", [" ".join(s) for s in photos["sentences"]]
    )
    rows.save_to_disk(work / "rows")
    return work, *standins.published(work, photos)


@pytest.fixture
def profile(given, tmp_path, monkeypatch):
    "Options that give the run of a profile this model and these rows, in a folder of its own."
    work, table, mp16 = given
    monkeypatch.setattr("globe.pipeline.data.run_folder", lambda name, root=None: tmp_path / "data" / name)
    monkeypatch.setattr("globe.pipeline.data.figures_folder", lambda name, root=None: tmp_path / "figures")
    settings = [f"student.source={work / 'start'}", f"photos.source={table}", f"photos.pictures={mp16}"]
    return ["--profile", "one-gpu", *(x for s in settings for x in ("--set", s)), *STEP]


@pytest.fixture
def no_model(monkeypatch):
    monkeypatch.setattr("globe.models.vlm.load", lambda *a, **k: pytest.fail("a model was loaded"))
    monkeypatch.setattr("globe.training.trainer.load", lambda *a, **k: pytest.fail("a model was loaded"))


def asked(given, how="sft", **options):
    "The arguments of `globe train` for the model and rows, with some options replaced; None leaves one out."
    work = given[0]
    options = dict(model=work / "start", data=work / "rows") | options
    pairs = [(f"--{name}", str(value)) for name, value in options.items() if value is not None]
    return ["train", how, *(x for pair in pairs for x in pair), *STEP[: 4 if how == "sft" else 2]]


def contents(folder):
    "Every file below a folder; its lock files aside."
    return {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file() and p.suffix != ".lock"}


def refused(command, capsys, *said):
    "The command fails with one line that says this."
    assert main(list(map(str, command))) in (1, 2)
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert all(part in line for part in said), line


def test_a_profile_trains_into_the_folder_of_out(given, profile, tmp_path):
    "With the model and rows of the profile's run, whose own models stay as they are."
    out = tmp_path / "own"
    assert main(["train", "sft", *profile]) == 0
    stage = tmp_path / "data" / "one-gpu" / "models" / "sft-0"
    before = contents(stage)
    assert main(["train", "sft", *profile, "--out", str(out), "--set", "lr=1e-3"]) == 0
    assert len(pd.read_csv(out / "log.csv")) == 1 and contents(stage) == before
    assert main(["train", "sft", *profile]) == 0 and contents(stage) == before, "it stays finished"
    files = {p.name: p.read_bytes() for p in out.glob("*.safetensors")}
    assert files != {p.name: p.read_bytes() for p in stage.glob("*.safetensors")}


def test_other_rows_and_another_judge_than_those_of_a_profile(given, profile, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(launch, "train", lambda *given, **more: calls.append((given, more)) or given[3])
    monkeypatch.setattr(launch, "check", lambda *given: None)
    work, out, judge = given[0], tmp_path / "out", tmp_path / "judge"
    asked = ["train", "grpo", *profile[:-2], "--out", out, "--set", "rewards=all-readme", "--judge", judge]
    assert main(list(map(str, [*asked, "--classes", "flag,dome"]))) == 0
    assert main(list(map(str, [*asked, "--data", work / "rows", "--model", work / "other"]))) == 0
    (first, more), (second, other) = calls
    assert first[:2] == ("grpo", str(work / "start")) and len(first[2]) == 16 and first[3] == str(out)
    assert more == dict(judge=str(judge), classes=["flag", "dome"]) and other == dict(judge=str(judge))
    assert second[1:4] == (str(work / "other"), str(work / "rows"), str(out))


@pytest.mark.parametrize("how,trained", [("sft", "sft"), ("grpo", "grpo-accuracy"), ("judge", "judge")])
def test_without_out_the_model_of_the_run_is_trained(how, trained, profile, monkeypatch, capsys):
    monkeypatch.setattr("globe.pipeline.tasks.Run.trained", lambda self, name: name)
    monkeypatch.setattr("globe.pipeline.tasks.Run.judge_at", lambda self: "judge")
    assert main(["train", how, *profile[:-4], "--set", "grpo.rewards=accuracy"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == trained


def test_options_that_would_not_be_read_are_refused(given, profile, tmp_path, capsys, no_model):
    work, out = given[0], ["--out", tmp_path / "out"]
    for option in ("--model", "--data"):
        refused(["train", "sft", *profile, option, work / "start"], capsys, option, "--out FOLDER")
    refused(["train", "sft", *profile, *out, "--judge", work], capsys, "--judge", "leave it out")
    refused(["train", "grpo", *profile[:-4], *out, "--judge", work], capsys, "--judge", "localizability")
    accuracy = ["--set", "grpo.rewards=accuracy"]
    refused(["train", "grpo", *profile[:-4], *out, *accuracy, "--classes", "flag"], capsys, "--classes")
    refused(["train", "sft", *profile, *out, "--data", "/does/not/exist"], capsys, "/does/not/exist")
    refused(["train", "sft", *profile, *out, "--model", "/does/not/exist"], capsys, "/does/not/exist")
    wanted = ["--set", "grpo.rewards=all-readme"]
    refused(["train", "grpo", *profile[:-4], *out, *wanted, "--judge", "/nope"], capsys, "/nope", "judge")
    refused(["train", "grpo", *profile[:-4], *out, *wanted], capsys, "teachers.endpoints")
    refused(["train", "sft", "--data", work / "rows", *out], capsys, "give --model, --data and --out")
    assert not (tmp_path / "out").exists() and not (tmp_path / "data").exists()


@pytest.mark.parametrize("what", ["weights", "model", "rows", "checkpoints", "file", "damaged"])
def test_a_folder_with_somebody_elses_work_is_refused(what, given, tmp_path, capsys, no_model):
    work, out = given[0], tmp_path / "out"
    options = dict(model=work / "start")
    if what == "file":
        out.write_text("mine")
        out = out / "below"
    elif what in ("model", "rows"):
        shutil.copytree(work / ("start" if what == "model" else "rows"), out)
        options = dict(model=out) if what == "model" else dict(data=out)
    else:
        out.mkdir()
        names = dict(
            weights="pytorch_model.bin", checkpoints="checkpoint-100", damaged="damaged-checkpoint-1"
        )
        path = out / names[what]
        if what == "weights":
            path.write_bytes(b"mine")
        else:
            path.mkdir()
            (path / "trainer_state.json").write_text('{"global_step": 100}')
    before = contents(tmp_path)
    refused(asked(given, out=out, **options), capsys, "give")
    assert contents(tmp_path) == before


def test_a_folder_of_ones_own_run_is_used_again(given, tmp_path, capsys):
    out, work = tmp_path / "out", given[0]
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    assert main(asked(given, out=out)) == 0 and main(asked(given, out=out)) == 0
    assert "to train again, delete it" in capsys.readouterr().out
    refused([*asked(given, out=out), "--set", "lr=1e-3"], capsys, "lr was")
    refused(asked(given, model=out, out=out), capsys, "is read by this training")
    (foreign := out / "checkpoint-100").mkdir()
    refused(asked(given, out=out), capsys, "checkpoint-100")
    assert foreign.exists() and (out / "notes.txt").read_text() == "mine"
    foreign.rmdir()
    checkpoints.begin(out, (out / checkpoints.FINISHED).read_text())
    (out / checkpoints.FINISHED).unlink()  # killed while it saved
    assert main(asked(given, out=out)) == 0 and checkpoints.unusable(out, work / "start") is None


def test_several_processes_leave_a_folder_of_rows_alone(given, tmp_path, monkeypatch):
    "Rows for the processes lie in a folder of its own name, which is removed even if they fail."
    from datasets import load_from_disk

    work, out, ended = given[0], tmp_path / "out", [0, 3]
    shutil.copytree(work / "rows", out / "rows")
    for name in ("job.json", "failed.json"):
        (out / name).write_text("mine")

    def run(command):
        job = json.loads(Path(command[-1]).read_text())
        assert Path(job["data"]).exists() and job["out"] == str(out)
        return ended.pop(0)

    before = contents(out)
    monkeypatch.setattr(launch, "_exit_code", run)
    where = LaunchSettings(processes=2)
    launch.train("sft", work / "start", out / "rows", out, launch=where)
    with pytest.raises(launch.TrainingFailed, match="exit code 3"):
        launch.train("sft", work / "start", load_from_disk(work / "rows"), out, launch=where)
    assert contents(out) == before and not list(out.glob("globe-job"))


def test_what_cannot_be_trained_is_one_line_before_a_model_is_loaded(given, tmp_path, capsys, no_model):
    text, out = shutil.copytree(given[0] / "start", tmp_path / "text"), tmp_path / "out"
    config = dict(model_type="qwen2", architectures=["Qwen2ForCausalLM"], hidden_size=64)
    (text / "config.json").write_text(json.dumps(config))
    refused(asked(given, model=text, out=out), capsys, "takes no pictures", "qwen2", "vision-language")
    for where in ("colocate", "http://localhost:8000"):
        command = [*asked(given, "grpo", out=out), "--set", f"rollouts={where}"]
        refused(command, capsys, f"grpo.rollouts={where}", "pip install vllm", "grpo.rollouts=transformers")
    assert not out.exists()


def test_no_card_is_written_that_is_wrong(given, tmp_path):
    "TRL's names the folder of an interrupted stage and no base model; somebody's own README stays."
    out = tmp_path / "out"
    assert main([*asked(given, out=out), "--set", "lora=true", "--set", "save_steps=1"]) == 0
    assert not list(out.rglob("README.md"))
    (own := tmp_path / "mine").mkdir()
    (own / "README.md").write_text("mine")
    assert main([*asked(given, out=own), "--set", "save_steps=1"]) == 0
    assert (own / "README.md").read_text() == "mine"
