"""Writes constraints.txt and environment.yml from the environment that runs it: `make pins`.

To raise one package: `.venv/bin/pip install -U NAME`, then `make test` and `make pins`."""

from configparser import ConfigParser
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = "globe-geolocation"

CONSTRAINTS = """\
# The exact versions of the committed results, made by `make pins`; `make` installs by them.
# Without local suffix: `torch==2.13.0` fits the build for processors and the one for CUDA.
"""
ENVIRONMENT = """\
# The requirements and the extra `all` of settings.ini for conda users, in the versions of constraints.txt.
# Made by `make pins`; a test keeps the three equal.
name: globe
channels: [conda-forge]
dependencies:
  - python={python}
  - pip
  - pip:
      - -c constraints.txt
{pinned}
      - -e .
"""


def settings():
    "The section of settings.ini."
    config = ConfigParser(delimiters=["="])
    config.read(ROOT / "settings.ini", encoding="utf-8")
    return config["DEFAULT"]


def requirements(cfg, extra=None):
    "Requirements of the core, or of an extra with the extras that it names."
    for text in cfg[f"{extra}_requirements" if extra else "requirements"].split():
        wanted = Requirement(text)
        if wanted.name != PROJECT:
            yield wanted
        for inner in sorted(wanted.extras) if wanted.name == PROJECT else []:
            yield from requirements(cfg, inner)


def installed():
    "Canonical name -> name==version of everything in this environment but this project and pip."
    found = {
        canonicalize_name(d.name): f"{d.name}=={d.version.partition('+')[0]}"
        for d in metadata.distributions()
    }
    return {name: pin for name, pin in sorted(found.items()) if name not in (PROJECT, "pip")}


def environment(cfg, pins):
    "Text of environment.yml: what is asked for, in the versions of `pins`."
    wanted = {canonicalize_name(r.name): r for r in [*requirements(cfg), *requirements(cfg, "all")]}
    lines = []
    for name, requirement in sorted(wanted.items()):
        extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
        lines.append(f"      - {requirement.name}{extras}=={pins[name].partition('==')[2]}")
    return ENVIRONMENT.format(python=cfg["min_python"], pinned="\n".join(lines))


if __name__ == "__main__":
    pins = installed()
    (ROOT / "constraints.txt").write_text(CONSTRAINTS + "\n".join(pins.values()) + "\n", encoding="utf-8")
    (ROOT / "environment.yml").write_text(environment(settings(), pins), encoding="utf-8")
