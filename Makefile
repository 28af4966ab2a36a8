# Each target sets up what it needs. PYTHON chooses the interpreter of a new environment.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help demo test matrix lint types bench backends clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "%-9s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(READY)  ## make calls of every kind and show what was seen: make demo DEMO="--serve", DEMO="--page"
	@$(BIN)/python examples/demo.py $(DEMO)

test: $(READY) backends  ## run the whole suite, then what needs other clients or packages
	@$(BIN)/pytest
	@$(BIN)/python -m tests.matrix

matrix: $(READY)  ## run only what needs other clients or packages: make matrix MATRIX="openlit"
	@$(BIN)/python -m tests.matrix $(MATRIX)

lint: $(READY)  ## check style, format and layers
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports

types: $(READY)  ## check the types, with mypy and pyright
	@$(BIN)/mypy
	@$(BIN)/pyright --pythonpath $(BIN)/python

bench: $(READY)  ## measure the overhead: make bench BENCH="--quick"
	@$(BIN)/python -m benchmarks $(BENCH)

backends: $(READY)  ## build the real servers for the tests, once; without Go there are none, and those tests say so
	@$(BIN)/python tests/backends/build.py || [ $$? -eq 3 ]

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.12 ...")'
	@echo "setting up $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade pip
	@$(BIN)/python -m pip install --quiet --editable '.[all]' --group dev
	@touch $(READY)

clean:  ## remove the environment
	rm -rf $(VENV)
