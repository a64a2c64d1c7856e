# The commands of this project; `make` alone lists them. Everything is installed into .venv, nothing elsewhere, but
# `make test` adds Debian's chromium, nginx-light, haproxy and prometheus where it runs as root and finds none.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help run cluster test bench soak week check fmt docs site dist clean browser contestants

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-7s  %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/.local ## serve notebooks on http://127.0.0.1:8000; ARGS="--idle-ttl 30m" passes flags
	@exec $(BIN)/notebook-proxy serve $(ARGS)

cluster: $(VENV)/.local ## the same on a Kubernetes cluster of this machine's own, which needs none; for development
	@command -v openssl >/dev/null || { echo "openssl is missing: apt-get install openssl (Debian, Ubuntu)" >&2; exit 1; }
	@exec $(BIN)/python -m tests.cluster --tls -- $(BIN)/python -m proxy serve --backend kubernetes \
	    --kubeconfig {kubeconfig} --workspace-pvc-size 1Gi $(ARGS)

test: $(VENV)/.test browser ## run all tests, in a browser too; ARGS="-k name" passes arguments to pytest
	@exec $(BIN)/python -m pytest $(ARGS)

bench: $(VENV)/.test contestants ## measure beside nginx and others, for 20 minutes; ARGS="--case get-32" a part of it
	@exec $(BIN)/python -m tests.bench $(ARGS)

soak: $(VENV)/.test ## ten minutes of mixed load, then 9,000 idle websockets; ARGS="--minutes 60 --seed 7"
	@exec $(BIN)/python -m tests.soak $(ARGS)

week: $(VENV)/.test ## simulate a week of 200 workspaces: what is saved, and that nobody's work is lost; two minutes
	@exec $(BIN)/python -m tests.bench.week $(ARGS)

check: $(VENV)/.test ## look for errors of form, types and layers, dangerous calls, secrets and vulnerabilities
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.audit

fmt: $(VENV)/.test ## format the code and mend what can be mended
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

docs: $(VENV)/.test ## write the tables of settings, activity, exit statuses and metrics into README and docs
	@$(BIN)/notebook-proxy settings > $(VENV)/settings.md
	@$(BIN)/python -c 'from proxy.activity import markdown; print(markdown(), end="")' > $(VENV)/activity.md
	@$(BIN)/python -c 'from proxy.cli.exits import table; print(table(), end="")' > $(VENV)/exits.md
	@$(BIN)/python -c 'from proxy.metrics_list import markdown; print(markdown(), end="")' > $(VENV)/metrics.md
	@for table in settings activity exits metrics; do \
	    page=README.md; [ $$table != metrics ] || page=docs/metrics.md; \
	    awk -v begin="<!-- $$table -->" -v end="<!-- /$$table -->" 'FNR == NR { table = table $$0 "\n"; next } \
	        $$0 == begin { print $$0 "\n\n" table; inside = 1 } \
	        $$0 == end { inside = 0 } \
	        !inside' $(VENV)/$$table.md $$page > $(VENV)/page.md && cat $(VENV)/page.md > $$page; \
	done

site: $(VENV)/.docs ## build the documentation into build/site, and look at it; any warning is an error
	@[ -e build/docs/package ] || { mkdir -p build/docs && command -v npm >/dev/null && cd build/docs \
	    && npm pack --silent mermaid@11 >/dev/null && tar -xzf mermaid-*.tgz && rm mermaid-*.tgz; } \
	    || echo "npm is missing, or did not get mermaid: pictures will be drawn by a script from unpkg.com" >&2
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --clean
	@$(BIN)/python -m tests.site

dist: $(VENV)/.release ## build what is released into dist/, install it where nothing else is, and list its parts
	@$(BIN)/python -m tests.release

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

$(VENV)/.docs: $(VENV)/.test
	@$(PIP) install --editable '.[docs]'
	@touch $@

$(VENV)/.release: $(VENV)/.test
	@$(PIP) install --editable '.[release]'
	@touch $@

# tests/conftest.py looks in the same places, and says what was left out if there is still none. Where systemd runs, a
# new nginx is a service: that is switched off again, since the tests start their own.
browser:
	@missing=""; \
	if [ -z "$$CHROMIUM" ] && ! command -v chromium >/dev/null && ! command -v chromium-browser >/dev/null \
	    && ! command -v google-chrome >/dev/null; then missing="chromium"; fi; \
	if ! command -v nginx >/dev/null && [ ! -x /usr/sbin/nginx ]; then missing="$$missing nginx-light"; fi; \
	if ! command -v haproxy >/dev/null && [ ! -x /usr/sbin/haproxy ]; then missing="$$missing haproxy"; fi; \
	if ! command -v promtool >/dev/null; then missing="$$missing prometheus"; fi; \
	if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "Installing Debian's" $$missing "for the tests ..."; \
	    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	      apt-get install -qq -y --no-install-recommends $$missing; } >/dev/null \
	    || echo $$missing "could not be installed" >&2; \
	    for server in nginx haproxy prometheus; do case "$$missing" in *$$server*) \
	        [ ! -d /run/systemd/system ] || systemctl --quiet disable --now $$server;; esac; done; \
	fi

# Who is measured beside this proxy, and the load: the benchmark leaves out, and names, what is still missing then.
contestants:
	@missing=""; \
	command -v wrk >/dev/null || missing="wrk"; \
	command -v nginx >/dev/null || [ -x /usr/sbin/nginx ] || missing="$$missing nginx-light"; \
	command -v npm >/dev/null || missing="$$missing nodejs npm"; \
	if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "Installing Debian's" $$missing "for the benchmark ..."; \
	    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	      apt-get install -qq -y --no-install-recommends $$missing; } >/dev/null \
	    || echo $$missing "could not be installed" >&2; \
	    case "$$missing" in *nginx-light*) \
	        [ ! -d /run/systemd/system ] || systemctl --quiet disable --now nginx;; esac; \
	fi
	@[ -x build/bench/node_modules/.bin/configurable-http-proxy ] || ! command -v npm >/dev/null || { \
	    echo "Installing configurable-http-proxy into build/bench ..."; \
	    npm install --silent --no-audit --no-fund --prefix build/bench configurable-http-proxy@5 \
	    || echo "configurable-http-proxy could not be installed" >&2; }
