# `make run` verifies the theorems on real data and draws the phase diagram; `make test` runs the tests.
# Both make their own environment in .venv; a stamp in it says what has been installed for this pyproject.toml.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test lint types bench clean

run: .venv/stamp-run
	$(BIN)/dln verify --data diabetes
	mkdir -p build
	$(BIN)/dln figure phase-diagram --out build/phase_diagram.png --out build/phase_diagram.pdf

# One process per core, each with the files of its own; products with threads of their own would only wait for each other.
test: .venv/stamp-test
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile

lint: .venv/stamp-dev
	$(BIN)/ruff check .

types: .venv/stamp-dev
	$(BIN)/mypy

# Ratios to other solvers in the same run, into build/benchmarks.md and .json; `make bench FULL=1` for all sizes and solvers,
# BENCH="--only plain" for some tasks.  Then times of our own, to compare commits with.  Warnings of others are not ours to fix.
bench: .venv/stamp-numbalsoda
	PYTHONPATH=tests/benchmarks $(BIN)/python -m ratios $(if $(FULL),--full) $(BENCH)
	$(BIN)/python -m pytest tests/benchmarks -s --timeout 0 -W default --benchmark-json build/own_times.json

clean:
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/stamp-run: EXTRAS :=
.venv/stamp-test: EXTRAS := [test]
.venv/stamp-dev: EXTRAS := [dev]
.venv/stamp-bench: EXTRAS := [test,bench]

# It is built from source: without a Fortran compiler its rows say that it is missing.
.venv/stamp-numbalsoda: .venv/stamp-bench
	-$(BIN)/python -m pip install --quiet --disable-pip-version-check numbalsoda
	touch $@

.venv/stamp-run .venv/stamp-test .venv/stamp-dev .venv/stamp-bench: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.$(EXTRAS)'
	touch $@
