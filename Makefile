# Needs only make and Python 3.11 or newer. `make help` lists the targets.

PYTHON ?= python3
SHELL := /bin/sh
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input

# The stamp is away while pip works, so the next make starts an interrupted .venv afresh. It holds the checkout's
# path: scripts in a .venv name it, so a moved checkout gets a new one, and so does a .venv that lost its Python.
STAMP := .venv/.installed
DEV_STAMP := .venv/.installed-dev
DOCS_STAMP := .venv/.installed-docs
STAMPED := $(shell $(BIN)/python -c '' 2>/dev/null && cat $(STAMP) 2>/dev/null)
ifneq ($(STAMPED),$(CURDIR))
$(shell rm -f $(STAMP) $(DEV_STAMP) $(DOCS_STAMP))
endif

# tests of a file share victims, so they stay in one process; the order of the files is that of their names
TWO_PROCESSES := -n 2 --dist loadscope --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help quickstart install test test-fast fuzz lint format docs wheel clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' Makefile
	@echo "Choose another Python with, for example: make quickstart PYTHON=python3.12"

quickstart: $(STAMP)  ## install into .venv, then heal a poisoned model of handwritten digits
	$(BIN)/theriac quickstart

install: $(STAMP)  ## install into .venv only

test: lint  ## install into .venv with the developers' tools, then lint, check types and test
	$(BIN)/python -m pytest $(TWO_PROCESSES)

test-fast: $(DEV_STAMP)  ## the tests that need neither Ray nor a training: a few minutes
	$(BIN)/python -m pytest $(TWO_PROCESSES) -m 'not slow'

fuzz: $(DEV_STAMP)  ## try thousands of odd inputs; each must end in the right answer or in one line
	$(BIN)/python -m theriac.tests.fuzz

lint: $(DEV_STAMP) .mypy_path/theriac  ## ruff and mypy only
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

format: $(DEV_STAMP)  ## let ruff correct what it can
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

docs: $(DOCS_STAMP) .mypy_path/theriac  ## build the pages and the API reference into site/; a warning is an error
	rm -rf site
	PYTHONPATH=.mypy_path $(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going -c docs/site . site
	@echo "built: site/index.html"

wheel: $(DEV_STAMP)  ## build the wheel into dist/, for the nodes of a cluster
	rm -rf build dist
	$(BIN)/python -m build --wheel

clean:  ## remove .venv, caches and build leftovers, never results
	rm -rf .venv .mypy_path .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist site theriac.egg-info
	find . -type d -name __pycache__ -prune -exec rm -rf {} +

comma := ,

define pip_install
@rm -f $(STAMP) $(DEV_STAMP) $(DOCS_STAMP)
$(PIP) install -e '$(1)'
@printf '%s\n' '$(CURDIR)' > $(STAMP)
endef

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "theriac needs Python 3.11 or newer, but '$(PYTHON)' is: $$($(PYTHON) --version 2>&1)." >&2; \
	  echo "Name another one, for example: make $(or $(MAKECMDGOALS),quickstart) PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { \
	  echo "'$(PYTHON)' cannot make virtual environments: install its venv package (on Debian: python3-venv)." >&2; \
	  exit 1; }
	@test -e $@ || { \
	  echo "Making .venv; PyTorch with its GPU libraries is several GB, so this takes minutes."; \
	  $(PYTHON) -m venv --clear .venv; }
	$(call pip_install,.)

$(DEV_STAMP): $(STAMP)
	$(call pip_install,.[dev])
	@touch $@

$(DOCS_STAMP): $(STAMP)
	$(call pip_install,.[dev$(comma)docs])
	@touch $(DEV_STAMP) $@

.mypy_path/theriac:
	@mkdir -p .mypy_path
	@ln -sfn .. $@
