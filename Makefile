# The words of this project: make setup, demo, test, lint, soak, clean.
.PHONY: setup demo test lint soak format reference clean
.DEFAULT_GOAL := help
CVM := .venv/bin/cvm

help:
	@echo "make setup   prepare .venv and what the other targets need"
	@echo "make demo    run the main job: publish, start instances, run jobs, report"
	@echo "make test    run all tests (a tenth or less of every long count)"
	@echo "make soak    run the long fault, kill and mutation counts in full"
	@echo "make lint    ruff, mypy --strict, import order, spelling"
	@echo "make clean   remove what demo and setup made"

setup:
	@scripts/setup

demo: setup
	@$(CVM) demo

test: setup
	@.venv/bin/pytest

soak: setup
	@CVM_SOAK=1 .venv/bin/pytest -m "soak" --timeout 3000

lint: setup
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports
	@.venv/bin/codespell

format: setup
	@.venv/bin/ruff check --fix .
	@.venv/bin/ruff format .

reference: setup
	@.venv/bin/python scripts/reference.py

clean:
	@if [ -x $(CVM) ]; then $(CVM) demo --clean; fi
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
