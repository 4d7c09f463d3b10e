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

test-fast: $(VENV)/.developer  ## run all but the slow tests, in less than a minute
	$(BIN)/python -m pytest -n 2 -m "not slow" --durations=5

test-kernels: $(VENV)/.developer  ## run what depends on arithmetic under the kernels of other processors
	$(BIN)/python -m tests.kernels -n 2

# The developers' environment is on the path of this one, which has only what they lack: a second
# torch is not installed, and models of Transformers do not come into the tests of architectures.
test-trainers: $(VENV)/.developer  ## run guards and trackers within the real libraries of others
	rm -rf $(VENV)-trainers
	$(BIN)/python -m venv --without-pip $(VENV)-trainers
	$(BIN)/python -c "import sysconfig as s; print('import site; site.addsitedir(%r)' % s.get_path('purelib'))" > $(VENV)-trainers/developer.pth
	mv $(VENV)-trainers/developer.pth $$($(VENV)-trainers/bin/python -c "import sysconfig as s; print(s.get_path('purelib'))")
	$(BIN)/python -m pip --python $(VENV)-trainers/bin/python install --quiet -c constraints.txt transformers accelerate mlflow-skinny wandb
	$(VENV)-trainers/bin/python -m tests.trainers

# Where no build of torch's oldest version fits the machine: make test-floors TORCH=2.13.0
test-floors:  ## run the tests with the oldest versions of everything that pyproject.toml allows
	rm -rf $(VENV)-floors
	$(PYTHON) -m venv $(VENV)-floors
	$(PYTHON) -m tests.floors $(if $(TORCH),torch=$(TORCH)) run html plot images onnx > $(VENV)-floors/requirements.txt
	$(VENV)-floors/bin/python -m pip install --quiet -r $(VENV)-floors/requirements.txt
	$(VENV)-floors/bin/python -m pip install --quiet --no-deps -e .
	$(VENV)-floors/bin/python -m pytest -n 2 -m "not slow or kernels" $(addprefix tests/,architectures cli compare config fleet formats live norms pickles repair report rules runs saved)

fuzz: $(VENV)/.developer  ## fuzz the readers: a million executions, RUNS=N for another number
	$(BIN)/python -m tests.fuzz --runs $(or $(RUNS),1000000)

agreement: $(VENV)/.developer  ## hold what is read against torch.load, on 10,000 generated files
	NORMCHECK_EXAMPLES=5000 $(BIN)/python -m pytest -q -n 2 tests/formats/test_agreement_with_torch.py

lint: $(VENV)/.developer  ## style, and types with mypy strict, as Linux, Windows and macOS see them
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --platform win32
	$(BIN)/mypy --platform darwin

docs: $(VENV)/.developer  ## write what is generated: rule pages, README parts, sample table
	$(BIN)/python docs/generate.py

docs-rules: $(VENV)/.developer  ## write only what follows from the rules, in a second
	$(BIN)/python docs/generate.py --rules

drift: $(VENV)/.developer  ## fail where what is generated is out of date
	$(BIN)/python docs/generate.py --check

site: $(VENV)/.developer  ## build the documentation as a site; a dead link fails
	$(BIN)/mkdocs build --strict --site-dir build/site

samples: $(VENV)/.developer  ## train and write sample_models/ again, from its seed
	$(BIN)/python -m sample_models.build

wheel: $(VENV)/.developer  ## install the wheel without torch in a new environment, and use it away from here
	$(BIN)/python -m release.wheel

package: $(VENV)/.developer  ## build what an index gets, into dist/
	$(BIN)/python -m release.build

tag: $(VENV)/.developer  ## tag the release, where version, changelog and git agree
	$(BIN)/python -m release.tag

bench: $(VENV)/.developer  ## measure start-up, large, remote and many files, scans with data, statistics
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/foreign_stats.py
	$(BIN)/python benchmarks/recalibrate.py
	$(BIN)/python -m benchmarks.guard
	$(BIN)/python benchmarks/small.py
	$(BIN)/python benchmarks/large.py --growth
	$(BIN)/python benchmarks/remote.py
	$(BIN)/python benchmarks/foreign_large.py
	$(BIN)/python benchmarks/onnx_large.py
	$(BIN)/python benchmarks/many.py
	$(BIN)/python benchmarks/passes.py

clean:  ## remove what the verbs above made
	rm -rf $(VENV) $(VENV)-trainers $(VENV)-floors build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache

.PHONY: help demo setup test test-fast test-kernels test-trainers test-floors fuzz agreement lint docs docs-rules drift site samples wheel package tag bench clean
