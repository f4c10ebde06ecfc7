"""What README.md promises: its examples run and give what it shows, its commands are understood, and what
`pip install .` installs works away from the checkout."""

import ast, json, re, shutil, subprocess, sys
from pathlib import Path

import pytest
from PIL import Image

from globe.distillation.teachers import from_text
from globe.app.locate import Geolocator
from globe.cli import _parser

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language, text=README):
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


def value(block, names):  # variables, changed
    "Run a block as a notebook does; the value of its last expression."
    *first, last = ast.parse(block).body
    exec(compile(ast.Module(first, []), "README.md", "exec"), names)
    if isinstance(last, ast.Expr):
        return eval(compile(ast.Expression(last.value), "README.md", "eval"), names)
    exec(compile(ast.Module([last], []), "README.md", "exec"), names)


class Recorded:
    "A model that always gives the same answer."

    name, note = "recorded", ""

    def ask(self, rows, temperature):
        return (
            from_text(
                r["id"],
                self.name,
                "<think>The sea.</think>\n<answer>\ncountry: Finland\ncity: Turku\nlocalizability: 0.9\n</answer>",
            )
            for r in rows
        )


def test_the_examples_run_and_give_what_is_shown(tmp_path, monkeypatch):
    (tmp_path / "nbs").mkdir()
    (tmp_path / "figures").symlink_to(ROOT / "figures")
    Image.new("RGB", (60, 40), "red").save(tmp_path / "nbs" / "photo.jpg")
    monkeypatch.chdir(tmp_path / "nbs")  # the index is a notebook there
    asked = []
    monkeypatch.setattr(
        Geolocator, "from_pretrained", lambda source: asked.append(source) or Geolocator(Recorded())
    )
    names, values = {}, []
    for block in blocks("python"):
        values.append(value(block, names))
    shown = [s.strip() for s in re.findall(r"^```\n\n((?:    .*\n)+)", README, re.M)]
    assert len(shown) >= 3 and set(shown) <= {repr(v) for v in values}
    assert any(getattr(v, "city", "") == "Turku" for v in values)  # JupyterLab shows the prediction
    assert len(asked) == 1  # a public model: this one stands in for it


def test_the_claims_of_a_run_with_one_seed_are_shown_and_what_is_missing_is_named(tmp_path, monkeypatch):
    import pandas as pd

    cells = json.loads((ROOT / "nbs" / "index.ipynb").read_text(encoding="utf-8"))["cells"]
    (code,) = [
        "".join(c["source"])
        for c in cells
        if "claims.csv" in "".join(c["source"]) and "code" in c["cell_type"]
    ]
    claims = pd.read_csv(ROOT / "figures" / "claims.csv")
    (tmp_path / "figures").mkdir()
    (tmp_path / "nbs").mkdir()
    claims[~claims.claim.str.endswith("helps accuracy")].to_csv(
        tmp_path / "figures" / "claims.csv", index=False
    )
    monkeypatch.chdir(tmp_path / "nbs")
    shown = value(code, {}).data
    assert "GRPO is better than SFT" in shown and "one training seed: localizability helps accuracy" in shown


def test_times_and_memory_are_those_of_the_run_report():
    report = json.loads((ROOT / "figures" / "run_report.json").read_text(encoding="utf-8"))
    (row,) = [line for line in README.splitlines() if line.startswith("| `make reproduce SEEDS=")]
    seeds = re.search(r"SEEDS=(\d+)", row)[1]
    hours = sum(row["past"].get(seeds, row["seconds"]) for row in report) / 3600  # of a run from scratch
    memory = max(row["peak_mb"] for row in report) / 1000
    assert f"| {hours:.1f} hours | {memory:.1f} GB |" in row
    measured_only = int(seeds) == 1
    assert (
        measured_only
        or "(estimate)" in README.partition("| `make reproduce`, one seed")[2].partition("\n")[0]
    )


def test_every_claim_says_which_models_it_compares():
    import pandas as pd

    claims = pd.read_csv(ROOT / "figures" / "claims.csv").set_index("claim")
    both = claims.loc["validated data are better than random data"]
    assert len(both) == 2
    for row in both.itertuples():  # also the comparison that gains less
        before, after = row.compared.split(" → ")
        assert f"{before} {100 * row.before:.1f} → {after} {100 * row.after:.1f}" in README


def commands():
    "Lines of shell blocks: of the README, and of the guides."
    guides = "\n".join(
        "".join(cell["source"]) + "\n"
        for path in sorted((ROOT / "nbs" / "guides").glob("*.ipynb"))
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
    )
    lines = "\n".join(blocks("sh") + blocks("sh", guides)).replace("\\\n", " ").splitlines()
    return [line.partition("#")[0].strip().removeprefix(".venv/bin/") for line in lines if line.strip()]


@pytest.mark.parametrize("command", [c for c in commands() if c.startswith("globe ")])
def test_commands_are_understood(command):
    import shlex

    assert callable(_parser().parse_args(shlex.split(command)[1:]).run)


@pytest.mark.parametrize("command", [c for c in commands() if c.startswith("make ")])
def test_make_knows_its_targets(command):
    done = subprocess.run([*command.split(), "-n"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_pip_installs_works_elsewhere(tmp_path):
    copy, site = tmp_path / "copy", tmp_path / "site"
    shutil.copytree(
        ROOT,
        copy,
        ignore=shutil.ignore_patterns(
            ".venv", ".git", "figures", "mini", "smoke", "paper", "build", "__pycache__"
        ),
    )
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "-q",
            "--no-deps",
            "--no-build-isolation",
            "--target",
            site,
            copy,
        ],
        check=True,
        capture_output=True,
    )
    shutil.rmtree(copy)
    code = "\n".join(
        [
            *[
                b
                for b in blocks("python")
                if "globe.places" in b or "globe.training.rewards" in b or "helsinki" in b
            ],
            "import globe; print(globe.__file__, koeln.country_code, globe.Geolocator.__name__)",
        ]
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(site), "PATH": "", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    file, *rest = done.stdout.split()
    assert Path(file).is_relative_to(site) and rest == ["DE", "Geolocator"]
