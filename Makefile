# `make help` lists the targets. The environment lives in .venv and is made with venv and pip, nothing else.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := outputs/demo
ENGINE ?= docker
TARGET ?= cpu
CORE := $(addprefix tests/,attribution interventions pipeline/test_resume.py search store test_golden.py)
# The theme tells of its successor with each build.
MKDOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs
BENCHMARKS := search_speed baselines scaling memory quadrature precision profile

BUILD_ARGS := BASE_IMAGE PIP_INDEX_URL PIP_EXTRA_INDEX_URL

PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input -c constraints.txt
PINS := pyproject.toml constraints.txt

# Stamps say what .venv holds, so that a second `make` has nothing to install.
MADE := $(VENV)/.made
RUNTIME := $(VENV)/.installed-runtime
DEV := $(VENV)/.installed-dev

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
# Modules are compiled once, also where the shell would not keep them: tests start processes.
unexport PYTHONDONTWRITEBYTECODE
.PHONY: help demo test test-core test-browser test-docs stress lint bench docs docs-build dist wheel image clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

demo: $(RUNTIME) ## find the paths of the embedded model's test images, with a report, in outputs/demo
	@rm -rf $(DEMO)
	$(BIN)/neuron-path run hydra.run.dir=$(DEMO)

test: $(DEV) ## run all tests but the slow ones, two at a time
	$(BIN)/python -m pytest -n 2 --dist worksteal

test-core: $(DEV) ## run what says in a minute whether the method still works
	$(BIN)/python -m pytest -n 2 --dist worksteal -m core $(CORE)

test-browser: $(DEV) ## open reports in Chromium and use them; installs it with apt-get where that may be done
	@if ! $(BIN)/python -c 'from tests.browser.chromium import find_chromium; find_chromium()' 2>/dev/null && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then apt-get update --quiet=2 && apt-get install --yes --quiet=2 --no-install-recommends chromium; fi
	$(BIN)/python -m pytest -m browser tests/browser

test-docs: $(DEV) ## build the documentation site strictly, and look at it in Chromium
	$(BIN)/python -m pytest -m docs tests/docs

stress: $(DEV) ## run the slow tests
	$(BIN)/python -m pytest -n 2 --dist worksteal -m slow

lint: $(DEV) ## check style, format, types and import layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/lint-imports

bench: $(DEV) ## measure speed, memory and accuracy of the search, and renew docs/performance.md
	@for name in $(BENCHMARKS); do echo "==> $$name"; $(BIN)/python -m benchmarks.$$name || exit 1; done
	$(BIN)/python -m benchmarks.performance

docs: $(DEV) ## serve the documentation site on this machine, and renew it when a page or a docstring changes
	$(MKDOCS) serve

docs-build: $(DEV) ## build the documentation site in build/docs: what is linked to must be there
	$(MKDOCS) build --strict

dist: $(DEV) ## build what is published, in dist, and check it
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*

wheel: ## try what is published: install it in a new environment of PYTHON, with CONSTRAINTS, and run the demo
	.ci/wheel $(PYTHON) $(CONSTRAINTS)

image: ## build the container image: TARGET=cpu or cuda, ENGINE=docker or another
	$(ENGINE) build --target $(TARGET) --tag neuron-path:$(TARGET) $(foreach name,$(BUILD_ARGS),$(if $($(name)),--build-arg $(name)=$($(name)))) .

clean: ## remove the environment and everything that tools have left, but not outputs
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find benchmarks experiments neuron_path tests -type d -name __pycache__ -prune -exec rm -rf {} +

$(MADE):
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, and $(PYTHON) is %d.%d: name another one, as in make PYTHON=python3.11" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(RUNTIME): $(PINS) | $(MADE)
	@echo "Installing NeuronPath into $(VENV): a minute or two, the first time."
	@$(PIP_INSTALL) -e .
	@touch $@

$(DEV): $(PINS) | $(MADE)
	@echo "Installing NeuronPath with its development tools into $(VENV): a minute or two, the first time."
	@$(PIP_INSTALL) -e '.[dev,docs]'
	@touch $(RUNTIME) $@
