# `make` lists what there is. Everything runs from .venv, which `make setup` builds from the hashed lock file.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Tests start a thousand processes. Where Python is set not to write bytecode, each would compile app/ anew.
export PYTHONDONTWRITEBYTECODE :=

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp
PYTEST := $(BIN)/pytest -q
# Most tests wait for a server most of the time. A file's tests stay together: they share their servers. The order of
# files is that of tests/conftest.py: long ones first.
PARALLEL := -n 3 --dist loadfile --no-loadscope-reorder

.PHONY: help setup run test check fmt lint type unit integration faults fuzz soak simulate bench profile properties docs proto lock clean audit sbom tools

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## Build .venv from requirements-dev.lock; nothing to do when it is up to date

# The lock's digest decides, not its time: a fresh checkout makes every file new.
$(STAMP): requirements-dev.lock pyproject.toml scripts/setup
	@scripts/setup $(VENV) $(STAMP)

run: setup ## Start everything on this machine with a simulated fleet, and watch it; Ctrl-C stops it
	@$(BIN)/iot-stream run

tools: ## Get what checks the deployed files (kustomize, ...), grpcurl, VictoriaMetrics, once, with Go; says so when it cannot
	@scripts/deploy-tools
	@scripts/grpcurl
	@scripts/victoriametrics

test: setup ## All tests: unit, pipeline, contract, integration, faults
	@scripts/deploy-tools --quick
	@scripts/grpcurl
	@$(PYTEST) $(PARALLEL) --hypothesis-profile=full tests/test_*.py tests/unit tests/deploy tests/pipeline tests/simulation tests/contract tests/integration tests/faults

check: setup ## Lint, format, types, no secret in a file, no vulnerable package (if that can be asked); changes nothing
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python -m tools.secret_scan
	@scripts/audit --if-possible $(VENV)

audit: setup ## Known vulnerabilities of what the lock files pin; fails when the package index cannot be asked
	@scripts/audit $(VENV)

sbom: setup ## The bill of materials: build/iot-stream.cdx.json (CycloneDX)
	@$(BIN)/python -m tools.sbom build/iot-stream.cdx.json

fmt: setup ## Format, and fix what can be fixed safely
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

lint: setup ## Ruff alone
	@$(BIN)/ruff check .

type: setup ## mypy --strict alone
	@$(BIN)/mypy

unit: setup ## Tests that need no server (seconds)
	@$(PYTEST) tests/test_*.py tests/unit tests/deploy tests/pipeline tests/contract -m 'not integration and not faults'

properties: setup ## The property tests on 1,500 new random examples each: after a change of decode, rules or state
	@$(PYTEST) $(PARALLEL) --hypothesis-profile=many tests/unit tests/contract -m 'not integration and not faults'

integration: setup ## Tests against real Kafka, PostgreSQL and Mosquitto
	@$(PYTEST) tests/deploy tests/pipeline tests/contract tests/integration -m integration

faults: setup ## Kill and cut real processes while messages flow; compare the books. Again: make faults SEED=1
	@$(PYTEST) tests/faults
	@IOT_FAULTS=full $(PYTEST) tests/faults/test_kill_gateways.py tests/faults/test_gateways_away.py
	@IOT_FAULTS=full $(PYTEST) tests/faults/test_kill_sinks.py tests/faults/test_sinks_away.py tests/faults/test_sinks_rebalance.py
	@$(BIN)/python -m tools.faults$(if $(SEED), --seed $(SEED))
	@$(BIN)/python -m tools.faults --ways none --sinks all --only sink$(if $(SEED), --seed $(SEED))

fuzz: setup ## The parsers of what comes in, on a million broken inputs each; one alone: make fuzz FUZZ=influx
	@IOT_TEST_FUZZ=1000000 $(PYTEST) tests/unit tests/contract -m fuzz --timeout 0 $(if $(FUZZ),-k $(FUZZ))

soak: setup ## The same at random for hours, a new seed each round, until a promise is broken: make soak HOURS=8
	@$(BIN)/python -m tools.faults --hours $(or $(HOURS),8)

simulate: setup ## The worker on simulated servers, a random fault at any step: SECONDS= SCHEDULES= JOBS=, or SEED= for a trace
	@$(BIN)/python -m tests.simulation $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SCHEDULES),--schedules $(SCHEDULES)) \
	  $(if $(JOBS),--jobs $(JOBS)) $(if $(FIRST),--first $(FIRST)) $(if $(SEED),--seed $(SEED)) $(if $(WITHOUT),--without $(WITHOUT))

bench: setup ## Measure, four minutes; asserts no speed. One alone, at full length: make bench BENCH=latency
	@$(BIN)/python -m tools.bench$(if $(BENCH),.$(BENCH))

profile: setup ## A flame graph of the worker in the benchmark, by py-spy: build/profile.svg
	@$(BIN)/python -m tools.bench.profile build/profile.svg $(if $(ROWS),--rows $(ROWS))

docs: setup ## Make the tables of docs/ anew from the code, and the dashboards and rules of deploy/ and k8s/
	@$(BIN)/python -m tools.documents
	@$(BIN)/python -m tools.picture
	@$(BIN)/python -m tools.monitoring

proto: setup ## Make app/protobuf anew from proto/; refuses a change that breaks those who speak the published contract
	@$(BIN)/python -m tools.protobuf

lock: setup ## Resolve pyproject.toml anew into the two lock files (needs uv)
	@command -v uv >/dev/null || { echo "make lock needs uv: pip install uv" >&2; exit 1; }
	@uv pip compile pyproject.toml --extra dev --universal --generate-hashes --no-emit-index-url --python-version 3.11 -q -o requirements-dev.lock
	@uv pip compile pyproject.toml --extra tracing --extra gateways --extra sinks --extra channels --universal --generate-hashes --no-emit-index-url --python-version 3.11 -q -c requirements-dev.lock -o requirements.lock

clean: ## Remove .venv, caches and the local stack's data (stop it first: iot-stream down)
	@scripts/clean
