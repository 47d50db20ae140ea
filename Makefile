# What a newcomer and the checks run. Needs Python 3.11 or newer with pip, make,
# and a package registry that pip can reach; everything lands in .venv.
#
#   make demo    set up, then show a model answered by a ring of three nodes
#   make test    set up, then run the tests

# The first of these that is new enough; name another: make demo PYTHON=...
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$python && break; done)
VENV := .venv
BIN := $(VENV)/bin
# Extra words for the command of a target: make test ARGS="tests/ring -x"
ARGS ?=
# Processes that run tests beside each other; with 0, --pdb works: docs/adr/0014.
WORKERS ?= 2

# Pins hold for the package's build as well; the pinned pip, installed first,
# knows how to pass them on.
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check \
	-c constraints.txt
PINNED_BUILD := --build-constraint constraints.txt
# An engine process may write nothing, so it would compile what it imports each time.
COMPILE := $(BIN)/python -m compileall -q src
# Compiled tests are kept even where the environment says not to.
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-long lint docs check bench bench-peers bench-vidur soak clean

help:
	@echo "make demo    set up, then show a model answered by a ring of three nodes"
	@echo "make test    set up, then run the tests"
	@echo "make test-long  the tests that 'make test' leaves out, as they take long"
	@echo "make lint    formatting, lint, types and the direction of imports"
	@echo "make docs    build the documentation into docs/_build/html"
	@echo "make check   lint, docs and test"
	@echo "make bench   measure the ring against the whole model (many minutes)"
	@echo "make bench-peers  compile llama.cpp with RPC, which 'bench distance' compares (13 minutes of a core)"
	@echo "make bench-vidur  install Vidur, which 'bench simulate' compares (2 minutes)"
	@echo "make soak    many more simulated runs, made bytes, made requests and deaths than the tests try (hours);"
	@echo "             one part alone: make soak ARGS='--inputs 0 --cases 0', and so on"
	@echo "make clean   remove the environment and everything built"

# Set-up: an environment, then the package in it, once for running (.run) and
# once with the tools (.dev). They are redone when what they are made from changes.
$(BIN)/python:
	@if [ -z "$(PYTHON)" ]; then \
		echo "Atoll needs Python 3.11 or newer, and none of python3, python3.13, python3.12" >&2; \
		echo "and python3.11 is. Install one, or name it: make demo PYTHON=/path/to/python" >&2; \
		exit 1; \
	fi
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Atoll needs Python 3.11 or newer; $(PYTHON) is older, or not there." >&2; \
		exit 1; \
	}
	@echo "Setting up $(VENV) with $$("$(PYTHON)" --version) ..."
	@"$(PYTHON)" -m venv $(VENV) || { \
		rm -rf $(VENV); \
		echo "Could not make an environment; on Debian and Ubuntu: apt install python3-venv" >&2; \
		exit 1; \
	}

$(VENV)/.pip: constraints.txt | $(BIN)/python
	@$(INSTALL) pip
	@touch $@

$(VENV)/.run: pyproject.toml constraints.txt $(VENV)/.pip
	@echo "Installing what Atoll runs on (a download of about 65 MB) ..."
	@$(INSTALL) $(PINNED_BUILD) -e .
	@$(COMPILE)
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt $(VENV)/.pip
	@echo "Installing what Atoll runs on and is checked with (a download of about 145 MB) ..."
	@$(INSTALL) $(PINNED_BUILD) -e '.[dev]'
	@touch $(VENV)/.run $@

setup: $(VENV)/.dev

demo: $(VENV)/.run
	@$(BIN)/atoll demo $(ARGS)

test: $(VENV)/.dev
	@$(COMPILE)
	@$(PYTEST) --numprocesses $(WORKERS) --dist worksteal $(ARGS)

test-long: $(VENV)/.dev
	@$(COMPILE)
	@$(PYTEST) -m long --numprocesses $(WORKERS) --dist worksteal $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.dev
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

check: lint docs test

bench: $(VENV)/.run
	@$(BIN)/python -m bench local --json $(ARGS)

bench-peers: $(VENV)/.run
	@$(BIN)/python -m bench.build_peers

bench-vidur: $(VENV)/.run
	@$(BIN)/python -m bench.build_vidur

soak: $(VENV)/.dev
	@$(BIN)/python -m bench.soak $(ARGS)

clean:
	rm -rf $(VENV) docs/_build build dist
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
