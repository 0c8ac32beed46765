# The environment is made once, in .venv/; every target uses it.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: install demo test lab samples notebooks bench torture check clean

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python >= 3.11 is needed (make PYTHON=python3.11)"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,fast,cluster,databases]'
	@touch $@

demo: install
	$(BIN)/python -m sim.commands.demo

lab: install
	$(BIN)/jupyter lab notebooks

check: install
	$(BIN)/ruff check .
	$(BIN)/mypy

test: install check
	$(BIN)/python -m pytest
	$(BIN)/python -m pytest --nbval --nbval-current-env --nbval-cell-timeout=120 notebooks

samples: install
	$(BIN)/python data/samples.py

notebooks: install
	$(BIN)/python notebooks/execute.py

bench: install
	$(BIN)/python -m benchmarks

torture: install
	$(BIN)/python -m pytest -m 'slow or torture' --timeout=1800

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache
