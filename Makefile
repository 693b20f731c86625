# Everything a person does with this repository. `make` alone lists it.
# Needs Python 3.11 with venv and pip, and git; the rest is installed into .venv from requirements.lock.

VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
# Every environment takes what it needs of pyproject.toml at the versions of requirements.lock.
INSTALL := $(UV) pip install --quiet --require-hashes -c requirements.lock
# `make setup PYTHON=/path/to/python3.11` names one; otherwise the first Python 3.11 on the PATH is taken.
PYTHON ?=
PYTHONS := $(or $(PYTHON),python3.11 python3 python)
IS_PYTHON_311 := import sys, venv, ensurepip; sys.exit(sys.version_info[:2] != (3, 11))
# The packages whose import is slow and that every step imports: compiled once here rather than in the first run.
COMPILED := click flask kfp minio mlflow paddle pydantic rich sqlalchemy
BROWSER ?= chromium
# Whoever is done takes over tests of another, since the longest file would bound the whole; slow tests are handed out
# one by one, but for those of a class, which share a run. More workers need some GB each. Tests start Python processes,
# which would all compile what they import where that may not be written.
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal
# More arguments for the tool behind a target: make test ARGS='-k storage -x'
ARGS ?=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test test-slow lint types browser-test images images-test manifests commands lock clean

help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "; print "usage: make TARGET [ARGS=...]\n"} \
		/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.installed ## Install everything into .venv (again only when a lock or pyproject.toml changed)

$(UV): # the one thing that pip installs; it needs no more than the lock
	@set -e; \
	if ! $(BIN)/python -c '$(IS_PYTHON_311)' 2>/dev/null; then \
		for python in $(PYTHONS); do \
			"$$python" -c '$(IS_PYTHON_311)' 2>/dev/null && break; python=; \
		done; \
		if [ -z "$$python" ]; then \
			echo "setup: needs Python 3.11 with its venv and pip modules (tried: $(PYTHONS)); name one with: make setup PYTHON=/path/to/python3.11" >&2; \
			exit 1; \
		fi; \
		echo "setup: making $(VENV) with $$("$$python" -c 'import sys; print(sys.executable)')"; \
		"$$python" -m venv --clear $(VENV); \
	fi
	@awk '/^[a-z0-9]/ {keep = /^uv==/} keep' requirements.lock | \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r /dev/stdin

$(VENV)/.installed: requirements.lock pyproject.toml | $(UV)
	@echo "setup: installing requirements.lock"
	@$(INSTALL) --exact --python $(BIN)/python -r pyproject.toml --all-extras --group dev --group paddleseg
# A plain path entry (compat) instead of setuptools' import hook: every Python start is some 10 ms faster.
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -C editable_mode=compat --editable .
	@cd "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" && \
		"$(CURDIR)/$(BIN)/python" -m compileall -q -j 0 $(COMPILED)
	@touch $@
	@echo "setup: done; the command is $(BIN)/cps"

demo: setup ## Run the whole pipeline on generated street scenes, on this machine
	$(BIN)/cps run --recipe demo --dataset scenes $(ARGS)

test: setup ## Run the tests that take seconds
	$(PYTEST) -m "not slow" $(ARGS)

test-slow: setup ## Run the slow tests: training, the whole pipeline end to end
	$(PYTEST) --dist loadscope -m slow $(ARGS)

lint: setup ## Check style and formatting (ruff), and the shell scripts where shellcheck is installed
	$(BIN)/ruff check . $(ARGS)
	$(BIN)/ruff format --check .
	@if command -v shellcheck >/dev/null; then echo shellcheck; shellcheck .ci/* scripts/*; \
	else echo "shellcheck is not installed: shell scripts not checked"; fi

types: setup ## Check types (mypy, strict)
	$(BIN)/mypy $(ARGS)

browser-test: setup ## Open our pages and MLflow's comparison of runs in headless Chromium (pictures in build/pages)
	CPS_TEST_BROWSER=$(BROWSER) $(BIN)/python -m pytest tests/browser $(ARGS)

images: setup ## Build the container images with docker or podman
	scripts/images $(ARGS)

images-test: build/ci-tools/.installed ## Lint, build and run the images here, on a stand-in base (root, podman, Debian)
	scripts/images-test $(ARGS)

manifests: build/ci-tools/.installed ## Build every overlay of manifests/ and check what comes out
	scripts/manifests-check $(ARGS)

build/ci-tools/.installed: $(VENV)/.installed
	@$(UV) venv --quiet --clear --python $(BIN)/python build/ci-tools
	@$(INSTALL) --python build/ci-tools/bin/python --group ci
	@touch $@

commands: setup ## Write COMMANDS.md from what `--help` says
	$(BIN)/python -m pipeline.cli.manual > COMMANDS.md

lock: | $(UV) ## Resolve pyproject.toml into requirements.lock again (ARGS=--upgrade takes newer versions)
	$(UV) pip compile --quiet --python-version 3.11 --generate-hashes --no-header --no-annotate \
		--all-extras --group dev --group ci --group paddleseg pyproject.toml -o requirements.lock $(ARGS)

clean: ## Remove what was built and cached; .venv and .cps (your runs and data) stay
	rm -rf build .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -not -path './.venv/*' -not -path './.cps/*' -prune -exec rm -rf {} +
	@if [ -d .cps ]; then echo "clean: kept .cps, which holds your runs and data; stop it with 'cps down' and remove it by hand"; fi
