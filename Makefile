# Everything a newcomer needs: `make demo` and `make test` set themselves up.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

.PHONY: demo test test-browser test-endpoints test-tl39 check bench bench-gpu clean setup

demo: setup
	$(BIN)/autointerp run --demo --out runs/demo

test: setup
	$(BIN)/python -m pytest --ignore=tests/browser --ignore=tests/endpoints -n auto --maxprocesses 4 --dist loadfile

# Needs a Chromium on the path (Debian: apt-get install chromium), or one named in AUTOINTERP_CHROMIUM.
test-browser: setup
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[browser]'
	$(BIN)/python -m pytest tests/browser

# Real servers: llama.cpp, transformers serve, a litellm proxy; builds them first, from the package index alone.
test-endpoints: setup
	PYTHON=$(PYTHON) .ci/test-endpoints

# The subject's tests on the oldest transformer_lens, with sae-lens beside it, in an environment of their own.
test-tl39:
	PYTHON=$(PYTHON) .ci/test-tl39

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

bench: setup
	for file in tests/bench/bench_*.py; do PYTHONPATH=. $(BIN)/python $$file || exit 1; done

# All that only a card can show, half an hour: what is harvested there against the CPU, short memory, kills, speed.
DEVICE ?= cuda
bench-gpu: setup
	PYTHONPATH=. $(BIN)/python tests/bench/gpu.py --device $(DEVICE)

setup: $(READY)

# torch first and as the constraints say, else its dependents pull another build of it.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "autointerp needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[all,dev]'
	touch $(READY)

clean:
	rm -rf $(VENV) runs .mypy_cache .ruff_cache .pytest_cache .hypothesis
