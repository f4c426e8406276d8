# make demo: the whole pipeline on MovieLens-100K. make test, make check: what CI runs. make clean keeps runs/ and cache/.
PYTHON ?= python3
GR2 := .venv/bin/gr2
STAMP := .venv/installed

.PHONY: demo test check clean

demo: $(STAMP)
	$(GR2) run configs/nano.toml

test: $(STAMP)
	.venv/bin/pytest

check: $(STAMP)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --progress-bar off -c constraints.txt -e '.[dev]'
	touch $(STAMP)

clean:
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find gr2 tests -name __pycache__ -prune -exec rm -rf {} +
