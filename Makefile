# One command for each task. `make help` lists them.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Hundreds of processes begin in tests; none should compile what another has compiled.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

$(VENV)/.installed: requirements/dev.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) is missing; install Python 3.11 or newer" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: Python 3.11 or newer is needed; set PYTHON=" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

setup: $(VENV)/.installed ## the virtual environment with everything pinned

run: setup ## the daemon on the embedded practice estate, with its status page
	$(BIN)/tocsin sandbox

COMPILE = $(BIN)/python -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	--no-emit-index-url --no-emit-find-links

lock: setup ## pin every dependency with its hashes, naming no registry
	$(COMPILE) --all-extras --group dev pyproject.toml -o requirements/dev.txt
	$(COMPILE) -c requirements/dev.txt pyproject.toml -o requirements/runtime.txt
	echo hatchling | $(COMPILE) -c requirements/dev.txt - -o requirements/build.txt

docs: setup ## write docs/reference from the code, docs/coverage, docs/drills.md and docs/faults.md from the drills
	$(BIN)/python docs/generate.py
	$(BIN)/python docs/coverage.py
	$(BIN)/python docs/drills.py
	$(BIN)/python docs/faults.py

dashboards: setup ## write the dashboards, and the chart's copies of them and of the rules
	$(BIN)/python -m dashboards.generate
	$(BIN)/python helm/sync.py

pictures: setup ## draw the dashboards for the documentation out of real data; needs prometheus and chromium, takes six minutes
	$(BIN)/python -m docs.pictures

format: setup ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: setup ## ruff, mypy strict, import-linter
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

test-fast: setup ## lint and unit tests, no servers, under a minute
	@$(MAKE) --no-print-directory --jobs=2 lint unit

unit: setup
	$(BIN)/pytest tests/unit tests/contract -m "not long and not estate and not thorough" -n 2

estate: setup ## install and cache the real servers that tests use
	$(BIN)/python -m estate.install all

test: lint estate ## everything, on real servers too
	$(BIN)/pytest -m "not long" -n 3 --dist loadfile --no-loadscope-reorder

test-long: lint estate ## soaks and ten thousands of examples
	$(BIN)/pytest -m long

clean: ## remove what was built in the checkout
	rm -rf $(VENV) .mypy_cache .ruff_cache .run dist

.PHONY: help setup run lock docs dashboards pictures format lint unit test-fast estate test test-long clean
