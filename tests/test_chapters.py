"The chapters: what may import what."

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from globe.pipeline.notebooks import notebooks

ROOT = Path(__file__).parent.parent


def module_of(notebook):
    found = re.search(r"#\|\s*default_exp ([\w.]+)", notebook.read_text(encoding="utf-8"))
    return found and f"globe.{found[1]}".removesuffix(".__init__")


ORDER = [m for m in map(module_of, notebooks(ROOT)) if m]


def file_of(module):
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def imports_of(module):
    "Modules of the package that a module imports, at the top or inside functions."
    path, found = file_of(module), set()
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1] + (node.module or "").split(".")
            found |= {".".join(filter(None, [*base, name])) for name in ["", *(a.name for a in node.names)]}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "globe":
            found |= {node.module, *(f"{node.module}.{a.name}" for a in node.names)}
        elif isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in (
            "import_module",
            "__import__",
        ):
            found |= {a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)}
    return {m for m in modules_of(found) if m != module}


def modules_of(names):
    "The modules that names of modules, chapters or the package stand for; all of a chapter for its name."
    chapters = {m.rpartition(".")[0] for m in ORDER} - {"globe"}
    whole = {name for name in names if name in chapters}
    return {m for m in ORDER if m in names or m.rpartition(".")[0] in whole}


def test_every_module_comes_from_one_notebook():
    assert len(set(ORDER)) == len(ORDER)
    there = {
        p.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
        for p in (ROOT / "globe").rglob("*.py")
    }
    generated = {m for m in there if not m.endswith(("__init__", "__main__", "_modidx"))}
    assert generated == {m for m in ORDER if file_of(m).name != "__init__.py"}


@pytest.mark.parametrize("module", ORDER)
def test_a_module_imports_only_what_stands_above_it(module):
    below = {m for m in imports_of(module) if ORDER.index(m) > ORDER.index(module)}
    assert not below, f"{module} imports {', '.join(sorted(below))}, which its chapter or a later one defines"


@pytest.mark.parametrize(
    "line",
    [
        "from ..training import rewards",
        "from ..rewards import geo_accuracy",
        "import globe.training.rewards",
        "import globe.world.facts as f",
        "from globe import world",
        "def f():\n    from .. import training",
        "import importlib\nimportlib.import_module('globe.world')",
    ],
)
def test_an_import_from_below_is_seen_however_it_is_written(line, tmp_path, monkeypatch):
    copy = tmp_path / "sphere.py"
    copy.write_text(file_of("globe.places.sphere").read_text(encoding="utf-8") + "\n" + line)
    own = file_of
    monkeypatch.setitem(globals(), "file_of", lambda m: copy if m == "globe.places.sphere" else own(m))
    below = {
        m
        for m in imports_of("globe.places.sphere")
        if m.startswith(("globe.training", "globe.world", "globe.rewards"))
    }
    assert below


def test_only_the_pipeline_and_the_command_line_import_the_synthetic_world():
    free = ("globe.world", "globe.pipeline", "globe.locate_command")
    users = {
        m for m in ORDER if any(i.startswith("globe.world") for i in imports_of(m)) and not m.startswith(free)
    }
    assert not users


@pytest.mark.parametrize("module", ORDER)
def test_a_module_fits_into_a_head(module):
    assert len(file_of(module).read_text(encoding="utf-8").splitlines()) <= 450


CORE = (
    "places.match",
    "photos.collections",
    "answers.reader",
    "evaluation.score",
    "evaluate",
    "rewards",
    "cli",
)


@pytest.mark.parametrize("module", CORE)
def test_the_core_loads_nothing_heavy(module):
    code = f"import sys, globe.{module}; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert not {"torch", "transformers", "trl", "datasets", "matplotlib", "IPython"} & set(
        loaded.stdout.split()
    )


def test_what_only_shows_progress_yields_what_it_is_given():
    from globe.progress import batches, lines, tracked

    for watch in (None, False, lines("counting")):
        assert list(tracked(iter("abc"), 3, watch)) == ["a", "b", "c"]
    assert list(batches(iter(range(7)), 3)) == [[0, 1, 2], [3, 4, 5], [6]]


def test_what_explains_settings_is_used_by_nothing_but_settings():
    users = {m for m in ORDER if "globe.settings_text" in imports_of(m)}
    assert users == {
        "globe.settings",
        "globe.pipeline.profiles",
        "globe.distill_command",
        "globe.reproduce_command",
        "globe.train_command",
    }
