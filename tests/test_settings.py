"Settings from YAML, command line and code: what cannot be is refused before anything runs."

import json
import os
import re

import pytest
import yaml

from globe.cli import main
from globe.folders import checkout
from globe.pipeline.profiles import Profile, profile, read_profile
from globe.pipeline.tasks import Run
from globe.settings import Settings, SettingsError
from globe.settings_text import _allowed, overrides_of, read_yaml
from globe.train import GRPOSettings, SFTSettings

PROFILES = sorted(p.stem for p in (checkout() / "nbs" / "profiles").glob("*.yaml"))


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_is_valid_and_explains_every_setting(name):
    found = profile(name)
    assert found.name == name
    rows = found.explained()
    assert len(rows) == len(found.flat()) > 70
    for path, value, text in rows:
        assert len(text) > 10 and "None" not in text, path
        assert yaml.safe_load(f"x: {value}")["x"] == found.flat()[path], path


@pytest.mark.parametrize(
    "section, key, value",
    [
        ("grpo", "per_device_batch_size", "sixteen"),
        ("sft", "steps", -5),
        ("sft", "steps", 0),
        ("sft", "steps", 2.5),
        ("grpo", "lr", "fast"),
        ("grpo", "lr", True),
        ("grpo", "top_p", 1.5),
        ("grpo", "beta", -0.1),
        ("grpo", "rollouts", "localhost:8000"),
        ("grpo", "rollouts", "http://:8000"),
        ("grpo", "rollouts", "http://host:port"),
        ("grpo", "rollouts", "http://10.0.0.300:8000"),
        ("grpo", "lr", 50.0),
        ("grpo", "max_new_tokens", 10**9),
        ("sft", "lr", 1e9),
        ("judge", "lr", 2.0),
        ("answers", "max_new_tokens", 10**6),
        ("grpo", "rewards", "all"),
        ("judge", "hard_negatives", 1),
        ("checks", "min_area_share", 2),
        ("photos", "localizable", float("nan")),
        ("teachers", "endpoints", "http://localhost:8000/v1 m"),
        ("teachers", "endpoints", ["http://localhost:8000/v1 m"]),
        ("teachers", "endpoints", [dict(urls=["http://:8000/v1"], model="m")]),
        ("teachers", "endpoints", [dict(urls=[], model="m")]),
        ("teachers", "endpoints", [dict(urls=["http://localhost:8000/v1"])]),
        ("student", "source", "/nonexistent"),
        ("segmenter", "source", "data/of/nobody"),
        ("checks", "sentence_model", "a model"),
        ("answers", "batch_size", 10**8),
        ("photos", "localizable", 0),
        ("photos", "max_pixels", 10**12),
        ("photos", "train", 10**12),
        ("checks", "max_error_km", 1e9),
        ("grpo", "top_k", 0),
        ("grpo", "num_generations", 10**6),
        ("grpo", "seed", 2**32),
        ("launch", "processes", 10**6),
        ("student", "vision_pretrain_stepz", 3),
        ("student", "source", ""),
        ("photos", "source", ""),
        ("photos", "pictures", ""),
        ("photos", "pictures", "/nonexistent"),
        ("teachers", "endpoints", [dict(urls=["http://localhost:8000/v1"], model="")]),
        ("grpo", "self", 3),
    ],
)
def test_what_cannot_be_is_refused_with_its_name(section, key, value):
    with pytest.raises(SettingsError, match=rf"{section}\.{key}|{section}: {key}"):
        Profile(**{section: {key: value}})


@pytest.mark.parametrize("settings", ["grpo", "sft", "judge"])
def test_a_tracker_that_is_not_installed_is_refused(settings, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=f"{settings}.report_to.*pip install wandb"):
        Profile(**{settings: dict(report_to="wandb")})
    assert Profile(**{settings: dict(report_to="none")})


def test_every_number_has_an_upper_limit():
    def limits(section, path):
        for name, field in type(section).model_fields.items():
            value = getattr(section, name)
            if isinstance(value, Settings):
                yield from limits(value, f"{path}{name}.")
            elif re.search("number", _allowed(field)):
                yield path + name, _allowed(field)

    endless = [path for path, said in limits(Profile(), "") if not re.search("between|at most|below", said)]
    assert endless == []


def test_a_section_is_no_value():
    with pytest.raises(SettingsError, match=r"grpo is a section and cannot be 3: .*grpo\.\w+"):
        Profile(grpo=3)


def test_a_model_that_is_missing_is_refused_with_the_name_of_its_setting(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="student.source: .*config.json"):
        Run("smoke", student=dict(source=str(tmp_path))).base()
    with pytest.raises(ValueError, match="student.internvl is null"):
        Run("smoke", student=dict(source=str(tmp_path))).base("internvl")


def test_teachers_behind_endpoints_can_be_set_on_the_command_line():
    said = "teachers.endpoints=[{urls: ['http://a:1/v1', 'http://b:1/v1'], model: m}]"
    (teacher,) = Profile(**overrides_of([said])).teachers.endpoints
    assert (teacher.urls, teacher.model) == (["http://a:1/v1", "http://b:1/v1"], "m")


def test_settings_that_do_not_fit_together_are_refused():
    with pytest.raises(SettingsError, match="multiple of num_generations"):
        GRPOSettings(completions_per_step=10, num_generations=4)
    with pytest.raises(SettingsError, match="static_cache"):
        GRPOSettings(rollouts="colocate", static_cache=True)
    with pytest.raises(SettingsError, match="min_pixels must be at most max_pixels"):
        Profile(photos=dict(min_pixels=2_000_000))
    for wrong in (dict(grpo=dict(per_device_batch_size=97)), dict(sft=dict(per_device_batch_size=65))):
        with pytest.raises(SettingsError, match="per_device_batch_size must be at most"):
            Profile(**wrong)
    assert GRPOSettings(per_device_batch_size=96).per_device_batch_size == 96


def test_a_whole_number_stands_for_a_fraction_but_no_text_for_a_number():
    assert SFTSettings(lr=1).lr == 1.0
    with pytest.raises(SettingsError):
        SFTSettings(lr="1")
    assert read_yaml("1e-4") == 1e-4 and read_yaml("'1e-4x'") == "1e-4x"


@pytest.mark.parametrize(
    "number", ["010", "-010", "1_000", "0x10", "0b11", "1:30", "1:30.5", "0o17", "1_0.5"]
)
def test_a_number_that_can_be_read_in_two_ways_is_refused_with_its_line(tmp_path, number):
    (tmp_path / "a.yaml").write_text(f"grpo:\n  lr: 0.1\n  steps: {number}\n")
    with pytest.raises(SettingsError, match=re.escape(f"{number} ") + ".*line 3.*decimal.*quotes"):
        read_profile("a", tmp_path)
    with pytest.raises(SettingsError, match=re.escape(f"grpo.steps: {number} ")):
        overrides_of([f"grpo.steps={number}"])
    assert overrides_of([f"grpo.rollouts='{number}'"])["grpo"]["rollouts"] == number


def test_words_and_dates_are_text_and_only_true_and_false_are_truth_values():
    for word in ("yes", "no", "on", "off", "y", "Yes", "2026-01-01", "=", "1e", "1.2.3"):
        assert read_yaml(word) == word
    assert [read_yaml(t) for t in ("true", "False", "~", "0", "-3", ".5", "1.")] == [
        True,
        False,
        None,
        0,
        -3,
        0.5,
        1,
    ]
    with pytest.raises(SettingsError, match="grpo.lora must be true or false"):
        Profile(**overrides_of(["grpo.lora=yes"]))


@pytest.mark.parametrize(
    "pairs, said",
    [
        (["grpo.lr=1e-4", "grpo.lr=1e-5"], "grpo.lr was given twice"),
        (["grpo.lr=1e-4", "grpo={lr: 1e-5}"], "grpo.lr was given twice"),
        (["grpo.lr=1e-4", "grpo=null"], "grpo was given twice"),
        (["grpo=3", "grpo.lr=1e-4"], "already has a value"),
        (["name.x=1"], "the name of its file"),
        (["grpo..lr=1"], "is not a setting"),
        ([".lr=1"], "is not a setting"),
        (["grpo.lr="], "no value"),
        (["grpo.lr=" + "[" * 5000], "too deep"),
        (["grpo.lr=["], "grpo.lr: not valid YAML"),
    ],
)
def test_what_is_wrong_behind_set_is_said_with_its_name(pairs, said):
    with pytest.raises(SettingsError, match=re.escape(said)):
        overrides_of(pairs)


def test_no_override_undoes_another():
    assert overrides_of(["grpo.lr=1e-4", "grpo={}"]) == dict(grpo=dict(lr=1e-4))
    assert overrides_of(["grpo={steps: 3}", "grpo.lr=1e-4"]) == dict(grpo=dict(steps=3, lr=1e-4))
    assert overrides_of(["grpo.lr=1e-4", "grpo.lr=0.0001"]) == dict(grpo=dict(lr=1e-4))


def test_a_number_that_is_none_is_said_to_be_so():
    with pytest.raises(SettingsError, match="grpo.lr must be a number .*finite, got nan"):
        Profile(grpo=dict(lr=float("nan")))
    with pytest.raises(SettingsError, match="must be text .not empty., got ''"):
        Profile(teachers=dict(endpoints=[dict(urls=["http://localhost:8000/v1"], model="")]))


def test_settings_do_not_change_in_place():
    with pytest.raises(Exception, match="frozen"):
        SFTSettings().lr = 3.0
    assert SFTSettings().changed(lr=0.3).lr == 0.3


def test_profiles_extend_each_other_and_overrides_are_reported(tmp_path, capsys):
    (tmp_path / "a.yaml").write_text("sft: {steps: 3, lr: 1.0e-3}")
    (tmp_path / "b.yaml").write_text("extends: a\nsft: {steps: 5}")
    found = read_profile("b", tmp_path, overrides_of(["sft.lr=1e-4", "grpo.rollouts=colocate"]))
    assert (found.sft.steps, found.sft.lr, found.grpo.rollouts) == (5, 1e-4, "colocate")
    assert "sft.lr 0.001 → 0.0001" in capsys.readouterr().out


@pytest.mark.parametrize(
    "text, said",
    [
        ("- 1", "must hold sections"),
        ("sft: 3", "sft"),
        ("sft: {steps: [1}", "not valid YAML"),
        ("sft: {steps: no}", "sft.steps"),
        ("1", "must hold sections"),
        ("extends: a", "leads back to a"),
        ("extends: b", "a → b → a"),
        ("extends: [b]", "must name a profile"),
        ("1: {lr: 2}", "not the name of a setting"),
        ("sft: {2: 1}", "not the name of a setting"),
        ("[1, 2]: 3", "not the name of a setting"),
        ("null: 3", "not the name of a setting"),
        ("sft: {steps: 1}\nsft: {lr: 0.1}", "`sft` is set twice"),
        ("sft: {lr: 0.1, steps: 3, lr: 0.2}", "`lr` is set twice"),
        ("sft: {lr: 1e9}", "sft.lr must be"),
        ("sft: {lr: .inf}", "sft.lr must be"),
        ("name: other", "the name of its file"),
        ("self: 3", "self: there is no such setting"),
        ("x: " + "[" * 5000, "too deep"),
        ("sft:\n\tlr: 1", "line 2"),
    ],
)
def test_a_broken_profile_is_one_clear_error(tmp_path, text, said):
    (tmp_path / "a.yaml").write_text(text)
    (tmp_path / "b.yaml").write_text("extends: a")
    with pytest.raises(SettingsError, match=re.escape(said)):
        read_profile("a", tmp_path)


def test_a_profile_that_is_no_text_is_one_clear_error(tmp_path):
    (tmp_path / "a.yaml").write_bytes("sft: {lr: 0.1}\n# größer\n".encode("latin-1"))
    with pytest.raises(SettingsError, match="a.yaml is not UTF-8 .line 2"):
        read_profile("a", tmp_path)
    (tmp_path / "b.yaml").mkdir()
    with pytest.raises(SettingsError, match="no profile 'b'; there are a"):
        read_profile("b", tmp_path)


@pytest.mark.parametrize("number", ["1e-4", "1E-4", "1.0e-4", "0.0001", "1.e-4", "+1e-4"])
def test_a_number_in_a_file_is_what_it_is_on_the_command_line(tmp_path, number):
    (tmp_path / "a.yaml").write_text(f"sft: {{lr: {number}}}")
    assert read_profile("a", tmp_path).sft.lr == 1e-4 == read_yaml(number)


def test_the_command_line_prints_a_profile_and_refuses_bad_settings(capsys):
    assert main(["doctor", "--profile", "smoke", "--json", "--set", "grpo.lr=1e-5"]) == 0
    out = capsys.readouterr().out
    assert json.loads(out[out.index("{") :])["grpo.lr"] == 1e-5
    assert main(["doctor", "--profile", "smoke"]) == 0
    assert "per_device_batch_size: null" in capsys.readouterr().out
    assert main(["doctor", "--json", "--set", "grpo.lr=1e-5"]) == 0
    assert json.loads(capsys.readouterr().out)["grpo.lr"] == 1e-5
    assert main(["doctor", "--set", "grpo.lr=fast"]) == main(["doctor", "--profile", "huge"]) == 2
    assert "no profile 'huge'; there are" in capsys.readouterr().err
    for bad in ("grpo.micro=3", "grpo.steps=-1", "grpo", "=3", "nothing.here=1"):
        assert main(["reproduce", "--profile", "smoke", "--set", bad]) == 2, bad
        assert "setting" in capsys.readouterr().err or bad == "grpo.steps=-1"


def test_the_paper_trains_with_the_released_settings():
    paper = profile("paper")
    assert (
        paper.grpo.changed(per_device_batch_size=None, bf16=False, save_steps=50, seed=42) == GRPOSettings()
    )
    sft = dict(per_device_batch_size=None, bf16=False, group_by_length=False, save_steps=100, seed=42)
    assert paper.sft.changed(**sft) == SFTSettings()


def settings_of_stage(monkeypatch, name, **launch):
    "What the manifest of a trained model would hold."
    from globe.pipeline.tasks import Run

    run, seen = Run("mini", launch=launch, sft=dict(bf16=True), judge=dict(bf16=True)), []
    monkeypatch.setattr(Run, "base", lambda self, backbone="": "base")
    monkeypatch.setattr(Run, "rows_of", lambda self, variant: ([], "rows"))
    monkeypatch.setattr(Run, "make", lambda self, at, work, settings, *more: seen.append(settings))
    run.trained(name)
    return seen[0]


def test_a_recipe_counts_where_it_changes_numbers(monkeypatch):
    shared = [settings_of_stage(monkeypatch, "sft", recipe=r) for r in ("multi_gpu", "zero2", "zero3")]
    assert [s.get("deepspeed", {}).get("zero_stage") for s in shared] == [None, 2, 3]
    assert settings_of_stage(monkeypatch, "sft", processes=8, gpu_gib=80.0) == shared[0]
    assert settings_of_stage(monkeypatch, "sft", processes=1, recipe="zero3") == shared[0]
    assert "deepspeed" not in settings_of_stage(monkeypatch, "grpo-accuracy", recipe="zero3")  # in float32


def test_precision_is_a_setting_and_no_recipe_changes_it(monkeypatch):
    from globe.training import launch

    recipes = sorted((checkout() / "globe" / "recipes").glob("*.yaml"))
    assert len(recipes) == 4
    for recipe in recipes:
        assert yaml.safe_load(recipe.read_text(encoding="utf-8"))["mixed_precision"] == "no"
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    monkeypatch.setattr(launch, "_train_here", lambda *a, **k: os.environ["ACCELERATE_MIXED_PRECISION"])
    assert launch.train("sft", "model", [], "out") == "no"
