# Every target sets up .venv first if it is missing: Python 3.11+, make and a package index are all it takes.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.ready

.PHONY: setup demo test test-all lint format bench real clean
.DEFAULT_GOAL := demo

setup: $(STAMP)

# The constraints pin every package, torch to a release whose wheel is CPU-sized where one is at hand.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	@touch $(STAMP)

demo: $(STAMP)
	@sh scripts/demo.sh $(BIN)

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow and not real"

test-all: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not real"

real: $(STAMP)
	$(BIN)/python -m pytest -s -m real

lint: $(STAMP)
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

format: $(STAMP)
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

bench: $(STAMP)
	$(BIN)/python scripts/bench.py

clean:
	rm -rf .venv demo bench-results .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis
