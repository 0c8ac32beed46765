# The environment is made once, in .venv/; every target uses it.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: install demo test lab docs samples notebooks bench torture check clean

install: .venv/installed

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

check: install
	$(BIN)/ruff check .
	$(BIN)/mypy

test: install check
	$(BIN)/python -m pytest -n logical --dist loadfile --nbval --nbval-current-env --nbval-cell-timeout=120 tests notebooks

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
