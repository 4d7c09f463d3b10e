# The verbs of the project. `make` alone lists them.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.DEFAULT_GOAL := help

help:  ## list the verbs
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' Makefile

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	touch $@

$(VENV)/.developer: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	touch $@

demo: $(VENV)/.installed  ## install, and scan a sample model whose statistics were lost
	$(BIN)/normcheck scan --exit-zero sample_models/statistics-lost.pt

setup: $(VENV)/.developer  ## install with everything that developers use

test: $(VENV)/.developer  ## install, and run the tests
	$(BIN)/python -m pytest -n 2

fuzz: $(VENV)/.developer  ## fuzz the readers: a million executions, RUNS=N for another number
	$(BIN)/python -m tests.fuzz --runs $(or $(RUNS),1000000)

agreement: $(VENV)/.developer  ## hold what is read against torch.load, on 10,000 generated files
	NORMCHECK_EXAMPLES=5000 $(BIN)/python -m pytest -q -n 2 tests/formats/test_agreement_with_torch.py

lint: $(VENV)/.developer  ## style, and types with mypy strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.developer  ## write what is generated: rule pages, README parts, sample table
	$(BIN)/python docs/generate.py

drift: $(VENV)/.developer  ## fail where what is generated is out of date
	$(BIN)/python docs/generate.py --check

site: $(VENV)/.developer  ## build the documentation as a site in build/site
	$(BIN)/mkdocs build --strict --quiet --site-dir build/site

samples: $(VENV)/.developer  ## train and write sample_models/ again, from its seed
	$(BIN)/python -m sample_models.build

without-torch:  ## scan the sample models in an environment that has no torch
	rm -rf $(VENV)-without-torch
	$(PYTHON) -m venv $(VENV)-without-torch
	$(VENV)-without-torch/bin/python -m pip install --quiet -c constraints.txt numpy rich typer junitparser
	$(VENV)-without-torch/bin/python -m pip install --quiet --no-deps .
	$(VENV)-without-torch/bin/python -c "import importlib.util as u; assert u.find_spec('torch') is None"
	$(VENV)-without-torch/bin/normcheck scan --exit-zero --quiet sample_models > /dev/null

bench: $(VENV)/.developer  ## measure start-up, large, remote and many files, statistics
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/foreign_stats.py
	$(BIN)/python benchmarks/recalibrate.py
	$(BIN)/python benchmarks/small.py
	$(BIN)/python benchmarks/large.py --growth
	$(BIN)/python benchmarks/remote.py
	$(BIN)/python benchmarks/foreign_large.py
	$(BIN)/python benchmarks/onnx_large.py
	$(BIN)/python benchmarks/many.py

clean:  ## remove what the verbs above made
	rm -rf $(VENV) $(VENV)-without-torch build *.egg-info .mypy_cache .ruff_cache .pytest_cache

.PHONY: help demo setup test fuzz agreement lint docs drift site samples without-torch bench clean
