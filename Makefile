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

.PHONY: help setup setup-test repro test test-all undo lint ui serve ablations gpu-bundle gpu-rehearsal
.DEFAULT_GOAL := help

help:
	@echo 'make repro   set up .venv, run the pipeline (dvc repro), print the scores'
	@echo 'make test    set up .venv with the test tools, run the tests (9 minutes); test-all: those that take longer too'
	@echo 'make undo    after a stage has failed: its outputs as of its last run; STAGE=train: of one stage only'
	@echo 'make lint    ruff, mypy, and who imports whom (import-linter)'
	@echo 'make ui      browse the recorded runs (MLflow) at http://127.0.0.1:5000'
	@echo 'make serve   Prefect (schedules, runs) at http://127.0.0.1:4200, MLflow at http://127.0.0.1:5000, until Ctrl-C'
	@echo 'make ablations   queue Table 3 of the paper as DVC experiments; PRESET=interface-strings: of another preset'
	@echo 'make gpu-bundle      .gpu/, what benchmarks/gpu.sh needs on a machine with a GPU and no network'
	@echo 'make gpu-rehearsal   benchmarks/gpu.sh on this CPU, in a Python that has no more than such a machine'
	@echo 'PYTHON=/path/to/python3.11 chooses the Python that .venv is made with.'

# $(call install,STAMP,REQUIREMENT): the stamp is written last and holds all that the installation follows from, so an
# interrupted, outdated or moved one is done again and an up-to-date one costs nothing.
define install
	@{ pwd; cat pyproject.toml constraints.txt; } | cmp -s - $(VENV)/$(1) || { set -e; \
	  $(PYTHON) -c '' 2>/dev/null || { echo 'error: $(PYTHON) does not run: install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3.11' >&2; exit 1; }; \
	  $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: $$($(PYTHON) -V 2>&1) is too old: install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3.11" >&2; exit 1; }; \
	  $(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo 'error: $(PYTHON) lacks venv or ensurepip: install them (Debian, Ubuntu: apt install python3-venv)' >&2; exit 1; }; \
	  { [ "$$(head -n 1 $(VENV)/.installed 2>/dev/null)" = "$$(pwd)" ] && $(VENV)/bin/python -m pip --version >/dev/null 2>&1; } || { echo 'Creating $(VENV)'; $(PYTHON) -m venv --clear $(VENV); }; \
	  echo 'Installing the pinned dependencies into $(VENV): some minutes, and about 2 GB with a CPU build of torch'; \
	  rm -f $(VENV)/.installed*; \
	  $(VENV)/bin/python -m pip install --quiet -c constraints.txt -e '$(2)'; \
	  for stamp in .installed $(1); do { pwd; cat pyproject.toml constraints.txt; } > $(VENV)/$$stamp.new; mv $(VENV)/$$stamp.new $(VENV)/$$stamp; done; \
	}
endef

# In a source tarball DVC has to be told that there is no git; in a checkout git has to be there.
define check_git
	@if [ -e .git ]; then git --version >/dev/null 2>&1 || { echo 'error: this is a git checkout, but git is missing: install git' >&2; exit 1; }; \
	else grep -qs no_scm .dvc/config.local || dvc config --local core.no_scm true; fi
endef

setup:
	$(call install,.installed,.)
	$(check_git)

setup-test:
	$(call install,.installed-test,.[test])
	$(check_git)

# Checks what can be checked before, then becomes `dvc --wait-for-lock repro`.
repro: setup
	@python -m flows.stages repro
	@python -m flows.restore --check
	@echo
	@python -m flows.summary
	@python -m flows.tracking.send --wait
	@echo 'Scores, plots and translations: reports/   the model: models/averaged   recorded runs: make ui'

# Nothing but outputs that differ from dvc.lock is touched.
undo: setup
	@python -m flows.restore $(STAGE)

# One thread a process: there are more processes than cores, and more threads would only wait for one another.
test: setup-test
	@OMP_NUM_THREADS=1 python -m pytest -m 'not slow and not cuda' -n auto --dist loadfile --no-loadscope-reorder

# The rehearsal for a GPU installs several GB into work/.
test-all: test
	@OMP_NUM_THREADS=1 python -m pytest -m 'slow and not cuda' -n auto --dist loadfile --no-loadscope-reorder

lint: setup-test
	@ruff check --no-cache .
	@ruff format --no-cache --check .
	@mypy
	@lint-imports --no-cache --no-logo

ui: setup
	@mlflow ui --backend-store-uri "$${MLFLOW_TRACKING_URI:-sqlite:///mlflow.db}"

# SERVE='--port 4201 --mlflow-port 5001' chooses other ports. exec: the signals of a service manager reach serve itself.
serve: setup
	@exec python -m flows.server $(SERVE)

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
