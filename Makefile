# make quickstart   installs and runs the reward-component study, to reports/reward_components/
# make smoke        the same path with tiny numbers, to reports/smoke/
# make test         the test suite
# make gpu          checks and measures this machine's CUDA GPU in at most eight minutes, to outputs/gpu/ (docs/gpu.md)
# make chaos        the smoke study on a real Slurm under 50 random faults; another draw: make chaos SEED=2
# make check        format, lint, types
# make format       repairs format and lint where that is possible
# Another interpreter: make PYTHON=python3.12 test

PYTHON ?= python3
SEED ?= 1
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: quickstart smoke test gpu chaos check format
.DELETE_ON_ERROR:

quickstart: $(VENV)/installed
	$(RUN) -m harness.sweep ablations=reward_components -m

smoke: $(VENV)/installed
	$(RUN) -m harness.sweep ablations=reward_components preset=smoke -m

test: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false \
	  $(RUN) -m pytest --numprocesses auto --dist worksteal

gpu: $(VENV)/installed
	$(RUN) -m harness.bench gpu

chaos: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false \
	  $(RUN) -m tests.slurm.chaos --seed $(SEED)

check: $(VENV)/installed-dev
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m mypy

format: $(VENV)/installed-dev
	$(RUN) -m ruff format .
	$(RUN) -m ruff check --fix .

$(RUN):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed, and '$(PYTHON)' is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# Installed again when pyproject.toml changes; the code itself is used where it lies.
$(VENV)/installed: pyproject.toml | $(RUN)
	$(RUN) -m pip install --disable-pip-version-check --quiet --editable .
	@touch $@

$(VENV)/installed-dev: pyproject.toml | $(RUN)
	$(RUN) -m pip install --disable-pip-version-check --quiet --editable '.[dev]'
	@touch $(VENV)/installed $@
