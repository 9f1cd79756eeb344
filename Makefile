# Every target sets up what it needs in .venv, from nothing.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed

.PHONY: demo examples test test-installs check fix clean

demo: $(INSTALLED)  ## search Python's language reference, before and after reranking
	$(BIN)/python -m examples.search_python_docs

examples: $(INSTALLED)  ## one retrieval chain per framework, and a context window that is filtered
	$(BIN)/python -m examples.langchain_rag
	$(BIN)/python -m examples.llama_index_rag
	$(BIN)/python -m examples.haystack_rag
	$(BIN)/python -m examples.context_window

test: $(INSTALLED)  ## all tests, the slow ones and the docstrings' examples included
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal --cov=gliclass_rerank --cov=integrations --cov-report=term --cov-fail-under=95

test-installs: $(INSTALLED)  ## the wheel in clean environments: with no framework, with each one alone, beside others
	$(BIN)/python tests/clean_installs.py

check: $(INSTALLED)  ## lint and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fix: $(INSTALLED)  ## format, and mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable . --group dev
	touch $(INSTALLED)

clean:  ## remove what the targets made
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage
