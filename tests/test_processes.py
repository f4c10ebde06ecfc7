"Several processes: the losses and weights of one; accelerate configurations that accelerate accepts."

import json, os, socket, subprocess, sys, time
from pathlib import Path

import pandas as pd
import psutil
import pytest
import torch

RECIPES = Path(__file__).resolve().parent.parent / "globe" / "recipes"

RUN = """
import sys, json, os, zlib
import numpy as np, torch
from pathlib import Path
from trl import GRPOConfig
from globe.models import vlm
from globe.training import grpo, shared_prefix, trainer
from globe.training.localizability import Localizability
from globe.world import postcards

start, out, batch = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
judge = next((a.partition("=")[2] for a in sys.argv if a.startswith("judge=")), None)
rows = postcards.postcards(8, seed=1, localizable_share=1.)
rows = rows.remove_columns(["entities"]).add_column("entities", [[] for _ in rows])
args = GRPOConfig(
    output_dir=str(out),
    per_device_train_batch_size=batch,
    num_generations=4,
    max_completion_length=8,
    max_steps=3,
    report_to="none",
    save_strategy="no",
    learning_rate=1e-3,
    beta=0.04,
    seed=3,
    use_cpu=True,
    ddp_backend="gloo" if "WORLD_SIZE" in os.environ and "sharded" not in sys.argv else None,
    bf16=False,
    gradient_checkpointing=False,
    dataloader_pin_memory=False,
    disable_tqdm=True,
    logging_steps=1,
    temperature=1.0,
    loss_type="dapo",
    optim="sgd",
    generation_kwargs=dict(suppress_tokens=vlm.picture_tokens(vlm.load_processor(start))),
)
model = vlm.load(start)  # after the arguments, which say how weights are spread

class SameAnswers(shared_prefix.SharedPrefixGRPOTrainer):
    "Samples, but then takes completions that depend on step, draw and picture only, not on the process."
    draws = {}
    def _generate_single_turn(self, prompt_ids, images, *more, **how):
        super()._generate_single_turn(prompt_ids, images, *more, **how)
        step, found, before = self.state.global_step, [], self.accelerator.process_index * len(prompt_ids)
        self.draw = self.draws[step] = self.draws.get(step, -1) + 1
        for i, (picture,) in enumerate(images):
            rng = np.random.default_rng([step, self.draw, zlib.crc32(picture.tobytes()), (before + i) % 4])
            found.append(rng.integers(300, 400, rng.integers(2, 9)).tolist())
            if judge:  # it reads what is thought, and a text changes its answer as far as it can
                found[-1] = [*model.processor.tokenizer("<think>")["input_ids"], *found[-1]]
        return found, None

def variety(completions, lat, **columns):
    found = [len(set(c[0]["content"])) / 50 for c in completions]
    if "resample" not in sys.argv or it.draw:
        return found
    # the first completions about some pictures all earn nothing
    return [0.0 if abs(place) > 25 else value for value, place in zip(found, lat)]
rewards = [variety] + [Localizability(max_gain=None)] * bool(judge)
it = SameAnswers(
    vlm.freeze_vision(model.model),
    reward_funcs=rewards,
    args=args,
    train_dataset=trainer.grpo_rows(rows),
    processing_class=model.processor,
    dynamic_sampling=2 * ("resample" in sys.argv),
)
if judge:
    grpo._open_judge(rewards, it, model.processor, judge)
it.train()
if it.accelerator.is_main_process:
    keys = ["loss", "reward", "reward_std", "kl", "entropy", "grad_norm", "completions/mean_length"]
    keys += ["resampled"] * ("resample" in sys.argv) + ["rewards/localizability/mean"] * bool(judge)
    state = it.accelerator.unwrap_model(it.model).state_dict()
    torch.save({k: v for k, v in state.items() if "visual" not in k}, out / "weights.pt")
    log = [{k: r[k] for k in keys} for r in it.state.log_history if "loss" in r]
    told = dict(processes=it.accelerator.num_processes, warned=sorted(it.warned), log=log)
    Path(out / "log.json").write_text(json.dumps(told))
it.accelerator.wait_for_everyone()
it.accelerator.end_training()  # both leave together: one that is alone aborts
sys.stdout.flush()
os._exit(0)  # what torch tears down at the end of a process may abort, now and then
"""


TWO = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]


def environment():
    "One thread, no network."
    return dict(os.environ, PYTHONPATH=str(RECIPES.parent.parent), OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1")


def launch(launcher, *command):
    "A finished process of Python."
    asked = [sys.executable, *map(str, [*launcher, *command])]
    return subprocess.run(asked, env=environment(), capture_output=True, text=True, timeout=300)


def run(launcher, start, out, batch, *more):
    out.mkdir()
    (out / "run.py").write_text(RUN)
    done = launch(launcher, out / "run.py", start, out, batch, *more)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((out / "log.json").read_text()), torch.load(out / "weights.pt", weights_only=True)


@pytest.mark.parametrize("batch,more", [(8, []), (8, ["resample"]), (4, ["resample"])])
def test_two_processes_give_the_losses_of_one(tmp_path, batch, more):
    "Each with whole groups; when some groups are sampled again; and then with half a group."
    from globe.models import vlm
    from globe.world import student

    start = student.student(0, hidden=96, layers=2, vision=80, depth=2).save(tmp_path / "start")
    one, weights = run([], start, tmp_path / "one", batch, *more)
    two, both = run(TWO, start, tmp_path / "two", batch // 2, *more)
    assert (one["processes"], two["processes"]) == (1, 2) and not one["warned"] and not two["warned"]
    assert len(one["log"]) == len(two["log"]) == 3
    for a, b in zip(one["log"], two["log"]):
        assert a == pytest.approx(b, rel=1e-3, abs=1e-5)
    if more:
        assert 0 < sum(r["resampled"] for r in one["log"]) < 3
    before = vlm.load(start).model.state_dict()
    moved, apart = (
        sum(((a[k] - b[k]) ** 2).sum() for k in weights) ** 0.5
        for a, b in ((weights, before), (weights, both))
    )
    assert moved > 0 and apart < 1e-3 * moved


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    "A tiny model and rows, as `globe train` takes them."
    from globe.world import postcards, student

    work = tmp_path_factory.mktemp("given")
    student.student(0, hidden=96, layers=2, vision=80, depth=2).save(work / "start")
    rows = postcards.postcards(16, seed=1, localizable_share=1.0).remove_columns("mask")
    entities = [[dict(text=e, share=0.1) for e in row] for row in rows["entities"]]
    rows = rows.remove_columns("entities").add_column("entities", entities)
    rows = rows.add_column("reasoning", [" ".join(s) for s in rows["sentences"]])
    rows.to_parquet(str(work / "sft.parquet"))
    rows.select_columns(["id", "image", "reasoning"]).add_column("label", [0, 1] * 8).to_parquet(
        str(work / "judge.parquet")
    )
    return work


SIZES = dict(
    sft="epochs=2 examples_per_step=8 lr=1e-3 save_steps=2",
    judge="steps=4 batch_size=8 lr=1e-3 save_steps=2",
    grpo="rewards=all-readme steps=2 completions_per_step=8 num_generations=4 max_new_tokens=8 save_steps=1",
)


def command(given, kind, out, processes, *more):
    "The arguments of `globe train`."
    rows = given / f"{'judge' if kind == 'judge' else 'sft'}.parquet"
    where = ["--model", given / "start", "--data", rows, "--out", out, "--processes", processes]
    settings = [x for s in SIZES[kind].split() + list(more) for x in ("--set", s)]
    return ["-m", "globe", "train", kind, *where, *settings]


@pytest.fixture(scope="module")
def judge(given):
    done = launch(command(given, "judge", given / "judge", 1))
    assert done.returncode == 0, done.stderr[-3000:]
    return given / "judge"


@pytest.mark.parametrize("recipe", ["multi_gpu", "zero2", "zero3"])
def test_grpo_with_a_judge_gives_the_losses_of_one(recipe, given, judge, tmp_path):
    "GRPO with rewards that differ and with a judge: loss, gradient norm, KL, and what the judge pays."
    if recipe != "multi_gpu":
        pytest.importorskip("deepspeed")
    from globe.training.launch import _command

    more = [f"judge={judge}", *["sharded"] * (recipe != "multi_gpu")]
    one, _ = run([], given / "start", tmp_path / "one", 8, *more)
    two, _ = run(_command("job", 2, recipe)[1:-3], given / "start", tmp_path / "two", 4, *more)
    assert (one["processes"], two["processes"]) == (1, 2) and len(one["log"]) == len(two["log"]) == 3
    for a, b in zip(one["log"], two["log"]):
        assert a == pytest.approx(b, rel=1e-3, abs=1e-5)
    paid = {round(row["rewards/localizability/mean"], 4) for row in one["log"]}
    assert len(paid) == 3 and 0 < min(paid), "the judge says the same of everything"


def numbers(out, kind):
    "What a training logged."
    if kind == "judge":
        return pd.DataFrame(dict(loss=json.loads((out / "judge.json").read_text())["losses"]))
    return pd.read_csv(out / "log.csv")[["loss", "grad_norm", "num_tokens"]]


@pytest.mark.parametrize("recipe", ["multi_gpu", "zero2", "zero3"])
@pytest.mark.parametrize("kind", ["sft", "judge"])
def test_globe_train_gives_the_same_numbers_with_two_processes(kind, recipe, given, tmp_path):
    "SFT over two epochs, so that every picture is seen twice; the judge, whose recipe is always the same."
    if recipe != "multi_gpu":
        pytest.importorskip("deepspeed")
    more = [f"launch.recipe={recipe}"]
    more += ["group_by_length=true"] if kind == "sft" and recipe == "multi_gpu" else []
    for processes, out in [(1, tmp_path / "one"), (2, tmp_path / "two")]:
        done = launch(command(given, kind, out, processes, *more))
        assert done.returncode == 0, done.stderr[-3000:]
        left = {p.name for p in out.iterdir()}
        assert "globe-job" not in left and "checkpoint-2" not in left
    one, two = (numbers(tmp_path / out, kind) for out in ("one", "two"))
    assert len(one) == 4
    pd.testing.assert_frame_equal(one, two, rtol=1e-4)


@pytest.mark.parametrize("recipe", ["multi_gpu", "zero2", "zero3"])
def test_a_small_learning_rate_moves_the_weights_in_every_parallel_mode(recipe, given, tmp_path):
    "The master weights are float32: in bfloat16 itself nearly all would stay where they are at 1e-6."
    if recipe != "multi_gpu":
        pytest.importorskip("deepspeed")
    from globe.models import vlm

    stored = vlm.load(given / "start")
    stored.model.to(torch.bfloat16)
    stored.save(tmp_path / "hub")
    asked = command(given, "sft", tmp_path / "out", 2, "weight_decay=0.0", f"launch.recipe={recipe}")
    asked[asked.index("--model") + 1], asked[asked.index("lr=1e-3")] = tmp_path / "hub", "lr=1e-6"
    done = launch(asked)
    assert done.returncode == 0, done.stderr[-3000:]
    before, after = (vlm.load(tmp_path / at).model.state_dict() for at in ("hub", "out"))
    trained = [k for k in before if not any(part in k for part in ("visual", "embed_tokens", "lm_head"))]
    apart = torch.cat([(before[k].float() != after[k].float()).flatten() for k in trained])
    assert apart.float().mean() >= 0.99


def test_lora_under_zero3_leaves_the_model_of_one_process(given, tmp_path):
    "The adapter is merged, as with every other recipe, so that the folder can be trained on and served."
    pytest.importorskip("deepspeed")
    from globe.models import vlm

    for processes, out in [(1, tmp_path / "one"), (2, tmp_path / "two")]:
        done = launch(command(given, "sft", out, processes, "launch.recipe=zero3", "lora=true"))
        assert done.returncode == 0, done.stderr[-3000:]
        assert not list(out.glob("adapter*")), "the adapter is part of the model"
    before, one, two = (
        vlm.load(f).model.state_dict() for f in (given / "start", tmp_path / "one", tmp_path / "two")
    )
    moved, apart = (sum(((a[k] - b[k]) ** 2).sum() for k in a) ** 0.5 for a, b in ((before, one), (one, two)))
    assert moved > 0 and apart < 1e-2 * moved


@pytest.mark.parametrize("recipe", ["multi_gpu", "zero2", "zero3"])
def test_grpo_asks_the_judge_in_two_processes(recipe, given, judge, tmp_path):
    if recipe != "multi_gpu":
        pytest.importorskip("deepspeed")
    asked = command(given, "grpo", tmp_path / "out", 2, f"launch.recipe={recipe}")
    done = launch([*asked, "--judge", judge])
    assert done.returncode == 0, done.stderr[-3000:]
    log = pd.read_csv(tmp_path / "out" / "log.csv")
    assert len(log) == 2 and log["rewards/localizability/mean"].notna().all()


def test_globe_train_survives_a_kill(given, tmp_path):
    "All processes are killed after the first checkpoint; the same command ends with the same numbers."
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert launch(command(given, "sft", whole, 2)).returncode == 0
    asked = [sys.executable, *map(str, command(given, "sft", parts, 2))]
    quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    with subprocess.Popen(asked, env=environment(), **quiet) as p:
        while not list(parts.glob("checkpoint-*/trainer_state.json")):
            assert p.poll() is None
            time.sleep(0.05)
        for child in psutil.Process(p.pid).children(recursive=True):
            child.kill()
        p.kill()
    assert launch(command(given, "sft", parts, 2)).returncode == 0
    compared = [numbers(out, "sft") for out in (whole, parts)]
    pd.testing.assert_frame_equal(*compared)


@pytest.mark.parametrize("recipe", ["multi_gpu", "zero3"])
def test_two_machines_give_the_numbers_of_one_process(recipe, given, tmp_path):
    "Rehearsed with one process for each machine: accelerate starts them, as the guide says."
    if recipe != "multi_gpu":
        pytest.importorskip("deepspeed")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    where = [
        "--num_machines",
        2,
        "--num_processes",
        2,
        "--mixed_precision",
        "no",
        "--main_process_port",
        port,
    ]
    start = ["-m", "accelerate.commands.launch", "--config_file", RECIPES / f"{recipe}.yaml", *where]
    start += ["--main_process_ip", "127.0.0.1"]
    rest = command(given, "sft", tmp_path / "both", 2)
    machines = [[sys.executable, *start, "--machine_rank", rank, *rest] for rank in (0, 1)]
    quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment())
    running = [subprocess.Popen([str(part) for part in asked], **quiet) for asked in machines]
    assert [p.wait(300) for p in running] == [0, 0]
    assert launch(command(given, "sft", tmp_path / "one", 1)).returncode == 0
    both, one = (numbers(tmp_path / out, "sft") for out in ("both", "one"))
    pd.testing.assert_frame_equal(one, both, rtol=1e-4)


def test_a_training_that_cannot_run_is_one_line(given, tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    given_rows = ["--data", given / "sft.parquet", "--out", tmp_path / "out"]
    for model, more, said in [
        (tmp_path, [], "adapter"),
        ("nobody/no-such-model", [], "the hub does not answer"),
        ("Qwen/Qwen2.5-VL-7B-Instruct", ["--set", "launch.gpu_gib=24"], "GiB are needed on each GPU"),
        (given / "start", ["--processes", "3", "--set", "examples_per_step=8"], "divided evenly"),
    ]:
        done = launch(["-m", "globe", "train", "sft", "--model", model, *given_rows, *more])
        assert done.returncode and said in done.stderr.splitlines()[-1], done.stderr
        assert not (tmp_path / "out").exists()


TRAIN = """
import os, sys
import torch
from globe.training import grpo
from globe.world import postcards
# several processes on CPUs load optimizers to "cpu:0", which torch does not know
place = lambda storage, place: storage if place.startswith("cpu:") else None
torch.serialization.register_package(9, lambda storage: None, place)
rows = postcards.postcards(8, seed=1, localizable_share=1.)
rows = rows.remove_columns(["entities"]).add_column("entities", [[] for _ in rows])
calls = []
def variety(completions, **columns):
    calls.append(1)
    if sys.argv[3] == "die" and len(calls) == 3: os._exit(9)
    return [len(set(c[0]["content"])) / 50 for c in completions]
grpo.weighted = lambda name, *more: ([variety], [1.])
sizes = dict(completions_per_step=8, per_device_batch_size=2, num_generations=4, max_new_tokens=8)
grpo.grpo(sys.argv[1], rows, sys.argv[2], steps=4, save_steps=2, seed=1, **sizes)
torch.distributed.destroy_process_group()
"""


def test_two_processes_train_save_once_and_survive_a_kill(tmp_path):
    "`grpo` killed in the third step and started again: the same log, one model, no checkpoint left."
    from globe.models import vlm
    from globe.world import student

    start = student.student(0, hidden=96, layers=2, vision=80, depth=2).save(tmp_path / "start")
    (tmp_path / "run.py").write_text(TRAIN)

    def trained(out, how="live"):
        done = launch(TWO, tmp_path / "run.py", start, out, how)
        assert (done.returncode == 0) == (how == "live"), done.stderr[-3000:]
        return {p.name for p in out.iterdir()}

    assert "checkpoint-2" in trained(tmp_path / "killed", "die")
    left = trained(tmp_path / "killed")
    assert {"model.safetensors", "log.csv", "tokenizer.json"} <= left and left == trained(tmp_path / "whole")
    logs = [(tmp_path / out / "log.csv").read_text() for out in ("killed", "whole")]
    assert logs[0] == logs[1] and len(logs[0].splitlines()) == 5
    after, before = vlm.load(tmp_path / "killed").model.state_dict(), vlm.load(start).model.state_dict()
    assert any(not torch.equal(after[k], before[k]) for k in before)


@pytest.mark.parametrize(
    "name,kind,processes",
    [
        ("single_gpu", "NO", 1),
        ("multi_gpu", "MULTI_GPU", 8),
        ("zero2", "DEEPSPEED", 8),
        ("zero3", "DEEPSPEED", 8),
    ],
)
def test_accelerate_configurations_load(name, kind, processes):
    "accelerate's own loader raises on keys that it does not know."
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(RECIPES / f"{name}.yaml"))
    assert (
        config.distributed_type.value
        if hasattr(config.distributed_type, "value")
        else config.distributed_type,
        config.num_processes,
        config.mixed_precision,
    ) == (kind, processes, "no")  # precision is the setting `bf16` alone
    if kind == "DEEPSPEED":
        assert config.deepspeed_config["zero_stage"] == int(name[-1])


def test_every_accelerate_configuration_is_tested():
    assert {p.stem for p in RECIPES.glob("*.yaml")} == {"single_gpu", "multi_gpu", "zero2", "zero3"}
