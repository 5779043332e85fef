# One word per chore. `make` alone lists them. Each makes .venv itself, from the locked requirements in configs/locks.

STARTED := $(shell date +%s)
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || echo python3)
PY := .venv/bin/python
PORT ?= 3000
PROCESSES ?= 2  # of the tests
export PYTHONUTF8 := 1
export ORT_DISABLE_TELEMETRY := 1
export MLFLOW_DISABLE_TELEMETRY := true
export BENTOML_DO_NOT_TRACK := true
export RAY_USAGE_STATS_ENABLED := 0

# Keep what marks an installed set of packages: make would otherwise delete it as an intermediate file.
.PRECIOUS: .venv/.%

.PHONY: help demo train release console preflight test test-postgresql test-all check bench docs docs-reference lock clean clean-environment
.DEFAULT_GOAL := help

WEB := serving/console/web
CONSOLE := serving/console/dist/index.html
MODELS := credit_limit credit_limit_taiwan scitech_risk pathology  # each named PRODUCT or PRODUCT_...
PRODUCTS := credit_limit scitech_risk pathology

help:                            ## list what can be done
	@sed -nE 's/^([a-z][a-z-]*):.*## (.*)/  make \1|\2/p' Makefile | while IFS='|' read -r chore text; do printf '%-25s %s\n' "$$chore" "$$text"; done
	@echo
	@echo "PYTHON=/path/to/python3.12 chooses the Python (3.11 to 3.13), PORT=4000 the demo's port."

demo: .venv/.demo $(CONSOLE)     ## serve the released models, ask each example, retrain one live (ONCE=1: then stop)
	@YUHENG_DEMO_STARTED=$(STARTED) $(PY) -m serving demo --port $(PORT) $(if $(ONCE),--once)

train: $(MODELS:%=train-%)       ## train all four models anew, judge and sign them; the gate decides which serve
train-%: .venv/.dev              # with torch, which pathology trains with
	$(PY) -m training $(foreach product,$(PRODUCTS),$(if $(filter $(product)%,$*),$(product))) --config configs/$*.toml

release: .venv/.dev              ## sign the champions with the release key and put them into models/released
	$(PY) -m training release credit_limit scitech_risk pathology
	$(PY) -m training credit_limit --config configs/released/credit_limit_taiwan.toml --var var/first
	$(PY) -m training release credit_limit_taiwan --var var/first

console: $(CONSOLE)              ## build the pages for people from serving/console/web

$(CONSOLE): $(shell find $(WEB) -type f -not -path '*/node_modules/*') | .venv/.demo
	@echo "Building the console ..."
	@cd $(WEB) && PATH="$(CURDIR)/.venv/bin:$$PATH" && npm ci --silent && npm run --silent build -- --logLevel warn
	@touch $@

preflight:                       ## check platform, Python, disk, port and environment; downloads nothing
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not on the PATH. Python 3.11, 3.12 or 3.13 is needed."; exit 1; }
	@$(PYTHON) -I serving/cli/preflight.py --target $(TARGET) --port $(PORT)
TARGET ?= $(firstword $(filter demo train,$(MAKECMDGOALS)) $(if $(filter-out preflight console,$(MAKECMDGOALS)),test,demo))

test: .venv/.dev $(CONSOLE)      ## what CI runs
	$(PY) -m pytest -m "not slow" -n $(PROCESSES) --dist loadfile

test-postgresql: .venv/.dev $(CONSOLE)  ## what uses a store, with each store on a PostgreSQL that the tests start
	YUHENG_TEST_STORE=postgresql $(PY) -m pytest -m "not slow" tests/serving tests/faults

test-all: .venv/.dev $(CONSOLE)  ## with the long ones, and on both stores
	YUHENG_FUZZ_RUNS=$${YUHENG_FUZZ_RUNS:-10000} $(PY) -m pytest
	$(MAKE) test-postgresql

check: .venv/.dev $(CONSOLE)     ## ruff, mypy, tsc
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	cd $(WEB) && PATH="$(CURDIR)/.venv/bin:$$PATH" npm run --silent check

bench: .venv/.dev $(CONSOLE)     ## each headline figure, as a ratio measured side by side
	$(PY) -m benchmarks

docs: .venv/.dev                 ## build the documentation into var/site, in English and Chinese
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --quiet
	@echo "var/site/index.html; to search it: $(PY) -m mkdocs serve"

docs-reference: .venv/.dev       ## write docs/reference and docs/benchmarks.md anew from the code and stored results
	$(PY) -m docs.generate

lock: .venv/.dev                 ## write configs/locks anew from pyproject.toml
	$(PY) -m pip install -q --require-hashes -r configs/locks/uv.txt
	$(LOCK) --all-extras -o configs/locks/dev.txt
	$(LOCK) --extra serving --extra slides --extra training --extra console -c configs/locks/dev.txt -o configs/locks/demo.txt
	$(LOCK) --extra serving --extra training -c configs/locks/dev.txt -o configs/locks/training.txt
	$(LOCK) --extra serving -c configs/locks/dev.txt -o configs/locks/serving.txt
LOCK := $(PY) -m uv pip compile -q pyproject.toml --universal --python-version 3.11 --generate-hashes --no-header --no-annotate

clean: clean-environment         ## forget the environment and everything trained or recorded
	rm -rf var $(WEB)/node_modules $(dir $(CONSOLE))

clean-environment:               ## remove .venv, so that the next chore makes it anew
	rm -rf .venv

.venv/bin/python: | preflight
	@$(PYTHON) -m venv .venv

# With uv: from the PATH, else installed beside the packages. With pip where uv cannot be had or fails. uv does not read
# pip's settings, so an index that pip is set to use is handed on.
.venv/.%: configs/locks/%.txt | .venv/bin/python
	@echo "Installing configs/locks/$*.txt into .venv ..."
	@uv=$$(command -v uv) || { $(PIP) -r configs/locks/uv.txt && uv=.venv/bin/uv; } || uv=false; \
	  index=$${UV_DEFAULT_INDEX:-$${PIP_INDEX_URL:-$$($(PY) -m pip config get global.index-url 2>/dev/null || true)}}; \
	  [ -z "$$index" ] || export UV_DEFAULT_INDEX="$$index"; \
	  $$uv pip install -q --python $(PY) --no-deps --require-hashes -r $< || { \
	    echo "uv did not succeed. Installing with pip, which takes a few minutes ..."; $(PIP) --no-deps -r $<; }
	@touch $(if $(filter dev,$*),.venv/.demo .venv/.training .venv/.serving) $@
PIP := $(PY) -m pip install -q --disable-pip-version-check --require-hashes
