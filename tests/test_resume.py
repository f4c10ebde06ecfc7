"Training resumes from the newest checkpoint that is good, takes no step too many, refuses bad rows."

import io, json, os, shutil, subprocess, sys
from pathlib import Path

import datasets
import pytest
import torch
from PIL import Image

from globe.models import checkpoints
from globe.training import grpo, trainer as trainer_module
from globe.training.configurations import weighted
from globe.training.judge import train_judge
from test_train import Enough, data, moved, start, train, variety, weights  # noqa: F401

KINDS = ["sft", "grpo", "judge"]
JUDGE = dict(steps=4, batch_size=2, lr=1e-3, save_steps=1, hard_negatives=False, watch=False)


@pytest.fixture(autouse=True)
def spread(monkeypatch):
    monkeypatch.setattr(grpo, "weighted", lambda name, *more: ([variety], [1.0]))


def pairs(data):
    return data.select_columns(["id", "image", "reasoning"]).add_column("label", [0, 1] * (len(data) // 2))


def run(kind, start, data, out, **changes):
    if kind == "judge":
        return train_judge(start, pairs(data), out, **JUDGE | changes)
    return train(kind, start, data, out, **dict(steps=4) | changes)


def result(out):
    "The bytes of the weights that a run left."
    return {p.name: p.read_bytes() for p in sorted(out.glob("*.safetensors"))}


def stopped(kind, start, data, out, after=3):
    "A run that ended in the step after `after`."

    def stop(done, total, numbers):
        if done > after:
            raise Enough

    with pytest.raises(Enough):
        run(kind, start, data, out, watch=stop)
    return out


@pytest.fixture(scope="module")
def whole(start, data, tmp_path_factory):
    "What each kind of training leaves when nothing disturbs it."
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grpo, "weighted", lambda name, *more: ([variety], [1.0]))
        return {kind: result(run(kind, start, data, tmp_path_factory.mktemp(kind))) for kind in KINDS}


def die(*given, **more):
    raise Enough


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_killed_after_its_last_step_takes_no_further_one(
    kind, whole, start, data, tmp_path, monkeypatch
):
    out, steps = tmp_path / kind, []
    watch = lambda done, total, numbers: steps.append(done)
    with monkeypatch.context() as patch:
        patch.setattr(trainer_module, "_save", die)
        patch.setattr("globe.training.judge._save_judge", die)
        for _ in range(3):
            with pytest.raises(Enough):
                run(kind, start, data, out, watch=watch)
    run(kind, start, data, out, watch=watch)
    assert steps == [1, 2, 3, 4] and result(out) == whole[kind]


KILLED = """
import os, random, shutil, signal, sys, tempfile
from pathlib import Path

sys.path.insert(0, {tests!r})
import soak
from globe.models import checkpoints
from globe.training import trainer


def dies(function, before):  # its process does, just before or just after it has worked
    def work(*given):
        before or function(*given)
        os.kill(os.getpid(), signal.SIGKILL)
    return work


removed = shutil.rmtree
moments = dict(
    before=lambda: setattr(trainer, "finish", dies(checkpoints.finish, True)),
    between=lambda: setattr(checkpoints.shutil, "rmtree", dies(removed, False)),
    after=lambda: setattr(trainer, "finish", dies(checkpoints.finish, False)),
)


def killed(kind, out, moment):
    moments[moment]()
    kind.work(out)


with tempfile.TemporaryDirectory() as base:
    for bench in soak.benches(Path(base), 0, ["SFT", "GRPO", "judge"]):
        for moment in moments:
            out, counts = bench.folder(), soak.Counts("killed")
            code = soak.ended(soak.forked(killed, bench.kind, out, moment), counts)
            assert code == -signal.SIGKILL, (moment, code)
            begun = bench.kind.begun(out)
            bench.finish(out, counts)
            found = [getattr(counts, name) for name in soak.COUNTED]
            print(bench.name, moment, len(begun), *found, counts.notes)
"""


def test_a_finished_training_that_is_killed_before_its_end_takes_no_step_again():
    code = KILLED.format(tests=str(Path(__file__).parent))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=500)
    lines = done.stdout.splitlines()
    assert len(lines) == 9 and all(line.endswith(" 5 0 0 0 0 []") for line in lines), lines + [
        done.stderr[-2000:]
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_training_is_done_once_and_another_one_is_refused(kind, start, data, tmp_path, capsys):
    "Whatever changes no weights may change; anything else is named, and the first result stays."
    out, steps = tmp_path / kind, []
    watch = lambda done, total, numbers: steps.append(done)
    first = result(run(kind, start, data, out, watch=watch))
    assert result(run(kind, start, data, out, watch=watch, save_steps=3)) == first and steps == [1, 2, 3, 4]
    assert "to train again, delete it" in capsys.readouterr().out
    seed = 0 if kind == "judge" else 1
    with pytest.raises(ValueError, match=f"{kind}.*seed was {seed}, is now 9"):
        run(kind, start, data, out, watch=watch, seed=9)
    with pytest.raises(ValueError, match="another data"):
        run(kind, start, data.select(range(len(data) - 2)), out, watch=watch)
    assert result(out) == first and len(steps) == 4
    weights_of = next(out.glob("*.safetensors"))
    os.truncate(weights_of, weights_of.stat().st_size - 1)
    assert result(run(kind, start, data, out, watch=watch)) == first
    assert len(steps) == 8


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_training_does_not_resume_with_other_settings(kind, start, data, tmp_path):
    out = stopped(kind, start, data, tmp_path / kind)
    with pytest.raises(ValueError, match="lr was"):
        run(kind, start, data, out, lr=2e-3)
    assert checkpoints.last_checkpoint(out)


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_training_resumes_with_its_own_model_and_data_only(kind, start, data, tmp_path):
    "Another model of the same sizes, or other rows of the same number, would give weights that nobody asked for."
    out = stopped(kind, start, data, tmp_path / kind)
    other = Path(shutil.copytree(start, tmp_path / "other"))
    (weights,) = other.glob("*.safetensors")
    content = bytearray(weights.read_bytes())
    content[-400:] = bytes(400)
    weights.write_bytes(content)
    with pytest.raises(ValueError, match="another model"):
        run(kind, other, data, out)
    with pytest.raises(ValueError, match="another data"):
        run(kind, start, data.select(range(len(data) - 1, -1, -1)), out)
    copied = Path(shutil.copytree(start, tmp_path / "copy"))  # the same model elsewhere, with other times
    assert run(kind, copied, data, out) and list(out.glob("*.safetensors"))


BAD = {
    "an empty state": ("trainer_state.json", 0),
    "half a state": ("trainer_state.json", 0.5),
    "a cut optimizer": ("optimizer.pt", 0.5),
    "an empty optimizer": ("optimizer.pt", 0),
    "no optimizer": ("optimizer.pt", None),
    "no schedule": ("scheduler.pt", None),
    "no random numbers": ("rng_state.pth", None),
    "cut weights": ("*.safetensors", 0.9),
    "no weights": ("*.safetensors", None),
    "an empty configuration": ("config.json", 0),
    "half a configuration": ("config.json", 0.5),
    "no configuration": ("config.json", None),
    "an optimizer whose head is zero": ("optimizer.pt", (0, 0.02)),
    "an optimizer whose middle is zero": ("optimizer.pt", (0.4, 0.9)),
    "random numbers whose head is zero": ("rng_state.pth", (0, 0.1)),
    "weights whose second half is zero": ("*.safetensors", (0.5, 1)),
}


def spoil(checkpoint, how):
    name, left = BAD[how]
    (path,) = (
        checkpoint.glob(name)
        if (checkpoint / name).exists() or "*" in name
        else checkpoint.glob(f"adapter_{name}")
    )
    if left is None:
        path.unlink()
    elif isinstance(left, tuple):  # what a power loss may leave
        content = path.read_bytes()
        a, b = (int(part * len(content)) for part in left)
        path.write_bytes(content[:a] + bytes(b - a) + content[b:])
    else:
        os.truncate(path, int(left * path.stat().st_size))


@pytest.fixture(scope="module")
def interrupted(start, data, tmp_path_factory):
    "Folders of runs that ended early, by kind."
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grpo, "weighted", lambda name, *more: ([variety], [1.0]))
        return {k: stopped(k, start, data, tmp_path_factory.mktemp(k)) for k in KINDS}


TO_THE_END = dict(
    sft=["cut weights", "no configuration"],
    grpo=["no optimizer", "half a configuration"],
    judge=["an empty state", "an empty configuration"],
)


@pytest.mark.parametrize("how", BAD)
@pytest.mark.parametrize("kind", KINDS)
def test_the_newest_good_checkpoint_is_taken(kind, how, whole, interrupted, start, data, tmp_path, capsys):
    out = shutil.copytree(interrupted[kind], tmp_path / kind)
    newest = checkpoints.checkpoints(out)[-1]
    spoil(newest, how)
    if how not in TO_THE_END[kind]:
        checkpoints.sort_out(out)
        assert checkpoints.last_checkpoint(out).endswith("checkpoint-2")
        return
    steps = []
    run(kind, start, data, out, watch=lambda done, total, numbers: steps.append(done))
    assert steps == [3, 4] and result(out) == whole[kind]
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "damaged" in line]
    assert "resumes from checkpoint-2" in line and newest.name in line
    assert not list(out.glob("*checkpoint-*"))


def test_without_any_good_checkpoint_training_begins_anew_and_says_so(
    whole, interrupted, start, data, tmp_path, capsys
):
    out = shutil.copytree(interrupted["sft"], tmp_path / "out")
    for c in checkpoints.checkpoints(out):
        spoil(c, "no optimizer")
    run("sft", start, data, out)
    assert result(out) == whole["sft"] and "starts from the beginning" in capsys.readouterr().out


@pytest.mark.parametrize("kind", KINDS)
def test_every_file_that_was_sealed_must_be_as_it_was(kind, interrupted, tmp_path):
    "Whichever file a disk loses or empties, one that can still be read as JSON included."
    newest = checkpoints.checkpoints(interrupted[kind])[-1]
    for path in sorted(newest.glob("*.json")) + sorted(newest.glob("*.safetensors")):
        for left in (None, b"", b"{}"):
            c = Path(shutil.copytree(newest, tmp_path / f"{path.name}-{left}"))
            assert not checkpoints.flaw(c)
            (c / path.name).unlink() if left is None else (c / path.name).write_bytes(left)
            is_record = path.name == "checksums.json" and left != b""  # a kill before it was written
            named = [path.name, "the weights are missing" if path.suffix == ".safetensors" else path.name]
            assert is_record or any(name in str(checkpoints.flaw(c)) for name in named), (path.name, left)


def test_a_state_of_another_step_is_a_flaw(interrupted, tmp_path):
    "Training would end there without a step."
    c = Path(shutil.copytree(checkpoints.checkpoints(interrupted["sft"])[-1], tmp_path / "checkpoint-3"))
    (c / "checksums.json").unlink()
    assert not checkpoints.flaw(c)
    state = json.loads((c / "trainer_state.json").read_text())
    (c / "trainer_state.json").write_text(json.dumps(state | dict(global_step=99)))
    assert "another step" in str(checkpoints.flaw(c))


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_whole_states_of_another_training_block_no_restart(name, whole, interrupted, start, data, tmp_path):
    out = shutil.copytree(interrupted["sft"], tmp_path / "out")
    newest = checkpoints.checkpoints(out)[-1]
    (newest / "checksums.json").unlink()
    torch.save(dict(another=1), newest / name)
    with pytest.raises(ValueError, match="does not fit this training"):
        run("sft", start, data, out)
    run("sft", start, data, out)
    assert result(out) == whole["sft"]


def test_checkpoints_of_several_processes_and_of_deepspeed(interrupted, tmp_path):
    "The states of all random numbers; DeepSpeed's own folder in place of weights and optimizer."
    out = shutil.copytree(interrupted["sft"], tmp_path / "out")
    a, b = checkpoints.checkpoints(out)[-2:]
    (a / "rng_state.pth").rename(a / "rng_state_0.pth")
    assert "random" in str(checkpoints.flaw(a))
    shutil.copy(a / "rng_state_0.pth", a / "rng_state_1.pth")
    assert not checkpoints.flaw(a)
    shutil.copy(a / "rng_state_0.pth", a / "rng_state_3.pth")
    assert "random" in str(checkpoints.flaw(a)), "those of the third process are missing"
    inner = b / "global_step3"
    inner.mkdir()
    optimizer = inner / "zero_pp_rank_0_mp_rank_00_optim_states.pt"
    (b / "optimizer.pt").rename(optimizer)
    assert "latest" in str(checkpoints.flaw(b))
    (b / "latest").write_text("global_step3\n")
    assert "weights" in str(checkpoints.flaw(b))
    shutil.copy(b / "scheduler.pt", inner / "mp_rank_00_model_states.pt")
    assert not checkpoints.flaw(b)
    os.truncate(optimizer, 99)
    assert "cut" in str(checkpoints.flaw(b))


def test_deepspeed_wants_the_files_of_every_process(interrupted, tmp_path):
    "Two processes: a kill between their writes leaves the files of one, which DeepSpeed cannot load."
    last = checkpoints.checkpoints(shutil.copytree(interrupted["sft"], tmp_path / "out"))[-1]
    (last / "latest").write_text("global_step3\n")
    inner, tensors = last / "global_step3", (last / "optimizer.pt").read_bytes()
    inner.mkdir()
    (last / "rng_state.pth").rename(last / "rng_state_0.pth")
    shutil.copy(last / "rng_state_0.pth", last / "rng_state_1.pth")
    for name, missing in [
        ("bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt", "optimizer"),
        ("bf16_zero_pp_rank_1_mp_rank_00_optim_states.pt", "weights"),
        ("zero_pp_rank_0_mp_rank_00_model_states.pt", "weights"),
        ("zero_pp_rank_1_mp_rank_00_model_states.pt", ""),
    ]:
        (inner / name).write_bytes(tensors)
        flaw = checkpoints.flaw(last)
        assert missing in str(flaw) and bool(flaw) == bool(missing)


def test_shards_of_the_weights_are_all_wanted(interrupted, tmp_path):
    out = shutil.copytree(interrupted["sft"], tmp_path / "out")
    last = checkpoints.checkpoints(out)[-1]
    index = dict(weight_map=dict(a="model.safetensors", b="model-2.safetensors"))
    (last / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "model-2.safetensors is missing" in str(checkpoints.flaw(last))
    (last / "model.safetensors.index.json").write_text("{")
    assert checkpoints.flaw(last)


# --- what cannot be trained on ---


@pytest.fixture
def no_model(monkeypatch):
    "Nothing may be loaded."
    for module in (trainer_module, __import__("globe.training.judge", fromlist=["judge"])):
        monkeypatch.setattr(module, "load", lambda *a, **k: pytest.fail("a model was loaded"))
    monkeypatch.setattr(grpo, "load_processor", lambda *a, **k: pytest.fail("a processor was loaded"))


def with_picture(data, i, picture):
    "The rows, the `i`-th with another picture."
    kind = data.features["image"]
    raw = data.cast_column("image", datasets.Image(decode=False)).to_list()
    raw[i]["image"] = picture
    features = data.features.copy()
    features["image"] = kind
    return datasets.Dataset.from_list(raw, features=features)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "what", ["none", "narrow", "no picture", "half a JPEG", "a damaged PNG", "adapter", "no model"]
)
def test_what_cannot_be_trained_on_is_named(kind, what, start, data, tmp_path, no_model):
    model, rows, why = start, data, "row 6"
    if what == "none":
        rows = with_picture(data, 5, None)
    elif what == "narrow":
        Image.new("RGB", (1200, 5)).save(tmp_path / "a.png")
        rows = with_picture(data, 5, dict(bytes=(tmp_path / "a.png").read_bytes(), path=None))
    elif what == "no picture":
        rows = with_picture(data, 5, dict(bytes=b"<html>", path=None))
    elif what in ("half a JPEG", "a damaged PNG"):
        Image.effect_noise((200, 150), 90).convert("RGB").save(file := io.BytesIO(), what[-4:].strip())
        content = bytearray(file.getvalue())
        content[300:400] = bytes(100)
        content = content if "PNG" in what else content[: len(content) // 2]
        rows = with_picture(data, 5, dict(bytes=bytes(content), path=None))
    elif what == "adapter":
        (tmp_path / "adapter_config.json").write_text("{}")
        model, why = tmp_path, "adapter"
    else:
        model, why = tmp_path, "config.json"
    with pytest.raises((ValueError, FileNotFoundError), match=why):
        run(kind, model, rows, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "kind, column", [("sft", "country"), ("sft", "city"), ("sft", "reasoning"), ("judge", "reasoning")]
)
def test_a_row_without_a_text_is_named(kind, column, start, data, tmp_path, no_model):
    texts = [None if i == 5 else text for i, text in enumerate(data[column])]
    rows = data.remove_columns(column).add_column(column, texts)
    with pytest.raises(ValueError, match=f"row 6: its {column} is missing"):
        run(kind, start, rows, tmp_path / "out")
    if kind == "sft":
        with pytest.raises(ValueError, match=f"no column {column}"):
            run(kind, start, data.remove_columns(column), tmp_path / "out")
        if column != "city":
            for empty in (" ", "\u200b", "***"):
                rows = data.remove_columns(column).add_column(column, [text or empty for text in texts])
                with pytest.raises(ValueError, match=f"row 6: its {column} is empty"):
                    run(kind, start, rows, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_label_that_is_none_is_named(start, data, tmp_path, no_model):
    rows = pairs(data)
    labels = [None if i == 5 else label for i, label in enumerate(rows["label"])]
    with pytest.raises(ValueError, match="row 6: its label must be 0 or 1"):
        train_judge(
            start, rows.remove_columns("label").add_column("label", labels), tmp_path / "out", **JUDGE
        )


def test_a_column_that_a_reward_reads_must_be_there(start, data, tmp_path, no_model, monkeypatch):
    monkeypatch.setattr(grpo, "weighted", weighted)
    for column, rewards in [("city", "accuracy"), ("entities", "recommended")]:
        with pytest.raises(ValueError, match=f"column {column}"):
            run("grpo", start, data.remove_columns(column), tmp_path / "out", rewards=rewards)


def test_fewer_rows_than_a_step_takes_are_refused(start, data, tmp_path, no_model):
    with pytest.raises(ValueError, match="completions_per_step"):
        train("grpo", start, data.select([0]), tmp_path / "out")
    with pytest.raises(ValueError, match="rows"):
        train("sft", start, data.select([]), tmp_path / "out")


def test_sft_and_the_judge_take_fewer_rows_than_a_step_has(start, data, tmp_path):
    "They go through the rows again, or take a smaller step, which GRPO cannot."
    out = train("sft", start, data.select(range(3)), tmp_path / "sft", steps=3)
    assert moved(weights(start), weights(out))
    run("judge", start, data.select(range(2)), tmp_path / "judge", batch_size=8)
    assert (tmp_path / "judge" / "judge.json").exists()
