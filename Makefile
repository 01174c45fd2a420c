# `make demo` and `make test` are all a newcomer needs. Both make `.venv` first, once.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DEMO := runs/demo
# Tests side by side, on one thread each: threads that wait for one another spin.
WORKERS ?= --numprocesses auto --maxprocesses 8 --dist worksteal
export OMP_NUM_THREADS ?= 1

.PHONY: demo test test-all check lint types reproduce reproduce-quick reproduce-know digits look perf soak install clean

demo: $(INSTALLED)  ## train an agent, question its memory, write a report
	$(BIN)/groundling train demo --run-dir $(DEMO)
	$(BIN)/groundling evaluate $(DEMO)
	$(BIN)/groundling probe $(DEMO) --quick
	$(BIN)/groundling report $(DEMO)

test: $(INSTALLED)  ## the fast tests
	$(BIN)/pytest -m "not slow" $(WORKERS)

test-all: $(INSTALLED)  ## every test
	$(BIN)/pytest $(WORKERS)

check: lint types test-all  ## what a change must pass

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# mypy cannot follow an editable install whose layers stand at the top level of the repository:
# it is shown a view in which they lie inside the package.
types: $(INSTALLED)
	mkdir -p .typecheck/groundling
	ln -sfn $(addprefix ../../,agents envs training evaluation) .typecheck/groundling/
	ln -sfn $(addprefix ../../,$(wildcard groundling/*.py) groundling/py.typed) .typecheck/groundling/
	cd .typecheck && ../$(BIN)/mypy --config-file ../pyproject.toml groundling

reproduce: $(INSTALLED)  ## the study behind the README's table: hours; goes on where it stopped
	$(BIN)/python -m groundling.evaluation.reproduce --minutes 12

reproduce-quick: $(INSTALLED)  ## the same with one seed
	$(BIN)/python -m groundling.evaluation.reproduce --seeds 1 --minutes 12 --directory runs/know-small-quick --output runs/know-small-quick

reproduce-know: $(INSTALLED)  ## the larger world: a night
	$(BIN)/python -m groundling.evaluation.reproduce --family know --directory runs/know --variants both-weight-1 none --seeds 1 --minutes 480 --snapshot-every 2500000 --at 2500000 5000000 10000000 20000000 40000000

digits: $(INSTALLED)  ## learned locations beside controls: three folds of digits, an hour on two cores
	$(BIN)/python -m groundling.evaluation.looking digits

look: $(INSTALLED)  ## the same in rooms
	$(BIN)/python -m groundling.evaluation.looking look

perf: $(INSTALLED)  ## side-by-side speed comparisons
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[perf]"
	$(BIN)/python tests/perf/bench_env.py
	$(BIN)/python tests/perf/bench_workers.py
	$(BIN)/python tests/perf/bench_train.py
	$(BIN)/python tests/perf/bench_prediction.py
	$(BIN)/python tests/perf/bench_growth.py
	$(BIN)/python tests/perf/bench_start.py

soak: $(INSTALLED)  ## runs whose workers are killed, and what memory does meanwhile: an hour on two cores
	$(BIN)/python tests/perf/soak_workers.py
	$(BIN)/python tests/perf/soak_memory.py

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "groundling needs Python 3.11 or newer; try make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev,eval]"
	$(BIN)/python -c "from groundling.envs.rooms.vector import compile_kernels; compile_kernels()"
	$(BIN)/python -c "from groundling.envs.digits.canvases import compile_kernels; compile_kernels()"
	touch $@

clean:  ## what can be made again; runs/ stays
	rm -rf $(VENV) .typecheck .mypy_cache .pytest_cache .ruff_cache .hypothesis build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
