# One command each way. Everything is set up in .venv/ from a bare Python >= 3.11 (PYTHON=python3.12 to choose another).
PYTHON ?= python3
PROFILE ?= published
PEERS ?= 1
VENV := .venv
BIN := $(VENV)/bin
# Set-up compiles no module, the first process that imports one keeps what it compiled: PyTorch takes 2 s each time otherwise.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup book pdf archive test bench lint format clean
.DEFAULT_GOAL := help

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/.done  ## create .venv with the pinned versions

$(VENV)/.done: pyproject.toml book/pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "mfrlib needs Python >= 3.11; choose one with PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --upgrade pip
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[lm,eeg,dev]' --editable ./book
	@touch $@

book: setup  ## execute the notebooks and build the book into _build/html (PROFILE=smoke|quick|published)
	$(BIN)/mfr book --profile $(PROFILE)

pdf: setup  ## print the book, as last built, into _build/book.pdf, and its answer into _build/summary.pdf (needs Chromium)
	$(BIN)/mfr pdf --summary
	$(BIN)/mfr pdf

archive: setup  ## compute the published book's runs that are missing into book/results; can be stopped and goes on
	$(BIN)/mfr archive

test: setup  ## run the tests on all cores; TESTS=--slow adds kills, fuzzing, processes, wheels, README commands, book and browser; TESTS=--interop other libraries
	$(BIN)/python -m pytest --numprocesses auto $(TESTS)

bench: setup  ## time training beside other libraries into book/results/performance.json (PEERS=0: ours only)
	$(BIN)/python -m tests.benchmarks --peers $(PEERS)

lint: setup  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup  ## let ruff rewrite the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove what was built and the local run store (keeps .venv)
	rm -rf _build book/executed runs .runs .snakemake .pytest_cache .mypy_cache .ruff_cache
