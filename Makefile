# Two commands do everything on a fresh machine: `make demo` and `make test`.
# PYTHON (3.11 or newer) makes the environment in VENV; WORKERS test processes run side by side.
VENV ?= .venv
PYTHON ?= python3
WORKERS ?= 2
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt
# One thread a process: tests of small tensors gain nothing from more, and two processes would fight.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest
CODE := src tests benchmarks scripts

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-slow check lint docs format clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.base  ## rankings -> aligned model -> report, on the embedded help desk
	$(BIN)/accord demo

test: $(VENV)/.dev  ## every test that takes less than minutes
	@scripts/install-system
	$(PYTEST) -n $(WORKERS) --dist loadfile

test-slow: $(VENV)/.dev  ## minutes; makes the environment of the peer that the losses are held to
	PYTHON=$(PYTHON) scripts/setup-trl-env
	$(PYTEST) -m slow

check: lint test docs  ## all a change must pass: format, lint, types, tests, docs; prints the sizes
	$(BIN)/python scripts/sizes.py
	$(BIN)/python scripts/reading_set.py

lint: $(VENV)/.dev  ## format, lint and types
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy

docs: $(VENV)/.dev  ## the documentation, into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

format: $(VENV)/.dev  ## rewrite the code in the house's format
	$(BIN)/ruff check --fix-only --quiet $(CODE)
	$(BIN)/ruff format $(CODE)

clean:  ## remove what was built, but for the environments
	rm -rf build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests benchmarks scripts -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@command -v $(PYTHON) > /dev/null || { echo "accord needs Python 3.11 or newer, and there is no '$(PYTHON)': install it, or name another with make PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "accord needs Python 3.11 or newer, and '$(PYTHON)' is $$($(PYTHON) -V): name another with make PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || { echo "'$(PYTHON)' cannot make environments: install its venv package (Debian, Ubuntu: apt-get install python3-venv)"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.base: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e .
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e '.[dev]'
	touch $(VENV)/.base $@
