# Two commands on a fresh machine with Python 3.11+, git and make: `make quickstart` and `make test`.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: help quickstart test lint clean

help:
	@echo "make quickstart   set up .venv, then simulate, train, reconstruct and score a small data set"
	@echo "make test         set up .venv, then run the test suite"
	@echo "make lint         set up .venv, then ruff and mypy"
	@echo "make clean        remove .venv and everything built"

# torch first, by its exact version: a range would let pip choose a newer release, with another build than the one it
# is set up for.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[test,lint]"
	touch $@

quickstart: .venv/installed
	$(BIN)/python scripts/quickstart.py

# One process a core, at most four, with one thread each. Tests of a file share what is dear to set up.
test: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache
