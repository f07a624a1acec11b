# One word per job; CI runs the same words. Every job does its own set-up.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready

.PHONY: setup demo check test test-all soak bench docs clean
.DEFAULT_GOAL := test

setup: $(STAMP)

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/pip install --quiet --editable ".[all]" --group test --group lint --group docs
	touch $(STAMP)

demo: setup
	$(BIN)/chatkit demo

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --site-dir $(VENV)/site

test: setup
	scripts/browser
	$(BIN)/pytest

test-all:
	scripts/test-all

soak: setup
	$(BIN)/python -m tests.soak

bench: setup
	$(BIN)/python -m benchmarks

docs: setup
	$(BIN)/mkdocs serve

clean:
	rm -rf $(VENV) dist site build .mypy_cache .ruff_cache .pytest_cache
