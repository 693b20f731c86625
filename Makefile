# Development tasks. `make` without a target lists them.
# Needs git, and Python 3.11 with venv and pip; installs everything else into .venv from requirements.lock.

VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
# Every environment installs a subset of pyproject.toml, at the versions in requirements.lock.
INSTALL := $(UV) pip install --quiet --require-hashes -c requirements.lock
# `make setup PYTHON=/path/to/python3.11` selects an interpreter; the default is the first Python 3.11 on the PATH.
PYTHON ?=
PYTHONS := $(or $(PYTHON),python3.11 python3 python)
IS_PYTHON_311 := import sys, venv, ensurepip; sys.exit(sys.version_info[:2] != (3, 11))
# Packages that every step imports and that import slowly: `make setup` compiles them, so that the first run need not.
COMPILED := click flask kfp minio mlflow paddle pydantic rich sqlalchemy
BROWSER ?= chromium
# One worker more than there are cores, because tests often wait for processes and servers; at most 4, because each needs
# some GB of memory. worksteal: idle workers take over tests of busy ones; otherwise the longest file would determine the
# total time. Slow tests are distributed one by one, except those of a class, which share a run. PYTHONDONTWRITEBYTECODE
# is cleared because the Python processes that tests start would otherwise compile their imports every time.
WORKERS := $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --numprocesses $(WORKERS) --maxprocesses 4 --dist worksteal
# Extra arguments for the tool that a target runs: make test ARGS='-k storage -x'
ARGS ?=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test test-slow lint types browser-test images images-test manifests cluster-test gpu-check docs reference \
	lock clean

help: ## List all targets
	@awk 'BEGIN {FS = ":.*## "; print "usage: make TARGET [ARGS=...]\n"} \
		/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.installed ## Install everything into .venv (skipped if requirements.lock and pyproject.toml are unchanged)

$(UV): # the only package that pip installs, at the version in requirements.lock
	@set -e; \
	if ! $(BIN)/python -c '$(IS_PYTHON_311)' 2>/dev/null; then \
		for python in $(PYTHONS); do \
			"$$python" -c '$(IS_PYTHON_311)' 2>/dev/null && break; python=; \
		done; \
		if [ -z "$$python" ]; then \
			echo "setup: found no Python 3.11 with venv and pip (tried: $(PYTHONS)); set its path with: make setup PYTHON=/path/to/python3.11" >&2; \
			exit 1; \
		fi; \
		echo "setup: creating $(VENV) with $$("$$python" -c 'import sys; print(sys.executable)')"; \
		"$$python" -m venv --clear $(VENV); \
	fi
	@awk '/^[a-z0-9]/ {keep = /^uv==/} keep' requirements.lock | \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r /dev/stdin

$(VENV)/.installed: requirements.lock pyproject.toml | $(UV)
	@echo "setup: installing requirements.lock"
	@$(INSTALL) --exact --python $(BIN)/python -r pyproject.toml --all-extras --group dev --group paddleseg
# compat: a plain path entry instead of setuptools' import hook, so Python starts about 10 ms faster.
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -C editable_mode=compat --editable .
	@cd "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" && \
		"$(CURDIR)/$(BIN)/python" -m compileall -q -j 0 $(COMPILED)
	@touch $@
	@echo "setup: done; the command is $(BIN)/cps"

demo: setup ## Run the whole pipeline on this machine, on generated street scenes
	$(BIN)/cps run --recipe demo --dataset scenes $(ARGS)

test: setup ## Run the fast tests
	$(PYTEST) -m "not slow" $(ARGS)

test-slow: setup ## Run the slow tests: training, and the whole pipeline end to end
	$(PYTEST) --dist loadscope -m slow $(ARGS)

lint: setup ## Check style and formatting with ruff, and shell scripts if shellcheck is installed
	$(BIN)/ruff check . $(ARGS)
	$(BIN)/ruff format --check .
	@if command -v shellcheck >/dev/null; then echo shellcheck; shellcheck .ci/* $(filter-out %.py %__pycache__,$(wildcard scripts/*)); \
	else echo "shellcheck is not installed, so the shell scripts were not checked"; fi

types: setup ## Check types with mypy in strict mode
	$(BIN)/mypy $(ARGS)

browser-test: setup ## Test the HTML pages and MLflow's run comparison in headless Chromium (screenshots in build/pages)
	CPS_TEST_BROWSER=$(BROWSER) $(PYTEST) --dist loadfile tests/browser $(ARGS)

images: setup ## Build the container images with docker or podman
	scripts/images $(ARGS)

images-test: build/ci-tools/.installed ## Lint, build and run the images on a stand-in base (needs root, podman and Debian)
	scripts/images-test $(ARGS)

manifests: build/ci-tools/.installed ## Build every overlay of manifests/ and check the result
	scripts/manifests-check $(ARGS)

cluster-test: build/ci-tools/.installed ## Have the cluster of KUBECONFIG check the manifests and a TrainJob (dry run)
	scripts/manifests-check --quiet
	CPS_TEST_CLUSTER="$(KUBECONFIG)" $(BIN)/python -m pytest -rs tests/cluster $(ARGS)

gpu-check: setup ## Train and score on this machine's GPU for some minutes (ARGS='--device cpu' does so on the CPU)
	$(BIN)/cps doctor --device gpu $(ARGS)

build/ci-tools/.installed: $(VENV)/.installed
	@$(UV) venv --quiet --clear --python $(BIN)/python build/ci-tools
	@$(INSTALL) --python build/ci-tools/bin/python --group ci
	@touch $@

docs: build/docs-tools/.installed ## Build the website of the documentation into build/site; a broken link is an error
	scripts/site-source build/site-source
	NO_MKDOCS_2_WARNING=1 build/docs-tools/bin/mkdocs build --strict --site-dir build/site $(ARGS)
	@echo "docs: open build/site/index.html"

build/docs-tools/.installed: $(VENV)/.installed
	@$(UV) venv --quiet --clear --python $(BIN)/python build/docs-tools
	@$(INSTALL) --python build/docs-tools/bin/python --group docs
	@touch $@

reference: setup ## Generate the pages and the picture of docs/ that are made from the code
	$(BIN)/python -m pipeline.cli.manual > docs/reference/commands.md
	$(BIN)/python -m components.recipes.manual > docs/reference/settings.md
	$(BIN)/python -m pipeline.manual > docs/reference/parameters.md
	$(BIN)/python -m tests.docs.packages_picture > docs/images/packages.svg

lock: | $(UV) ## Resolve pyproject.toml into requirements.lock (ARGS=--upgrade updates versions)
	$(UV) pip compile --quiet --python-version 3.11 --generate-hashes --no-header --no-annotate \
		--all-extras --group dev --group ci --group docs --group paddleseg pyproject.toml -o requirements.lock $(ARGS)

clean: ## Delete build results and caches, but keep .venv and .cps (your runs and data)
	rm -rf build .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -not -path './.venv/*' -not -path './.cps/*' -prune -exec rm -rf {} +
	@if [ -d .cps ]; then echo "clean: kept .cps with your runs and data; to delete it, run 'cps down' and remove the folder"; fi
