# `make` lists the targets.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Test processes; each runs torch with one thread (OMP_NUM_THREADS).
JOBS ?= 2

.DEFAULT_GOAL := help
.PHONY: help install demo ui test check format test-slow catalogue-test export-table bench verify clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/.installed ## create .venv with all dependencies, tested versions (constraints.txt)

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.11 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV) || { echo "venv is missing: apt-get install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@# opencv-python links against libGL, which a machine without a screen may lack; the headless build does not
	@$(BIN)/python -c 'import cv2' 2>/dev/null || $(BIN)/python -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps \
		"opencv-python-headless==$$($(BIN)/python -m pip show opencv-python | sed -n 's/^Version: //p')"
	@touch $@

demo: install ## train and compare HMHA, ACmix and the baseline on the built-in data
	$(BIN)/python -m ablate module=hmha,acmix -m
	@echo "MLflow:   make ui    then open http://127.0.0.1:5000"

ui: install ## open the MLflow UI on 127.0.0.1
	$(BIN)/python -m ablate ui

check: install ## format, lint, types, import contract
	$(BIN)/ruff format --check src tests benchmarks simulated
	$(BIN)/ruff check src tests benchmarks simulated
	$(BIN)/mypy
	$(BIN)/lint-imports

test: check ## check, then all tests except slow ones
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m 'not slow' -n $(JOBS) --dist loadfile --durations=25

test-slow: install ## tests that take minutes
	$(BIN)/python -m pytest -m slow

catalogue-test: install ## every check on every module of the catalogue, as each of its kinds (minutes)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m 'slow or not slow' -n $(JOBS) tests/conformance/test_catalogue.py

export-table: install ## docs/export.md: export every module at four insertion points and compare (minutes)
	OMP_NUM_THREADS=1 PYTHONPATH=. $(BIN)/python tests/export/pairs.py

bench: install ## all benchmarks, one after the other; results go to benchmarks/results
	$(BIN)/python benchmarks/commands.py
	$(BIN)/python benchmarks/scheduling.py
	$(BIN)/python benchmarks/one_trial.py
	$(BIN)/python benchmarks/sweep.py
	$(BIN)/python benchmarks/latency.py
	$(BIN)/python benchmarks/bootstrap.py
	$(BIN)/python benchmarks/report.py
	$(BIN)/python benchmarks/cost.py
	$(BIN)/python benchmarks/losses.py
	$(BIN)/python benchmarks/coverage.py
	$(BIN)/python benchmarks/modules.py --table --sweep --largest
	$(BIN)/python benchmarks/training.py

verify: install ## every module against golden values, and the conformance suite
	$(BIN)/python -m ablate verify --golden tests/golden

format: install ## format and fix with ruff
	$(BIN)/ruff format src tests benchmarks simulated
	$(BIN)/ruff check --fix src tests benchmarks simulated

clean: ## remove .venv and caches; results in multirun/ stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache build dist
