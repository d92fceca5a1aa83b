# Every target sets up .venv first if it is missing: Python 3.11+, make and a package index are all it takes.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.ready
TRAINING := .venv/.training

.PHONY: setup demo test test-all zoo-configs lint format bench real gpu docs test-lowest clean
.DEFAULT_GOAL := demo

setup: $(STAMP)

# The constraints pin every package, torch to a release whose wheel is CPU-sized where one is at hand.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	@touch $(STAMP)

# DeepSpeed's build looks for torch, so it is built in the environment that has it; none of its kernels are needed.
$(TRAINING): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[training]"
	DS_BUILD_OPS=0 $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		--no-build-isolation deepspeed
	@touch $(TRAINING)

demo: $(STAMP)
	@sh scripts/demo.sh $(BIN)

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow and not real" tests golden/conformance

# The tests with the lowest transformers, huggingface_hub, typer and rich, in an environment of its own. What a lowest
# version lacks is skipped by name.
LOWEST := .venv-lowest
$(LOWEST)/.ready: pyproject.toml constraints-lowest.txt
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints-lowest.txt \
		--editable ".[dev]"
	@touch $@

test-lowest: $(LOWEST)/.ready
	$(LOWEST)/bin/python -m pytest -q -n 2 --dist worksteal -m "not slow and not real" tests golden/conformance

test-all: $(TRAINING)
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not real" tests golden/conformance

# Real configs that people have, planned from headers; with small hot weights in test-all.
zoo-configs: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow" tests/zoo

# llama.cpp is a judge there too, where the index has a wheel of it for this Python; without one its test is skipped.
real: $(STAMP)
	-$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --only-binary cyllama \
		--editable ".[oracle]"
	$(BIN)/python -m pytest -s -m real

# On a GPU, name a Python whose torch has CUDA: make gpu GPU_PYTHON=python3. The one in .venv may be for CPUs alone.
GPU_PYTHON ?= $(BIN)/python
gpu: $(STAMP)
	PYTHONPATH=. $(GPU_PYTHON) scripts/gpu_report.py

# The site, in .cache/site/index.html.
docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

lint: $(STAMP)
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

format: $(STAMP)
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

bench: $(STAMP)
	for set in llama-1GB llama-4GB gpt2-medium gpt2-xl gpt2-huge; do $(BIN)/python scripts/bench.py --set $$set || exit; done
	$(BIN)/python scripts/bench_limits.py
	$(BIN)/python scripts/bench_model.py
	$(BIN)/python scripts/bench_layers.py
	$(BIN)/python scripts/bench_hub.py

clean:
	rm -rf .venv .venv-lowest demo bench-results .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis
