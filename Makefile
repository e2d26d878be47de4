# make repro: from a fresh clone to a trained, averaged and scored model.   make test: does this checkout work?
# Needs Python >= 3.11 with venv, git, and a Python package index; everything is installed into .venv.

PYTHON ?= python3
VENV   := .venv
BIN    := $(CURDIR)/$(VENV)/bin

export PATH := $(BIN):$(PATH)
export PIP_USER := 0
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYTHONUNBUFFERED := 1
# Telemetry off for what is started here without going through flows/__init__.py.
export DO_NOT_TRACK := true
export DVC_NO_ANALYTICS := true
export MLFLOW_DISABLE_TELEMETRY := true
unexport PYTHONPATH PYTHONHOME

.PHONY: help setup setup-test setup-all repro test test-slow test-all faults undo lint lock audit sbom ui serve wheel ablations gpu-bundle gpu-rehearsal
.DEFAULT_GOAL := help

help:
	@echo 'make repro   set up .venv, run the pipeline (dvc repro), print the scores'
	@echo 'make test    set up .venv with the test tools, run the tests (12 minutes); test-all: those that take longer too'
	@echo 'make faults  plant faults (kills, full disks, bad networks, flipped bytes, …) and count what held'
	@echo 'make undo    after a stage has failed: its outputs as of its last run; STAGE=train: of one stage only'
	@echo 'make lint    ruff, mypy, and who imports whom (import-linter)'
	@echo 'make lock    write constraints.txt anew; UPGRADE=1: with the newest versions that pyproject.toml allows'
	@echo 'make audit   ask the advisory database about every version of constraints.txt;  make sbom: sbom.json, CycloneDX'
	@echo 'make ui      browse the recorded runs (MLflow) at http://127.0.0.1:5000'
	@echo 'make serve   Prefect (schedules, runs) at http://127.0.0.1:4200, MLflow at http://127.0.0.1:5000, until Ctrl-C'
	@echo 'make wheel   dist/: the library alone, which translates with a model folder and needs no DVC, MLflow, Prefect'
	@echo 'make ablations   queue Table 3 of the paper as DVC experiments; PRESET=interface-strings: of another preset'
	@echo 'make gpu-bundle      .gpu/, what benchmarks/gpu.sh needs on a machine with a GPU and no network'
	@echo 'make gpu-rehearsal   benchmarks/gpu.sh on this CPU, in a Python that has no more than such a machine'
	@echo 'PYTHON=/path/to/python3.11 chooses the Python that .venv is made with.'

# $(call install,STAMP,EXTRA): installs the parts of constraints.txt before the one of EXTRA, each file checked by its
# hash; what is built from source is built with the setuptools from there. Only torch comes by version. The stamp is
# written last and holds all that the installation follows from, so an interrupted, outdated or moved one is done again
# and an up-to-date one costs nothing.
define install
	@{ pwd; cat pyproject.toml constraints.txt; } | cmp -s - $(VENV)/$(1) || { set -e; \
	  $(PYTHON) -c '' 2>/dev/null || { echo 'error: $(PYTHON) does not run: install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3.11' >&2; exit 1; }; \
	  $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: $$($(PYTHON) -V 2>&1) is too old: install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3.11" >&2; exit 1; }; \
	  $(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo 'error: $(PYTHON) lacks venv or ensurepip: install them (Debian, Ubuntu: apt install python3-venv)' >&2; exit 1; }; \
	  { [ "$$(head -n 1 $(VENV)/.installed 2>/dev/null)" = "$$(pwd)" ] && $(VENV)/bin/python -m pip --version >/dev/null 2>&1; } || { echo 'Creating $(VENV)'; $(PYTHON) -m venv --clear $(VENV); }; \
	  echo 'Installing the pinned dependencies into $(VENV): some minutes, and about 2 GB with a CPU build of torch'; \
	  rm -f $(VENV)/.installed*; \
	  sed -n '/^setuptools==/,/[^\]$$/p' constraints.txt > $(VENV)/setuptools.txt; \
	  sed '/^# Only for the extra `$(2)`/,$$d' constraints.txt > $(VENV)/requirements.txt; \
	  for file in setuptools requirements; do \
	    $(VENV)/bin/python -m pip install --quiet --require-hashes --no-deps --no-build-isolation -r $(VENV)/$$file.txt; done; \
	  $(VENV)/bin/python -m pip install --quiet "$$(sed -n 's/.*"\(torch==[^"]*\)".*/\1/p' pyproject.toml)"; \
	  $(VENV)/bin/python -m pip install --quiet --no-deps --no-build-isolation -e .; \
	  told=$$($(VENV)/bin/python -m pip check) || { echo "error: $$told: constraints.txt lacks something: make lock" >&2; exit 1; }; \
	  for stamp in .installed $(1); do { pwd; cat pyproject.toml constraints.txt; } > $(VENV)/$$stamp.new; mv $(VENV)/$$stamp.new $(VENV)/$$stamp; done; \
	}
endef

# In a source tarball DVC has to be told that there is no git; in a checkout git has to be there. DVC's site cache is to
# be the user's own (flows/checkout/site_cache.py says why).
define check_git
	@if [ -e .git ]; then git --version >/dev/null 2>&1 || { echo 'error: this is a git checkout, but git is missing: install git' >&2; exit 1; }; \
	else grep -qs no_scm .dvc/config.local || dvc config --local core.no_scm true; fi
	@[ ! -d .dvc ] || grep -qs site_cache_dir .dvc/config.local || python -c 'from pathlib import Path; from flows.checkout.site_cache import configure; configure(Path())'
endef

setup:
	$(call install,.installed,servers)
	$(check_git)

setup-test:
	$(call install,.installed-test,ja)
	$(check_git)

# All of constraints.txt, the extra `servers` among it.
setup-all:
	$(call install,.installed-all,nothing)
	$(check_git)

# Checks what can be checked before, then becomes `dvc --wait-for-lock repro`.
repro: setup
	@python -m flows.stages repro
	@python -m flows.restore --check
	@echo
	@python -m flows.summary
	@python -m flows.tracking.send --wait || :
	@echo 'Scores, plots and translations: reports/   the model: models/averaged   recorded runs: make ui'

# Nothing but outputs that differ from dvc.lock is touched.
undo: setup
	@python -m flows.restore $(STAGE)

# One thread a process: there are more processes than cores, and more threads would only wait for one another.
test: setup-test
	@OMP_NUM_THREADS=1 python -m pytest -m 'not slow and not cuda' -n auto --dist loadfile --no-loadscope-reorder

# Kills, full disks, bad networks, flipped bytes, damaged input, with a table of what held. They are slow tests too.
# FAULTS=20 FUZZ_SECONDS=90 plants each random fault so often; FUZZ_SEED=1 damages the same bytes each time.
faults: setup-test
	@OMP_NUM_THREADS=1 $(if $(FUZZ_SEED),FUZZ_SEED=$(FUZZ_SEED)) python -m pytest tests/faults -m slow -n auto --dist load

# The rehearsal for a GPU installs several GB into work/.
test-slow: setup-test
	@OMP_NUM_THREADS=1 python -m pytest -m 'slow and not cuda' --ignore=tests/faults -n auto --dist loadfile --no-loadscope-reorder

# What fuzzing finds by chance must not fail a change that is not to blame, so here it begins at the same place each time.
test-all: test test-slow
	@$(MAKE) --no-print-directory faults FUZZ_SEED=1

lint: setup-test
	@ruff check --no-cache .
	@ruff format --no-cache --check .
	@mypy
	@lint-imports --no-cache --no-logo

lock: setup-all
	@python deploy/lock.py $(if $(UPGRADE),--upgrade)

audit: setup-all
	@pip-audit --strict --progress-spinner off --disable-pip --require-hashes -r constraints.txt

sbom: setup-all
	@cyclonedx-py environment --output-reproducible --pyproject pyproject.toml -o sbom.json $(VENV)
	@echo 'sbom.json: what is installed in $(VENV), in CycloneDX'

ui: setup
	@echo 'MLflow at http://127.0.0.1:5000, until Ctrl-C'
	@exec python -m flows.server.web mlflow --port 5000

# SERVE='--port 4201 --mlflow-port 5001' chooses other ports. exec: the signals of a service manager reach serve itself.
serve: setup
	@exec python -m flows.server $(SERVE)

wheel: setup
	@python deploy/wheel.py

# ROWS=DE queues some rows only.
PRESET ?= multi30k
ROWS   ?= ABCDE
ablations: setup
	@python -m flows.ablations --preset $(PRESET) --rows $(ROWS)

# Downloads as `make repro` does; TRANSFORMER_MIRROR works here too.
gpu-bundle: setup
	@python -m benchmarks.gpu.bundle

# PARTS=1,3 rehearses some parts only.
gpu-rehearsal: setup gpu-bundle
	@python -m benchmarks.gpu.rehearsal
