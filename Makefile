# `make help` lists the targets. Everything runs from .venv, which `setup` makes from requirements.lock.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# The lock file is made for 3.11 and also serves later versions that the package allows.
PYTHON ?= $(shell python3.11 --version >/dev/null 2>&1 && echo python3.11 || echo python3)
PYTHON_MINIMUM ?= python3.10
WORKERS ?= 2
PYTEST_ARGS ?=
READY := .venv/.ready

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help setup demo test test-all test-minimum check format lock clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## */\1\t/' | expand -t 14

setup: $(READY)  ## make .venv from requirements.lock, with the package editable in it

# Without build isolation the package is built with the locked setuptools, so nothing unpinned is fetched.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if (3, 11) <= v < (3, 14) else \
	    f"Python {v.major}.{v.minor} found; the lock file needs 3.11 to 3.13: make setup PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet -r requirements.lock
	.venv/bin/pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

demo: $(READY)  ## train on generated shapes, evaluate, infer, print the table (about three minutes)
	.venv/bin/segmnv2 demo

# One thread a worker: two workers with two threads each would fight for two cores.
test: $(READY)  ## run the fast tests; PYTEST_ARGS="tests/data -k voc" narrows them down
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} .venv/bin/pytest -n $(WORKERS) --dist worksteal -m "not slow" $(PYTEST_ARGS)

test-all: $(READY)  ## run all tests, the slow ones included; takes PYTEST_ARGS too
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} .venv/bin/pytest -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)

# The lower bounds of pyproject.toml on the oldest Python.
test-minimum:  ## run the tests with the oldest versions allowed, on Python 3.10, in .venv-minimum
	$(PYTHON_MINIMUM) -m venv .venv-minimum
	.venv-minimum/bin/pip install --quiet -r requirements.minimum
	.venv-minimum/bin/pip install --quiet --no-deps --no-build-isolation -e .
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} .venv-minimum/bin/pytest -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)

check: $(READY)  ## lint, format, types, layers; changes nothing
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

format: $(READY)  ## fix what ruff can fix
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

# Resolved again in an empty environment, so that nothing gets in that only happened to be installed.
lock:  ## renew requirements.lock from the ranges of pyproject.toml (Python 3.11)
	rm -rf .venv-lock
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/pip install --quiet '.[dev]'
	{ sed '/^#/!d' requirements.lock; \
	  .venv-lock/bin/pip freeze --all --exclude pip --exclude segmnv2 \
	    | sed -E '/^(cuda|nvidia|triton)/ s/$$/ ; sys_platform == "linux"/'; } > requirements.lock.new
	mv requirements.lock.new requirements.lock
	rm -rf .venv-lock build

clean:  ## remove .venv and everything that tools leave behind
	rm -rf .venv .venv-lock .venv-minimum build dist *.egg-info .*_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
