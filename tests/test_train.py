"Training: what should move moves, what should not does not, and a run that is killed goes on."
import os, signal, subprocess, sys
from pathlib import Path

import pytest
import torch

from globe import postcards, train, vlm


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    "An untrained student of the smallest size."
    return vlm.student(0, hidden=96, layers=2, vision=80, depth=2).save(tmp_path_factory.mktemp("start"))


@pytest.fixture(scope="module")
def data():
    "Sixteen MP16-Reason rows without the road that leads to them."
    rows = postcards.postcards(16, seed=1, localizable_share=1.)
    entities = [[dict(text=e, share=.1) for e in row] for row in rows["entities"]]
    return rows.remove_columns(["entities"]).add_column("entities", entities).add_column("reasoning", [" ".join(s) for s in rows["sentences"]])


def weights(folder): return {k: v.clone() for k, v in vlm.load(folder).model.state_dict().items()}


def moved(before, after):
    "Names of the parameters that differ."
    return {k for k in before if not torch.equal(before[k], after[k])}


SMALL = dict(steps=2, batch=8, lr=1e-3, save_steps=1, warmup=0.)


def variety(completions, **columns):
    "A reward that differs within the group even for an untrained model, which no real reward does."
    return [len(set(c[0]["content"])) / 50 for c in completions]


@pytest.mark.parametrize("kind", ["sft", "grpo"])
def test_language_moves_and_vision_stays(kind, start, data, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "weighted", lambda name, judge=None: ([variety], [1.]))
    more = dict(group=4, rewards="recommended", max_new_tokens=12) if kind == "grpo" else {}
    lines = []
    out = getattr(train, kind)(start, data, tmp_path / kind, seed=1, watch=lines.append, **SMALL, **more)
    changed = moved(weights(start), weights(out))
    assert changed and not [k for k in changed if "visual" in k]
    if kind == "sft": assert len([k for k in changed if "language_model.layers" in k]) > 10
    assert (out / "log.csv").exists() and not list(out.glob("checkpoint-*")), "the log stays, checkpoints go"
    assert any(line.startswith("step 2/2") for line in lines)


@pytest.mark.parametrize("kind", ["sft", "grpo"])
def test_lora_gives_a_whole_model(kind, start, data, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "weighted", lambda name, judge=None: ([variety], [1.]))
    more = dict(group=4, max_new_tokens=12) if kind == "grpo" else {}
    out = getattr(train, kind)(start, data, tmp_path / "lora", lora=True, seed=1, **SMALL, **more)
    assert not (out / "adapter_config.json").exists()
    changed = moved(weights(start), weights(out))
    assert changed and all("_proj" in k for k in changed)


def test_an_unknown_configuration_is_named(start, data, tmp_path):
    with pytest.raises(ValueError, match="choose one of"): train.grpo(start, data, tmp_path, rewards="everything", **SMALL)


RUN = """
import sys, os
sys.path.insert(0, {tests!r})
from pathlib import Path
from globe import postcards, train
from test_train import variety
train.weighted = lambda name, judge=None: ([variety], [1.])
rows = postcards.postcards(16, seed=1, localizable_share=1.)
rows = rows.remove_columns(["entities"]).add_column("entities", [[dict(text=e, share=.1) for e in r] for r in rows["entities"]]).add_column("reasoning", [" ".join(s) for s in rows["sentences"]])
train.grpo({start!r}, rows, Path({out!r}), rewards="accuracy", group=4, max_new_tokens=8, steps=6, batch=8, lr=1e-3, save_steps=2, seed=1, watch=lambda line: print(line, flush=True))
"""


def test_grpo_survives_a_kill(start, tmp_path):
    "Killed after step 4 of 6, the same call goes on from a checkpoint and finishes."
    def run(out, kill_after=None):
        code = RUN.format(tests=str(Path(__file__).parent), start=str(start), out=str(out))
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as p:
            steps = []
            for line in p.stdout:
                if line.startswith("step "): steps.append(int(line.split()[1].split("/")[0]))
                if kill_after and steps and steps[-1] >= kill_after: os.kill(p.pid, signal.SIGKILL); break
            p.wait()
        return steps
    assert run(tmp_path / "killed", kill_after=4)[-1] == 4
    assert train.last_checkpoint(tmp_path / "killed"), "a checkpoint survives"
    again = run(tmp_path / "killed")
    assert again[0] > 2, "finished steps are not repeated"
    assert again[-1] == 6
    assert moved(weights(start), weights(tmp_path / "killed")), "it learned something"
    assert not list((tmp_path / "killed").glob("checkpoint-*"))


def test_half_written_checkpoints_are_dropped(tmp_path):
    for n in (2, 10): (tmp_path / f"checkpoint-{n}").mkdir()
    (tmp_path / "checkpoint-2" / "trainer_state.json").write_text("{}")
    assert train.last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-2")
    assert not (tmp_path / "checkpoint-10").exists()
