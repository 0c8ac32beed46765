# The environment is made once, in .venv/; every target uses it.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: install demo test lab docs samples notebooks bench torture check ruff mypy pytest clean

# Whoever is told to keep no compiled code compiles all of it again in each of the several hundred processes of a test run, pandas
# and SciPy included: uv installs sources only.
unexport PYTHONDONTWRITEBYTECODE

install: .venv/installed
	@:

.venv/installed: pyproject.toml constraints.txt .ci/install
	@PYTHON='$(PYTHON)' .ci/install
	@touch $@

demo:
	@test -e .venv/installed || echo "demo: the first run installs the environment; later ones start at once"
	@$(MAKE) --no-print-directory install
	$(BIN)/python -m sim.commands.demo

# Jupyter refuses to run as root unless told: in containers and on CI there is often nobody else.
lab: install
	$(BIN)/jupyter lab $$([ "$$(id -u)" != 0 ] || echo --allow-root) notebooks

# The documentation as a site, in site/; links are checked, nothing is fetched.
docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "docs: site/index.html"

check: ruff mypy

ruff: install
	$(BIN)/ruff check .

mypy: install
	$(BIN)/mypy

# Types are checked beside the tests, which leave processors idle where they wait.
test: ruff
	@$(MAKE) --no-print-directory -j2 mypy pytest

# What the tests import is compiled by one process: several at a time would each compile all of it.
.venv/compiled: .venv/installed
	@$(BIN)/python -m pytest --collect-only -qq --nbval tests notebooks >/dev/null 2>&1 || true  # what is wrong the tests say
	@touch $@

pytest: install .venv/compiled
	$(BIN)/python -m pytest -n logical --dist loadfile --no-loadscope-reorder --nbval --nbval-current-env --nbval-cell-timeout=120 tests notebooks

samples: install
	$(BIN)/python data/samples.py

notebooks: install
	$(BIN)/python notebooks/execute.py

bench: install
	$(BIN)/python -m benchmarks

torture: install
	$(BIN)/python -m tests.torture

clean:
	rm -rf .venv site build .pytest_cache .mypy_cache .ruff_cache
