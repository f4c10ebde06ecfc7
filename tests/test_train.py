"Training: the right weights move, the others do not, and an interrupted run resumes."

import os, signal, subprocess, sys
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from globe.models import checkpoints, vlm
from globe.models.judge import SharedJudge
from globe.training import grpo, logged, prefix_generation, sft, shared_prefix, trainer as trainer_module
from globe.pipeline.stages import fingerprint
from globe.settings import SettingsError
from globe.training.judge import train_judge
from globe.world import postcards, student as student_module


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    "An untrained student of the smallest size."
    return student_module.student(0, hidden=96, layers=2, vision=80, depth=2).save(
        tmp_path_factory.mktemp("start")
    )


@pytest.fixture(scope="module")
def data():
    "Sixteen MP16-Reason rows, made without teachers and checks."
    rows = postcards.postcards(16, seed=1, localizable_share=1.0)
    entities = [[dict(text=e, share=0.1) for e in row] for row in rows["entities"]]
    return (
        rows.remove_columns(["entities"])
        .add_column("entities", entities)
        .add_column("reasoning", [" ".join(s) for s in rows["sentences"]])
    )


def weights(folder):
    return {k: v.clone() for k, v in vlm.load(folder).model.state_dict().items()}


def moved(before, after):
    "Names of the parameters that differ."
    return {k for k in before if not torch.equal(before[k], after[k])}


SMALL = dict(steps=2, lr=1e-3, save_steps=1, warmup=0.0, seed=1, watch=False)
SFT = SMALL | dict(examples_per_step=8)
GRPO = SMALL | dict(completions_per_step=8, num_generations=4, max_new_tokens=12)


def train(kind, *given, **changes):
    return sft.sft(*given, **SFT | changes) if kind == "sft" else grpo.grpo(*given, **GRPO | changes)


def variety(completions, **columns):
    "A reward that differs within the group even for an untrained model, which no real reward does."
    return [len(set(c[0]["content"])) / 50 for c in completions]


@pytest.mark.parametrize("kind", ["sft", "grpo"])
def test_language_moves_and_vision_stays(kind, start, data, tmp_path, monkeypatch):
    monkeypatch.setattr(grpo, "weighted", lambda name, *more: ([variety], [1.0]))
    told = []
    watch = lambda done, total, numbers: told.append((done, total, numbers))
    out = train(kind, start, data, tmp_path / kind, watch=watch)
    changed = moved(weights(start), weights(out))
    assert changed and not [k for k in changed if "visual" in k]
    if kind == "sft":
        assert len([k for k in changed if "language_model.layers" in k]) > 10
    assert (out / "log.csv").exists() and not list(out.glob("checkpoint-*")), "the log stays, checkpoints go"
    assert [t[:2] for t in told] == [(1, 2), (2, 2)] and all("loss" in t[2] for t in told)


@pytest.mark.parametrize("kind", ["sft", "grpo"])
def test_a_step_in_passes_is_the_same_step(kind, start, data, tmp_path, monkeypatch):
    monkeypatch.setattr(grpo, "weighted", lambda name, *more: ([variety], [1.0]))
    whole, parted = (
        pd.read_csv(train(kind, start, data, tmp_path / str(n), per_device_batch_size=n) / "log.csv")
        for n in (None, 4)
    )
    assert len(whole) == len(parted) == 2 and parted.num_tokens.tolist() == whole.num_tokens.tolist()
    if kind == "sft":
        assert parted.loss.tolist() == pytest.approx(whole.loss.tolist(), rel=1e-5)
    else:
        assert parted.reward[0] == pytest.approx(whole.reward[0], rel=1e-6)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert trainer_module.passes(8, 2) == dict(per_device_train_batch_size=2, gradient_accumulation_steps=2)
    assert trainer_module.passes(24, 8) == dict(per_device_train_batch_size=6, gradient_accumulation_steps=2)
    with pytest.raises(ValueError, match="9 rows"):
        trainer_module.passes(9, 3)
    with pytest.warns(UserWarning, match="passes"):
        trainer_module.passes(62, 16)


def test_internvl_trains_too(data, tmp_path, monkeypatch):
    """The second backbone: pretraining, SFT, GRPO with a shared prompt and one tower, and an answer.

    Only the language model moves."""
    monkeypatch.setattr(grpo, "weighted", lambda name, *more: ([variety], [1.0]))
    for module in (prefix_generation, shared_prefix):
        monkeypatch.setattr(module, "warn_once", lambda warned, reason: pytest.fail(f"not shared: {reason}"))
    student = student_module.student(0, "internvl", hidden=96, layers=2, vision=80, depth=2)
    student_module.pretrain_vision(student, steps=2, batch_size=4, watch=False)
    student_module.pretrain_language(student, steps=2, batch_size=2, pool=200, watch=False)
    assert "get_image_features" not in vars(student.model.model), "the features of pretraining are dropped"
    start = student.save(tmp_path / "start")
    tuned = train("sft", start, data, tmp_path / "sft")
    out = train("grpo", tuned, data, tmp_path / "grpo")
    for before, after in [(start, tuned), (tuned, out)]:
        changed = moved(weights(before), weights(after))
        assert changed and all(k.startswith(("model.language_model", "lm_head")) for k in changed)
    assert vlm.load(out).answer(data["image"][:2], max_new_tokens=4) != []


@pytest.mark.parametrize("kind", ["sft", "grpo"])
def test_lora_gives_a_whole_model(kind, start, data, tmp_path, monkeypatch):
    monkeypatch.setattr(grpo, "weighted", lambda name, *more: ([variety], [1.0]))
    out = train(kind, start, data, tmp_path / "lora", lora=True)
    assert not (out / "adapter_config.json").exists()
    changed = moved(weights(start), weights(out))
    assert changed and all("_proj" in k for k in changed)


def sft_trainer(monkeypatch, start, data, out, **kw):
    "The trainer that `sft` would run."
    monkeypatch.setattr(sft, "run", lambda trainer, *rest: trainer)
    return train("sft", start, data, out, **kw)


def test_the_loss_is_on_the_completion_only(start, data, tmp_path, monkeypatch):
    "Labels are the tokens of `<think>…</answer>` and the end of the turn; the rest is masked."
    trainer = sft_trainer(monkeypatch, start, data, tmp_path)
    batch = next(iter(trainer.get_train_dataloader()))
    tok = trainer.processing_class.tokenizer
    said = {row["completion"][0]["content"] for row in trainer_module.sft_rows(data)}
    for ids, labels, seen in zip(batch["input_ids"], batch["labels"], batch["attention_mask"]):
        learned, masked = labels != -100, labels == -100
        assert torch.equal(ids[learned], labels[learned]) and not (learned & (seen == 0)).any()
        text = tok.decode(labels[learned])
        assert (
            text.startswith("<think>")
            and text.rstrip("\n").endswith("<|im_end|>")
            and text.rstrip("\n").removesuffix("<|im_end|>") in said
        )
        assert (
            "geolocation expert" in tok.decode(ids[masked])
            and (ids[masked] == trainer.processing_class.image_token_id).any()
        )
        assert masked[: int(learned.nonzero()[0])].all(), "nothing before the completion is learned"


def test_batches_by_length_pad_less_and_learn(start, data, tmp_path, monkeypatch):
    "The same rows, once each per epoch, in batches with less padding."
    long = data.map(lambda row, i: dict(reasoning=row["reasoning"] * (1 + 3 * (i % 2))), with_indices=True)
    padding = {}
    for grouped in (False, True):
        how = dict(examples_per_step=2, group_by_length=grouped)
        batches = list(sft_trainer(monkeypatch, start, long, tmp_path, **how).get_train_dataloader())
        padding[grouped] = sum(int((b["attention_mask"] == 0).sum()) for b in batches)
        assert sum(len(b["input_ids"]) for b in batches) == len(long)
    assert padding[True] < padding[False]
    monkeypatch.undo()
    out = train("sft", start, data, tmp_path / "run", group_by_length=True)
    assert moved(weights(start), weights(out))


def test_grpo_puts_the_judge_on_its_reference(start, data, tmp_path, monkeypatch):
    "A judge given as a folder shares the weights of the reference model if it was trained on the same model."
    pairs = data.select_columns(["id", "image", "reasoning"]).add_column("label", [0, 1] * 8)
    folder = train_judge(start, pairs, tmp_path / "judge", steps=1, batch_size=2, watch=False)
    shared = []

    class Watched(SharedJudge):
        def probability(self, *pairs):
            shared.append(len(pairs[0]))
            return super().probability(*pairs)

    # an untrained student writes no reasoning, and then the judge is not asked
    monkeypatch.setattr("globe.training.localizability.own_reasoning", lambda *how, **named: "A flag.")
    grpo.SharedJudge, kept = Watched, grpo.SharedJudge
    try:
        out = train("grpo", str(start), data, tmp_path / "run", rewards="all-readme", judge=folder)
    finally:
        grpo.SharedJudge = kept
    log = pd.read_csv(out / "log.csv")
    assert shared and log["rewards/localizability/mean"].notna().all()
    assert isinstance(grpo.judge_beside(vlm.load(start), folder), SharedJudge)
    assert not isinstance(grpo.judge_beside(None, folder), SharedJudge) and not isinstance(
        grpo.judge_beside(vlm.load(out), folder), SharedJudge
    ), "trained weights are not the reference"


def test_an_unknown_configuration_is_named(start, data, tmp_path):
    with pytest.raises(SettingsError, match="everything"):
        train("grpo", start, data, tmp_path, rewards="everything")


RUN = """
import sys, os
sys.path.insert(0, {tests!r})
from pathlib import Path
from globe.training import grpo
from globe.world import postcards
from test_train import GRPO, variety
grpo.weighted = lambda name, *more: ([variety], [1.])
rows = postcards.postcards(16, seed=1, localizable_share=1.)
entities = [[dict(text=e, share=.1) for e in r] for r in rows["entities"]]
rows = rows.remove_columns(["entities"]).add_column("entities", entities)
rows = rows.add_column("reasoning", [" ".join(s) for s in rows["sentences"]])
told = lambda done, total, numbers: print("step", done, flush=True)
changes = dict(rewards="accuracy", max_new_tokens=8, steps=6, save_steps=2, warmup=0.01, watch=told)
grpo.grpo({start!r}, rows, Path({out!r}), **GRPO | changes)
"""


def test_grpo_survives_a_kill(start, tmp_path):
    "Killed after step 4 of 6, the same call resumes and ends with the same log and weights."

    def run(out, kill_after=None):
        code = RUN.format(tests=str(Path(__file__).parent), start=str(start), out=str(out))
        with subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as p:
            steps = []
            for line in p.stdout:
                if line.startswith("step "):
                    steps.append(int(line.split()[1]))
                if kill_after and steps and steps[-1] >= kill_after:
                    os.kill(p.pid, signal.SIGKILL)
                    break
            p.wait()
        return steps

    assert run(tmp_path / "killed", kill_after=4)[-1] == 4
    assert checkpoints.last_checkpoint(tmp_path / "killed"), "a checkpoint survives"
    again = run(tmp_path / "killed")
    assert again[0] > 2, "finished steps are not repeated"
    assert again[-1] == 6
    assert run(tmp_path / "whole") == [1, 2, 3, 4, 5, 6]
    assert (tmp_path / "killed" / "log.csv").read_text() == (tmp_path / "whole" / "log.csv").read_text()
    assert not moved(weights(tmp_path / "whole"), weights(tmp_path / "killed")) and moved(
        weights(start), weights(tmp_path / "killed")
    )
    assert not list((tmp_path / "killed").glob("checkpoint-*"))


class Enough(Exception):
    "Stops a run."


@pytest.mark.parametrize("kind,lora", [("sft", False), ("sft", True), ("grpo", True)])
def test_a_resumed_run_is_the_uninterrupted_one(kind, lora, start, data, tmp_path, monkeypatch):
    monkeypatch.setattr(grpo, "weighted", lambda name, *more: ([variety], [1.0]))
    changes = dict(steps=6, save_steps=2, lora=lora)

    def stop(done, total, numbers):
        if done == 5:
            raise Enough

    whole = train(kind, start, data, tmp_path / "whole", **changes)
    with pytest.raises(Enough):
        train(kind, start, data, tmp_path / "parts", **changes, watch=stop)
    parts = train(kind, start, data, tmp_path / "parts", **changes)
    logs = [pd.read_csv(out / "log.csv") for out in (whole, parts)]
    pd.testing.assert_frame_equal(*logs, check_exact=True)
    assert not moved(weights(whole), weights(parts))
    assert all(logged.meaning_of(c) for c in logs[0]), "each logged number is explained"


@pytest.mark.parametrize("kind", ["sft", "grpo"])
def test_a_diverging_run_stops_and_keeps_its_checkpoint(kind, start, data, tmp_path, monkeypatch):
    monkeypatch.setattr(grpo, "weighted", lambda name, *more: ([variety], [1.0]))
    step = torch.optim.AdamW.step

    def far_too_far(self, *given):  # no setting allows such a learning rate
        for group in self.param_groups:
            group["lr"] = 1e30
        return step(self, *given)

    monkeypatch.setattr(torch.optim.AdamW, "step", far_too_far)
    with pytest.raises(trainer_module.Diverged, match="step 2"):
        train(kind, start, data, tmp_path, steps=4)
    # the weights that were saved after step 1 gave numbers that are not finite
    assert not checkpoints.checkpoints(tmp_path) and not (tmp_path / "log.csv").exists()


def test_the_last_good_checkpoint_is_older_than_the_trouble(tmp_path):
    "Numbers of a step come from the weights of the step before."
    for n in range(4, 8):
        (tmp_path / f"checkpoint-{n}").mkdir()
        (tmp_path / f"checkpoint-{n}" / "trainer_state.json").write_text("{}")
    with pytest.raises(trainer_module.Diverged, match="step 8.*loss.*checkpoint-6"):
        trainer_module._guard(tmp_path).on_log(
            None, SimpleNamespace(global_step=8), None, logs=dict(loss=float("nan"))
        )
    guard = trainer_module._guard(tmp_path)
    with pytest.raises(trainer_module.Diverged, match="step 8.*KL.*checkpoint-4"):
        for step in (6, 7, 8):
            guard.on_log(None, SimpleNamespace(global_step=step), None, logs=dict(loss=0.0, kl=50))
    assert [c.name for c in checkpoints.checkpoints(tmp_path)] == ["checkpoint-4"]
    guard = trainer_module._guard(tmp_path)
    with pytest.raises(trainer_module.Diverged, match="step 7.*kl"):
        for step, kl in [(4, 0.1), (5, 50), (6, 50), (7, float("nan"))]:
            guard.on_log(None, SimpleNamespace(global_step=step), None, logs=dict(loss=0.0, kl=kl))


def test_kl_may_be_high_once_but_not_for_long(tmp_path):
    guard, state = trainer_module._guard(tmp_path), SimpleNamespace(global_step=7)
    for kl in (50, 50, 0.1, 50, 50):
        guard.on_log(None, state, None, logs=dict(loss=0.0, kl=kl))
    with pytest.raises(trainer_module.Diverged, match="KL"):
        guard.on_log(None, state, None, logs=dict(loss=0.0, kl=50))
    with pytest.raises(trainer_module.Diverged, match="kl"):
        trainer_module._guard(tmp_path).on_log(None, state, None, logs=dict(loss=0.0, kl=None))
    trainer_module._guard(tmp_path).on_log(None, state, None, logs=dict(train_runtime=3.0))


def test_groups_without_spread_are_told(start, data, tmp_path, monkeypatch):
    monkeypatch.setattr(
        grpo,
        "weighted",
        lambda name, *more: ([lambda completions, **_: [1.0] * len(completions)], [1.0]),
    )
    told = []
    train("grpo", start, data, tmp_path, watch=lambda done, total, numbers: told.append(numbers))
    assert [numbers["frac_reward_zero_std"] for numbers in told] == [1, 1]


def test_samples_and_speed_are_shown(start, data, tmp_path, monkeypatch):
    monkeypatch.setattr(grpo, "weighted", lambda name, *more: ([variety], [1.0]))
    told = []
    watch = lambda done, total, numbers: told.append(numbers)
    out = train("grpo", start, data, tmp_path / "out", sample_steps=2, watch=watch)
    (page,) = (out / "samples").glob("*.html")
    shown = page.read_text(encoding="utf-8")
    assert page.name == "step-00002.html" and shown.count("<img") == 2 and shown.count("<tr>") == 2 + 8
    (drawn,) = (out / "samples").glob("*.svg")
    assert drawn.name == "step-00002.svg" and f'data="{drawn.name}"' in shown
    assert drawn.read_text(encoding="utf-8").count("<circle") >= 2  # a dot for the place of each picture
    assert all(numbers["time/answers_per_second"] > 0 for numbers in told)
    assert not [c for c in pd.read_csv(out / "log.csv") if "time" in c], "logs of two runs are the same bytes"
    times = pd.read_csv(out / "times.csv")
    assert times.step.tolist() == [1, 2] and (times.drop(columns="time/reward") > 0).all(axis=None)
    assert {f"time/{what}" for what in ("rollout", "reward", "update", "tokens_per_second")} < {*times}
    known = fingerprint(out)
    (out / "times.csv").write_text("step\n")
    assert fingerprint(out) == known, "what is made from this model is not made again"


@pytest.mark.parametrize("kind", ["sft", "grpo"])
def test_a_small_learning_rate_moves_the_weights_of_a_bfloat16_checkpoint(
    kind, start, data, tmp_path, monkeypatch
):
    "In bfloat16 itself nearly all weights would stay where they are at 1e-6."
    monkeypatch.setattr(grpo, "weighted", lambda *a: ([variety], [1.0]))
    stored = vlm.load(start)
    stored.model.to(torch.bfloat16)
    stored.save(tmp_path / "hub")
    before = weights(tmp_path / "hub")
    assert {w.dtype for w in before.values()} == {torch.bfloat16}
    after = weights(train(kind, tmp_path / "hub", data, tmp_path / "out", steps=3, lr=1e-6, weight_decay=0.0))
    trained = [k for k in before if "visual" not in k and "embed_tokens" not in k and "lm_head" not in k]
    apart = torch.cat([(before[k].float() != after[k].float()).flatten() for k in trained])
    assert apart.float().mean() >= 0.99
    rounded = torch.cat([(before[k] != after[k].to(torch.bfloat16)).flatten() for k in trained])
    assert rounded.float().mean() < 0.2


def test_fsdp_is_refused_before_anything_is_loaded(start, data, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setattr(trainer_module, "load", lambda *a, **k: pytest.fail("a model was loaded"))
    for kind in ("sft", "grpo"):
        with pytest.raises(ValueError, match="zero3"):
            train(kind, start, data, tmp_path / kind)
