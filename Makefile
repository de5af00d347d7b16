# Everything runs in .venv, which each target makes when there is none.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.installed
# More options of mmref demo: make demo ARGS="--data my_pictures"
ARGS ?=

.PHONY: help demo test check bench docs
.DEFAULT_GOAL := help

help:  ## show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## /  make \1\t/'

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "mmref needs Python 3.11 or newer: make PYTHON=python3.11 ..." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(READY)  ## learn, compare, index and search on drawn figures, in about three minutes
	$(BIN)/mmref demo $(ARGS)

test: $(READY)  ## all tests and doctests, on two cores
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2

check: $(READY)  ## ruff, formatting, mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)  ## the quick forms of the benchmarks, written to build/bench
	@mkdir -p build/bench
	$(BIN)/python benchmarks/imports.py --out build/bench/imports.json
	$(BIN)/python benchmarks/ranks.py --size 4000 --out build/bench/ranks.json
	$(BIN)/python benchmarks/search.py --images 10000 --queries 200 --out build/bench/search.json
	$(BIN)/python benchmarks/evaluation.py --size 4000 --out build/bench/evaluation.json
	$(BIN)/python benchmarks/clip_text.py --quick --out build/bench/clip_text.json
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/kill.py --kills 2 --out build/bench/kill.json

docs: $(READY)  ## check that what README and docs name exists: files, links, commands, options
	$(BIN)/python -m pytest -q tests/test_docs.py
