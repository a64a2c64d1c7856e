# The commands of this project; `make` alone lists them. Everything is installed into .venv, nothing elsewhere, but
# `make test` adds Debian's chromium where it runs as root and finds no browser.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help run test check fmt docs clean browser

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-6s  %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/.local ## serve notebooks on http://127.0.0.1:8000; ARGS="--idle-ttl 30m" passes flags
	@exec $(BIN)/notebook-proxy serve $(ARGS)

test: $(VENV)/.test browser ## run all tests, in a browser too; ARGS="-k name" passes arguments to pytest
	@exec $(BIN)/python -m pytest $(ARGS)

check: $(VENV)/.test ## look for errors of form, of types and of layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fmt: $(VENV)/.test ## format the code and mend what can be mended
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

docs: $(VENV)/.test ## write the table of settings into the README
	@$(BIN)/notebook-proxy settings > $(VENV)/settings.md
	@awk 'FNR == NR { table = table $$0 "\n"; next } \
	    /^<!-- settings -->$$/ { print $$0 "\n\n" table; inside = 1 } \
	    /^<!-- \/settings -->$$/ { inside = 0 } \
	    !inside' $(VENV)/settings.md README.md > $(VENV)/README.md
	@cat $(VENV)/README.md > README.md

clean: ## remove what these targets have made; the files in workspaces/ stay
	rm -rf $(VENV) build dist test-output .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps tell which extras are installed; a newer pyproject.toml makes them stale. `test` includes `local`.
$(VENV)/.made:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is missing: install Python 3.11 or newer \
	(Debian: apt-get install python3 python3-venv), or name one with make PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) does not run, or is older \
	than Python 3.11: install a newer one, and name it with make PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) has no venv module: \
	apt-get install python3-venv (Debian, Ubuntu), or name another Python with make PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.local: $(VENV)/.made pyproject.toml
	@echo "Installing notebook-proxy and JupyterLab into $(VENV) (once; it takes a minute or two) ..."
	@$(PIP) install --editable '.[local]'
	@touch $@

$(VENV)/.test: $(VENV)/.made pyproject.toml
	@echo "Installing notebook-proxy, JupyterLab and the test tools into $(VENV) (once; it takes a minute or two) ..."
	@$(PIP) install --editable '.[test]'
	@touch $(VENV)/.local $@

# tests/conftest.py looks in the same places, and says what was left out if there is still none.
browser:
	@if [ -z "$$CHROMIUM" ] && ! command -v chromium >/dev/null && ! command -v chromium-browser >/dev/null \
	    && ! command -v google-chrome >/dev/null && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "Installing Debian's chromium for the browser tests ..."; \
	    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	      apt-get install -qq -y --no-install-recommends chromium; } >/dev/null \
	    || echo "chromium could not be installed" >&2; \
	fi
