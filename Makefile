# Every target sets up what it needs in .venv, from nothing. demo and examples install only what they use.
PYTHON ?= python3
ARGS ?=
COVERAGE_FLOOR ?= 0
BIN := .venv/bin
COVERAGE := --cov=gliclass_rerank --cov=integrations --cov-report=term --cov-fail-under=$(COVERAGE_FLOOR)

.PHONY: help demo examples test test-installs check fix docs pages clean
.SECONDARY:

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 16

demo: .venv/demo.installed  ## search Python's language reference, before and after reranking
	$(BIN)/python -m examples.search_python_docs

examples: .venv/examples.installed  ## one retrieval chain per framework, a filtered context window, and questions to a folder
	$(BIN)/python -m examples.langchain_rag
	$(BIN)/python -m examples.llama_index_rag
	$(BIN)/python -m examples.haystack_rag
	$(BIN)/python -m examples.context_window
	$(BIN)/python -m examples.ask_folder docs "How do I choose a threshold?"

test: .venv/dev.installed  ## all tests; make test ARGS="tests/test_context.py -k budget" runs some
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal $(if $(ARGS),$(ARGS),$(COVERAGE))

test-installs: .venv/dev.installed  ## the wheel in clean environments: with no framework, with each alone, beside others
	$(BIN)/python tests/clean_installs.py

check: .venv/dev.installed  ## lint and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fix: .venv/dev.installed  ## format, and fix what can be fixed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: .venv/docs.installed  ## build the documentation site in site/; any warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

pages: .venv/dev.installed  ## write new figures and outputs into README and docs, after a new model or new results
	$(BIN)/python -m benchmarks.tables
	$(BIN)/python -m tests.pages

.venv/%.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable . --group $*
	touch $@

clean:  ## remove what the targets made
	rm -rf .venv site .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage
