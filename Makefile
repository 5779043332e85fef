# One word per chore. Each makes .venv itself, from the locked requirements in configs/locks.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
PY := .venv/bin/python
export ORT_DISABLE_TELEMETRY := 1
export MLFLOW_DISABLE_TELEMETRY := true
export BENTOML_DO_NOT_TRACK := true
export RAY_USAGE_STATS_ENABLED := 0

# Else make takes the stamps and the trained models for intermediate files and removes them.
.PRECIOUS: .venv/.% var/bundles/%/champion

.PHONY: demo console test test-postgresql test-all check bench lock clean

WEB := serving/console/web
CONSOLE := serving/console/dist/index.html
PRODUCTS := credit_limit scitech_risk pathology
MODELS := credit_limit credit_limit_taiwan scitech_risk pathology  # each named PRODUCT or PRODUCT_...

demo: $(MODELS:%=var/bundles/%/champion) $(CONSOLE)  ## train the models once, serve them, ask them (ONCE=1: stop after the answers)
	$(PY) -m serving demo $(if $(ONCE),--once)

console: $(CONSOLE)              ## build the pages for people from serving/console/web

$(CONSOLE): $(shell find $(WEB) -type f -not -path '*/node_modules/*') | .venv/.dev
	@echo "Building the console ..."
	cd $(WEB) && PATH="$(CURDIR)/.venv/bin:$$PATH" && npm ci --silent && npm run --silent build
	@touch $@

var/bundles/%/champion: | .venv/.dev  # with torch, which pathology trains with
	$(PY) -m training $(foreach product,$(PRODUCTS),$(if $(filter $(product)%,$*),$(product))) --config configs/$*.toml

test: .venv/.dev $(CONSOLE)      ## what CI runs
	$(PY) -m pytest -m "not slow"

test-postgresql: .venv/.dev $(CONSOLE)  ## what uses a store, with each store on a PostgreSQL that the tests start
	YUHENG_TEST_STORE=postgresql $(PY) -m pytest -m "not slow" tests/serving tests/faults

test-all: .venv/.dev $(CONSOLE)  ## with the long ones, and on both stores
	$(PY) -m pytest
	$(MAKE) test-postgresql

check: .venv/.dev $(CONSOLE)     ## ruff, mypy, tsc
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	cd $(WEB) && PATH="$(CURDIR)/.venv/bin:$$PATH" npm run --silent check

bench: .venv/.dev $(CONSOLE)     ## each headline figure, as a ratio measured side by side
	$(PY) -m benchmarks

lock: .venv/.dev                 ## write configs/locks anew from pyproject.toml
	$(PY) -m pip install -q uv
	$(PY) -m uv pip compile -q pyproject.toml --all-extras $(LOCK) -o configs/locks/dev.txt
	$(PY) -m uv pip compile -q pyproject.toml --extra serving --extra training -c configs/locks/dev.txt $(LOCK) -o configs/locks/training.txt
	$(PY) -m uv pip compile -q pyproject.toml --extra serving -c configs/locks/dev.txt $(LOCK) -o configs/locks/serving.txt
LOCK := --python-version 3.11 --generate-hashes --no-header --no-annotate

clean:                           ## forget the environment and everything trained or recorded
	rm -rf .venv var $(WEB)/node_modules $(dir $(CONSOLE))

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.%: configs/locks/%.txt .venv/bin/python
	@echo "Installing configs/locks/$*.txt into .venv (a few minutes, once) ..."
	$(PY) -m pip install -q --disable-pip-version-check --no-deps --require-hashes -r $<
	@touch $@
