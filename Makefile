SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
# uv is the machine's own, else the one that tests/bootstrap.sh fetched.
export PATH := $(PATH):$(CURDIR)/build/uv/bin
export PYTHONPATH := $(CURDIR)/tests
PYTHON := $(CURDIR)/.venv/bin/python
BIN := $(CURDIR)/.venv/bin

.PHONY: help
help: ## Show this text.
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: venv
venv: ## Make .venv from uv.lock; a no-op when it is.
	@tests/bootstrap.sh

.PHONY: setup
setup: venv ## Fetch and build all that the cluster and the tests need.
	@$(PYTHON) -m cluster setup

# Told before minutes of set-up, not after them.
.PHONY: ground
ground:
	@if [ "$$(uname -s)" != Linux ] || [ "$$(id -u)" != 0 ]; then \
	  echo "error: a cluster of our own needs Linux and root: use sudo, or set KUBECONFIG for make demo" >&2; \
	  exit 1; \
	fi

.PHONY: up
up: ground venv ## Bring up a real Kubernetes and an object store on this machine.
	@$(PYTHON) -m cluster up

.PHONY: down
down: ## Take the cluster down and leave nothing behind.
	@if [ -x $(PYTHON) ]; then $(PYTHON) -m cluster down; else python3 -m cluster down; fi

.PHONY: demo
demo: $(if $(KUBECONFIG),,ground) venv ## Run the whole pipeline on a real cluster, with real data; RLHF=1 adds RLHF.
	@RLHF=$(RLHF) $(PYTHON) -m demo

.PHONY: lint
lint: venv ## Style, types, import contracts, the generated CRDs and pages.
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy operator images/stage tests
	$(BIN)/lint-imports
	$(PYTHON) -m palimpsest.api.crd build/crds && diff -r build/crds crds
	$(PYTHON) -m palimpsest.api.reference build/api.md && diff build/api.md docs/api.md
	$(PYTHON) -m palimpsest.telemetry.reference build/metrics.md && diff build/metrics.md docs/metrics.md
	$(PYTHON) -m chart.values_page build/values.md && diff build/values.md docs/values.md
	$(PYTHON) -m argocd.configmap build/argocd-cm.yaml && diff build/argocd-cm.yaml argocd/argocd-cm.yaml

.PHONY: crds
crds: venv ## Generate crds/, the chart's copy, argocd/argocd-cm.yaml, and docs' api.md, metrics.md and values.md.
	$(PYTHON) -m palimpsest.api.crd crds
	$(PYTHON) -m palimpsest.api.crd charts/palimpsest/files/crds
	$(PYTHON) -m palimpsest.api.reference docs/api.md
	$(PYTHON) -m palimpsest.telemetry.reference docs/metrics.md
	$(PYTHON) -m chart.values_page docs/values.md
	$(PYTHON) -m argocd.configmap argocd/argocd-cm.yaml

.PHONY: docs
docs: venv ## Build the documentation site into build/site: pages that need no network.
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "build/site/index.html; for the search serve it: python3 -m http.server -d build/site"

.PHONY: test
test: venv ## All tests that need no node: units, the ledger's store, the chart, the API server.
	$(BIN)/pytest -n 2 --dist loadfile -m "not full and not e2e"

# What the ledger promises, against a store of another maker too.
LEDGER := tests/integration/ledger
ON_MINIO := $(BIN)/pytest --object-store=minio

.PHONY: e2e
e2e: ground venv ## The pipeline with a tiny model on a real node, and a few faults.
	$(BIN)/pytest tests/e2e -m "not full"
	$(BIN)/pytest -n 2 -m "e2e and not full" tests/integration/reconcile
	$(ON_MINIO) -m "not full" $(addprefix $(LEDGER)/,test_journal_in_s3.py test_requests.py test_writers.py)

.PHONY: e2e-full
e2e-full: e2e ## Every test that is too long for CI, and the ledger's on two makers' stores.
	$(BIN)/pytest tests/e2e -m full
	$(BIN)/pytest -n 2 -m full tests --ignore tests/e2e
	$(BIN)/pytest -m "not full" $(LEDGER)
	$(ON_MINIO) $(LEDGER)

# Some alone with NAMES="fit scale"; only a run of all renews the page.
.PHONY: bench
bench: $(if $(NAMES),,ground) venv ## Benchmarks against their baselines: build/bench/results.json, docs/benchmarks.md.
	$(PYTHON) -m bench $(NAMES)

.PHONY: audit-table
audit-table: venv ## Audit the right training loop and broken ones: the table of docs/audit.md.
	$(PYTHON) -m bench.audit_table

.PHONY: utility
utility: venv ## Train at several epsilons, for hours without a GPU: the likelihoods of docs/benchmarks.md.
	$(PYTHON) -m bench.utility $(if $(AT_ONCE),--at-once $(AT_ONCE))

.PHONY: resampling
resampling: venv ## Resample a known mixture over clusters and records: the table of docs/benchmarks.md.
	$(PYTHON) -m bench.resampling

.PHONY: fidelity
fidelity: venv ## Compare sampled and selected texts with private ones: the table of docs/benchmarks.md.
	$(PYTHON) -m bench.fidelity

.PHONY: bench-utility
bench-utility: venv ## Align a model on real, synthetic and public instructions, for hours: docs/benchmarks.md.
	$(PYTHON) -m bench.relations $(if $(AT_ONCE),--at-once $(AT_ONCE))

.PHONY: gpu
gpu: venv ## On a machine with a CUDA device: tests of what runs there, and its benchmarks.
	$(BIN)/pytest tests/gpu
	$(PYTHON) -m bench.gpu

.PHONY: release
release: venv ## Images, chart, plugin, SBOMs and digests in build/release; BASE=name@sha256:... or local.
	@$(PYTHON) -m release $(if $(BASE),--base "$(BASE)") $(if $(PLATFORMS),--platforms "$(PLATFORMS)") \
	  $(if $(PARTS),--parts "$(PARTS)") $(if $(URL),--url "$(URL)")

.PHONY: clean
clean: ## Remove what was built here, the caches outside excepted; the cluster must be down.
	rm -rf build .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
