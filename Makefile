# One word per chore. Each makes .venv itself, from the locked requirements in configs/locks.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
PY := .venv/bin/python
export ORT_DISABLE_TELEMETRY := 1
export MLFLOW_DISABLE_TELEMETRY := true
export BENTOML_DO_NOT_TRACK := true
export RAY_USAGE_STATS_ENABLED := 0

# Else make takes the stamps and the trained models for intermediate files and removes them.
.PRECIOUS: .venv/.% var/bundles/%/champion

.PHONY: demo test test-postgresql test-all check bench lock clean

PRODUCTS := credit_limit scitech_risk pathology
MODELS := credit_limit credit_limit_taiwan scitech_risk pathology  # each named PRODUCT or PRODUCT_...

demo: $(MODELS:%=var/bundles/%/champion)  ## train the models once, serve them, ask them (ONCE=1: stop after the answers)
	$(PY) -m serving demo $(if $(ONCE),--once)

var/bundles/%/champion: | .venv/.dev  # with torch, which pathology trains with
	$(PY) -m training $(foreach product,$(PRODUCTS),$(if $(filter $(product)%,$*),$(product))) --config configs/$*.toml

test: .venv/.dev                 ## what CI runs
	$(PY) -m pytest -m "not slow"

test-postgresql: .venv/.dev      ## what uses a store, with each store on a PostgreSQL that the tests start
	YUHENG_TEST_STORE=postgresql $(PY) -m pytest -m "not slow" tests/serving tests/faults

test-all: .venv/.dev             ## with the long ones, and on both stores
	$(PY) -m pytest
	$(MAKE) test-postgresql

check: .venv/.dev                ## ruff, mypy
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

bench: .venv/.dev                ## each headline figure, as a ratio measured side by side
	$(PY) -m benchmarks

lock: .venv/.dev                 ## write configs/locks anew from pyproject.toml
	$(PY) -m pip install -q uv
	$(PY) -m uv pip compile -q pyproject.toml --all-extras $(LOCK) -o configs/locks/dev.txt
	$(PY) -m uv pip compile -q pyproject.toml --extra serving --extra training -c configs/locks/dev.txt $(LOCK) -o configs/locks/training.txt
	$(PY) -m uv pip compile -q pyproject.toml --extra serving -c configs/locks/dev.txt $(LOCK) -o configs/locks/serving.txt
LOCK := --python-version 3.11 --generate-hashes --no-header --no-annotate

clean:                           ## forget the environment and everything trained or recorded
	rm -rf .venv var

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.%: configs/locks/%.txt .venv/bin/python
	@echo "Installing configs/locks/$*.txt into .venv (a few minutes, once) ..."
	$(PY) -m pip install -q --disable-pip-version-check --no-deps --require-hashes -r $<
	@touch $@
