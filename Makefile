PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Arithmetic threads of helper libraries; the workers' own are cluster.threads.
export OMP_NUM_THREADS ?= 1

.PHONY: help setup train test test-fast chaos validators lint bench lock clean

help:  ## Show the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

setup: $(STAMP)  ## Make .venv with the exact pins

$(STAMP): pyproject.toml requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0 setuptools==84.2.1
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(STAMP)

train: $(STAMP)  ## Train the default model on generated stories; ARGS="train.steps=50" changes values
	$(BIN)/python train.py $(ARGS)

# Two files at a time: tests on Ray mostly wait. Tests of one file share clusters and runs.
test: $(STAMP)  ## Run all tests, those on real Ray clusters included
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder $(ARGS)

test-fast: $(STAMP)  ## Run the tests that need no cluster
	$(BIN)/python -m pytest -m "not cluster" $(ARGS)

chaos: $(STAMP)  ## Kill workers in N runs on schedules of random seeds (N=300), or as in one (SEED=7)
	$(BIN)/python tests/train/chaos/chaos.py $(if $(SEED),--seed $(SEED)) $(or $(N),$(if $(SEED),1,50))

validators:  ## Make .venv-validators: what the tests of released descriptions check them with
	$(PYTHON) -m venv .venv-validators
	.venv-validators/bin/python -m pip install --quiet --disable-pip-version-check -r tests/validators.txt

lint: $(STAMP)  ## Check format, style and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(STAMP)  ## Run the benchmarks and print their tables
	@for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

lock: $(STAMP)  ## Pin everything anew after a change of pyproject.toml
	$(PYTHON) -m venv build/lock
	build/lock/bin/pip install --quiet pip-tools==7.6.2
	build/lock/bin/pip-compile --quiet --extra train --extra dvc --extra release --extra bench --extra dev \
		--generate-hashes --no-header --strip-extras \
		--no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
		--unsafe-package torch --unsafe-package setuptools --output-file requirements.lock pyproject.toml
	sed -i '/^# WARNING/,$$d' requirements.lock

clean:  ## Remove what can be made again; runs stay
	rm -rf $(VENV) .venv-validators build .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
