# The commands of this project. Each sets up .venv first, once; after that no network is needed (but for three packages that bench compares with).
#   make reproduce [PROFILE=mini] [SEEDS=1] [PHOTOS=folder]   every table and figure
#   make test                                                 everything that is checked before a change is accepted
#   make bench                                                speed beside what people use today; about two and a half hours, never part of a test
#   make lab                                                  JupyterLab with the notebooks
#   make publish                                              for maintainers: outputs of the last mini run into nbs/, README.md
#   make readme                                               README.md from nbs/index.ipynb

PROFILE ?= mini
SEEDS ?= 1
PHOTOS ?=
PYTHON ?= python3

SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -ec
.PHONY: help reproduce test bench lab publish readme
PY := .venv/bin/python
PIP := $(PY) -m pip install --disable-pip-version-check --no-input
TORCH := $(shell grep -o 'torch==[0-9.]*' settings.ini)
SHOW = tee -a .venv/install.log | awk '/^ *(Collecting|Obtaining)/ {printf "\r\033[K  package %d: %s", ++n, $$2; fflush()} /^Installing collected/ {printf "\r\033[K  installing"; fflush()} END {print ""}'

help:
	@sed -n '2,7s/^#//p' Makefile

# torch goes first, so that the rest is resolved against the build (CPU or CUDA) that this machine gets
.venv/installed: settings.ini setup.py pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	@echo "set up .venv: some minutes, once (log: .venv/install.log)"
	@test -x $(PY) || $(PYTHON) -m venv .venv
	@: > .venv/install.log
	@$(PIP) '$(TORCH)' 2>&1 | $(SHOW) || { tail -n 15 .venv/install.log; exit 1; }
	@$(PIP) '$(TORCH)' -e '.[dev]' 2>&1 | $(SHOW) || { tail -n 15 .venv/install.log; exit 1; }
	@$(PY) -m ipykernel install --sys-prefix --name python3 --display-name "Python 3 (globe)" > /dev/null 2>&1
	@touch .venv/installed
	@echo "set up .venv: done"

reproduce: .venv/installed
	@$(PY) -m globe reproduce --profile '$(PROFILE)' --seeds '$(SEEDS)' $(if $(PHOTOS),--photos '$(PHOTOS)')

test: export HF_HUB_OFFLINE = 1
test: export PYTHONHASHSEED = 0
test: .venv/installed
	@echo "1/4 the package equals what the notebooks export; notebooks are clean and keep their tags; README and requirements agree"
	@$(PY) -m pytest -q tests/test_repository.py
	@echo "2/4 the notebooks of the library run, and every test in them holds"
	@OMP_NUM_THREADS=1 .venv/bin/nbdev_test --path nbs --skip_folder_re '^[_.]|^paper$$' --n_workers 2 --do_print
	@echo "3/4 a smoke reproduction: every notebook, smallest sizes"
	@$(PY) -m globe reproduce --profile smoke
	@echo "4/4 what crosses rooms, bad input, the command line"
	@$(PY) -m pytest -q -rs --durations 5 --ignore tests/test_repository.py

bench: .venv/installed
	@$(PIP) --quiet reverse_geocoder==1.5.1 geopy==2.4.1
	@$(PIP) --quiet --no-deps prefix-grouper==0.0.1.post1
	@$(PY) tests/bench_places.py && $(PY) tests/bench_rewards.py && $(PY) tests/bench_distill.py && $(PY) tests/bench_grpo.py && $(PY) tests/bench_prefix_grouper.py
	@$(PY) tests/bench_reproduce.py

lab: export PYTHONWARNINGS = ignore:IProgress not found
lab: .venv/installed
	@JUPYTER_PREFER_ENV_PATH=1 .venv/bin/jupyter lab --ServerApp.root_dir='$(CURDIR)' nbs/index.ipynb

publish: .venv/installed
	@$(PY) -m globe publish

readme: .venv/installed
	@$(PY) -c "from pathlib import Path; from globe.pipeline.publish import readme; Path('README.md').write_text(readme(), encoding='utf-8')"
