"What an install brings: ranges, pins and extras agree; the core runs without what only extras install."

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from globe import extras

RUNS = "mini", "smoke", "paper", "cache"  # folders of runs below data/
ROOT = Path(__file__).parent.parent
spec = importlib.util.spec_from_file_location("pin", ROOT / ".ci" / "pin.py")
pin = importlib.util.module_from_spec(spec)
spec.loader.exec_module(pin)
SETTINGS = pin.settings()
EXTRAS = [key.removesuffix("_requirements") for key in SETTINGS if key.endswith("_requirements")]


def pins():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return {canonicalize_name(line.partition("==")[0]): line for line in lines if not line.startswith("#")}


def names(extra=None):
    return {canonicalize_name(r.name) for r in pin.requirements(SETTINGS, extra)}


def test_constraints_pin_whatever_the_reproduction_asks_for_within_its_range():
    for requirement in [*pin.requirements(SETTINGS), *pin.requirements(SETTINGS, "all")]:
        pinned = pins()[canonicalize_name(requirement.name)].partition("==")[2]
        assert requirement.specifier.contains(pinned), f"{requirement} excludes {pinned}: run make pins"


def test_constraints_fit_every_machine():
    for line in pins().values():
        assert re.fullmatch(r"[\w.-]+==[\w.]+", line), f"{line}: no path, no local version such as +cpu"


def test_environment_has_the_requirements_in_the_versions_of_the_constraints():
    assert (ROOT / "environment.yml").read_text(encoding="utf-8") == pin.environment(SETTINGS, pins())


def test_requirements_are_ranges():
    exact = {
        r.name for e in [None, *EXTRAS] for r in pin.requirements(SETTINGS, e) if "==" in str(r.specifier)
    }
    assert exact == {
        "nbdev",
        "execnb",
        "fastcore",
        "ghapi",
        "ruff",
    }  # nbdev 2 needs these; one layout for all


def test_core_has_neither_torch_nor_jupyter_nor_trl():
    heavy = {
        "torch",
        "transformers",
        "trl",
        "peft",
        "jupyterlab",
        "ipykernel",
        "papermill",
        "matplotlib",
        "gradio",
    }
    assert not heavy & names()
    assert heavy <= names("all")
    assert {"train", "deepspeed", "notebooks", "figures", "demo", "geoclip", "ray", "dev", "all"} == set(
        EXTRAS
    )
    assert not {"geoclip", "deepspeed", "vllm"} & names("all")


def test_installed_metadata_have_the_extras_of_the_settings():
    assert set(extras.EXTRAS) | {"all"} == set(EXTRAS)
    for extra in EXTRAS:
        found = {canonicalize_name(r.name) for r in extras.requirements(extra)}
        assert found == names(extra), "installed from other settings: run make .venv/installed"


def test_hint_for_geoclip_has_a_version_in_its_range():
    (wanted,) = [r for r in pin.requirements(SETTINGS, "geoclip") if r.name == "geoclip"]
    assert wanted.specifier.contains(re.search(r"geoclip==([\d.]+)", extras.APART["geoclip"])[1])


ONLY_CORE = """
import sys
from importlib.machinery import PathFinder

EXTRA = {extra!r}  # distributions
MODULES = {{name.replace("-", "_") for name in EXTRA}} | {{"IPython", "jupyter_client", "nbclient"}}


class WithoutExtras(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        absent = name.partition(".")[0] in MODULES
        return None if absent else super().find_spec(name, path, target)


sys.meta_path = [WithoutExtras if finder is PathFinder else finder for finder in sys.meta_path]
from globe import extras
installed = extras.version_of
extras.version_of = lambda name: "" if name.lower().replace("_", "-") in EXTRA else installed(name)
"""


def only_core(code, *args, cwd=ROOT):
    "Run code where nothing can be imported that only an extra installs."
    extra = set().union(*map(names, EXTRAS)) - names() - {"setuptools"}
    program = ONLY_CORE.format(extra=sorted(extra)) + code
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", program, *args], cwd=cwd, env=env, capture_output=True, text=True
    )


def command(*args, cwd=ROOT):
    return only_core("from globe.cli import main; sys.exit(main(sys.argv[1:]))", *args, cwd=cwd)


def modules_of(*chapters):
    found = [p for c in chapters for p in [*(ROOT / "globe" / c).rglob("*.py"), ROOT / "globe" / f"{c}.py"]]
    files = [p.relative_to(ROOT).with_suffix("") for p in found if p.exists()]
    return sorted({".".join(f.parts).removesuffix(".__init__") for f in files})


CORE = modules_of(
    *"places photos answers evaluation validation distillation app pipeline".split(),
    *"files progress markdown intervals settings extras rewards evaluate commands cli".split(),
)


def test_every_module_of_the_core_is_imported_without_extras():
    done = only_core(f"import importlib\nfor name in {CORE!r}: importlib.import_module(name)")
    assert done.returncode == 0, done.stderr


def test_importing_globe_loads_nothing():
    code = "import sys; before = set(sys.modules); import globe; print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == {"globe"}


@pytest.fixture
def files(tmp_path):
    (tmp_path / "said.csv").write_text(
        "id,city,country\na,Paris,France\nb,Köln,Deutschland\n", encoding="utf-8"
    )
    (tmp_path / "truth.csv").write_text("id,lat,lon\na,48.85,2.35\nb,50.94,6.96\n", encoding="utf-8")
    return tmp_path


def test_core_scores_a_file(files):
    done = command("score", "said.csv", "--truth", "truth.csv", "--json", cwd=files)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["n"] == 2


def test_core_finds_places():
    code = "import globe; print(globe.places.locate('Köln', 'Deutschland').country_code, globe.__version__)"
    done = only_core(code)
    assert done.stdout.split() == ["DE", extras.version_of(extras._PROJECT)], done.stderr


@pytest.mark.parametrize(
    "args, needed",
    [
        ("reproduce --profile smoke", "notebooks,figures,train,dev"),
        ("locate a.jpg", "train"),
        ("demo", "demo,train"),
        ("demo --model http://127.0.0.1:9/v1", "demo"),
        ("score said.csv --truth truth.csv --figure errors", "figures"),
        ("evaluate --model a --benchmark im2gps --data b", "train"),
        ("train sft --model a --data b --out c", "train"),
        ("distill a --out b --model c", "train"),
        ("publish", "notebooks,dev"),
    ],
)
def test_a_command_names_the_extra_that_it_needs(args, needed, files):
    done = command(*args.split(), cwd=files)
    assert done.returncode == 2 and not done.stdout
    assert f"pip install 'globe-geolocation[{needed}]'" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_doctor_without_extras_finds_nothing_wrong():
    done = command("doctor", "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 0 and found["missing"] == []
    assert "torch" in found["extras"]["train"]["missing"] and "train" in found["extras"]["train"]["get"]


def test_doctor_without_extras_says_that_a_profile_cannot_run():
    done = command("doctor", "--profile", "smoke")
    assert done.returncode == 1 and "per_device_batch_size" in done.stdout
    assert (
        "cannot run here" in done.stderr and "globe-geolocation[notebooks,figures,train,dev]" in done.stderr
    )


def test_doctor_of_an_installed_package_without_notebooks_ends_well(tmp_path):
    shutil.copytree(ROOT / "globe", tmp_path / "globe", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "data", tmp_path / "globe" / "data", ignore=shutil.ignore_patterns(*RUNS))
    env = os.environ | {"PYTHONPATH": str(tmp_path)}
    run = lambda *a: subprocess.run(
        [sys.executable, "-m", "globe", "doctor", *a], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    done = run()
    assert done.returncode == 0 and "missing: the notebooks" in done.stdout, done.stderr
    done = run("--profile", "smoke")
    assert done.returncode == 1 and "clone the repository" in done.stderr and "Traceback" not in done.stderr


def test_importing_the_trainers_without_extras_names_the_extra():
    done = only_core("import globe.train")
    assert "MissingExtra" in done.stderr and "`train`" in done.stderr


def test_the_slow_tests_are_there():
    from conftest import SLOW

    for file, slow in SLOW.items():
        text = (ROOT / "tests" / f"{file}.py").read_text(encoding="utf-8")
        gone = [name for name in slow.split() if f"def test_{name}(" not in text]
        assert not gone, f"tests/conftest.py calls {gone} of {file} slow, which are not there"
