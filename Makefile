# The commands of this project. The first one sets up .venv; after that none needs the network (except bench, for three packages that it compares with).
#   make reproduce [PROFILE=mini] [SEEDS=1] [PHOTOS=folder]   make every table and figure
#   make test                                                 run all tests that a change must pass; about twenty minutes on two cores
#   make test-quick                                           run the tests that need no training and no external data; under two minutes
#   make bench                                                measure the speed beside other implementations; about two and a half hours, not part of the tests
#   make soak                                                 try kills, full disks, odd servers and hostile inputs (tests/soak.md); about an hour, not part of the tests
#   make lab                                                  open the notebooks in JupyterLab
#   make docs                                                 build the documentation site in _docs/site and check its links; no network
#   make export                                               after editing a notebook: update package, layout and README
#   make publish                                              for maintainers: copy outputs of the last mini run to nbs/ and README.md
#   make readme                                               make README.md from nbs/index.ipynb
#   make pins                                                 make constraints.txt and environment.yml from .venv

PROFILE ?= mini
SEEDS ?= 1
PHOTOS ?=
PYTHON ?= python3
# exact versions; `make CONSTRAINTS=/dev/null .venv/installed` takes the newest that settings.ini allows
CONSTRAINTS ?= constraints.txt

SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -ec
.PHONY: help reproduce test test-quick bench soak lab docs export publish readme pins
PY := .venv/bin/python
PIP := $(PY) -m pip install --disable-pip-version-check --no-input -c $(CONSTRAINTS)
SHOW = tee -a .venv/install.log | awk '/^ *(Collecting|Obtaining)/ {printf "\r\033[K  package %d: %s", ++n, $$2; fflush()} /^Installing collected/ {printf "\r\033[K  installing"; fflush()} END {print ""}'
PYTEST := $(PY) -m pytest -q -rs

help:
	@sed -n '2,12s/^#//p' Makefile

# torch goes first, so that the rest is resolved against the build (CPU or CUDA) that this machine gets
.venv/installed: settings.ini setup.py pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	@echo "set up .venv: some minutes, once (log: .venv/install.log)"
	@test -x $(PY) || $(PYTHON) -m venv .venv
	@: > .venv/install.log
	@$(PIP) torch 2>&1 | $(SHOW) || { tail -n 15 .venv/install.log; exit 1; }
	@$(PIP) torch -e '.[all]' 2>&1 | $(SHOW) || { tail -n 15 .venv/install.log; exit 1; }
	@$(PY) -m ipykernel install --sys-prefix --name python3 --display-name "Python 3 (globe)" > /dev/null 2>&1
	@touch .venv/installed
	@echo "set up .venv: done"

reproduce: .venv/installed
	@$(PY) -m globe reproduce --profile '$(PROFILE)' --seeds '$(SEEDS)' $(if $(PHOTOS),--photos '$(PHOTOS)')

# One thread for each process: the smoke run keeps one core busy while notebooks and tests take the other, then both.
test test-quick: export HF_HUB_OFFLINE = 1
test test-quick: export PYTHONHASHSEED = 0
test test-quick: export OMP_NUM_THREADS = 1
test test-quick: export PYTHONDONTWRITEBYTECODE =  # many tests start Python anew: compiled modules are kept
LIBRARY := .venv/bin/nbdev_test --path nbs --skip_folder_re '^[_.]|^paper$$' --do_print --n_workers 1
AGREE := tests/test_repository.py tests/test_chapters.py tests/test_install.py

test: .venv/installed
	@echo "1/4 the package equals what the notebooks export; chapters, README, requirements and layout agree"
	@$(PYTEST) -n 2 $(AGREE)
	@echo "2/4 a smoke reproduction, beside 3/4 and 4/4: every notebook of the paper, smallest sizes, and a run inside the run (log: .venv/smoke.log)"
	@$(PY) -m globe reproduce --profile smoke --only paper/ --only 12_pipeline/09 > .venv/smoke.log 2>&1 & smoke=$$!; trap "kill $$smoke 2> /dev/null || true" EXIT; \
	  echo "3/4 the notebooks of the library run, and every test in them holds"; \
	  $(LIBRARY); \
	  echo "4/4 what crosses modules, bad input, kills, the command line"; \
	  $(PYTEST) -n 2 --dist worksteal --durations 5 $(AGREE:%=--ignore %); \
	  wait $$smoke || { tail -n 40 .venv/smoke.log; exit 1; }; echo "smoke reproduction: $$(grep -F -m 1 "**all**" .venv/smoke.log)"

test-quick: .venv/installed
	@$(PYTEST) -n 2 --dist worksteal -m 'not slow and not real'

bench: .venv/installed
	@$(PIP) --quiet reverse_geocoder==1.5.1 geopy==2.4.1
	@$(PIP) --quiet --no-deps prefix-grouper==0.0.1.post1
	@$(PY) tests/bench_places.py && $(PY) tests/bench_answers.py && $(PY) tests/bench_rewards.py && $(PY) tests/bench_distill.py && $(PY) tests/bench_grpo.py && $(PY) tests/bench_prefix_grouper.py
	@$(PY) tests/bench_reproduce.py

soak: .venv/installed
	@PYTHONHASHSEED=0 nice -n 10 $(PY) tests/soak.py --write

lab: .venv/installed
	@JUPYTER_PREFER_ENV_PATH=1 .venv/bin/jupyter lab --config=.ci/lab.py nbs/index.ipynb

docs: export NO_MKDOCS_2_WARNING = 1
docs: export DISABLE_MKDOCS_2_WARNING = true
docs: .venv/installed
	@rm -rf _docs && mkdir -p _docs/src/data && cp -r nbs figures *.md CITATION.cff LICENSE _docs/src && cp data/*.csv _docs/src/data && cp constraints.txt _docs/src && cp README.md _docs/src/index.md
	@.venv/bin/mkdocs build -q --strict
	@.venv/bin/linkchecker --no-status --no-warnings -q _docs/site/index.html && echo "_docs/site/index.html"

export: .venv/installed
	@$(PY) -c "from nbdev.doclinks import nbdev_export; nbdev_export()" && touch .venv/installed  # nbdev writes pyproject.toml anew
	@.venv/bin/ruff format -q nbs tests data .ci setup.py
	@$(PY) -c "from nbdev.clean import nbdev_clean; nbdev_clean(fname='nbs')"
	@$(MAKE) -s readme

publish: .venv/installed
	@$(PY) -m globe publish

readme: .venv/installed
	@$(PY) -c "from pathlib import Path; from globe.pipeline.publish import readme; Path('README.md').write_text(readme(), encoding='utf-8')"

pins: .venv/installed
	@$(PY) .ci/pin.py
