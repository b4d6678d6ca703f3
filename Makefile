# Everything sets itself up: `make demo` and `make test` need Python 3.11 or newer with venv, and make.
SHELL := /bin/sh
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
VENV := .venv
DEV := .venv-dev
PEERS := .venv-peers
BENCH_ROUNDS ?= 5

.PHONY: help setup demo test test-live contracts contracts-live torture check format bench scoreboard lock clean need-python

help:
	@echo "make demo       continue the pretraining of a real 135M model (some minutes, 98 MB fetched once)"
	@echo "make test       all tests that need no large model, then every claim of contracts/ that is not live"
	@echo "make contracts  what of contracts/ is borne out by recorded runs, and why it is not more"
	@echo "make test-live  the long tests on Qwen2.5-Coder-0.5B (491 MB fetched once)"
	@echo "make check      format, lint, types, import floors, generated docs, contracts"
	@echo "make torture    runs killed at random moments and resumed, a hundred of them"
	@echo "make bench      figures beside transformers, into bench/results/"
	@echo "make scoreboard the faults of a checkpoint folder before other loaders too, into docs/scoreboard.md"
	@echo "make clean      remove what these made here (downloads stay in the cache)"

need-python:
	@test -n "$(PYTHON)" || { echo "make: Python 3.11 or newer is missing; apt-get install python3 python3-venv" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "make: $(PYTHON) is older than 3.11; name another with make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "make: the venv module is missing; apt-get install python3-venv" >&2; exit 2; }

$(VENV)/.done: requirements/run.lock pyproject.toml | need-python
	@echo "setting up $(VENV) (once; torch is large)"
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements/run.lock
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(DEV)/.done: requirements/dev.lock pyproject.toml | need-python
	@echo "setting up $(DEV) (once; torch is large)"
	@$(PYTHON) -m venv $(DEV)
	@$(DEV)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements/dev.lock
	@$(DEV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

setup: $(VENV)/.done

demo: $(VENV)/.done
	@$(VENV)/bin/apr demo -o demo

# The claims of contracts/ take some eight minutes the first time, and later only what was touched since; what is marked
# as one is left to pv.
test: $(DEV)/.done
	@OMP_NUM_THREADS=1 $(DEV)/bin/python -m pytest -m "not live and not claim" -n 2 --dist loadfile --durations=10
	@OMP_NUM_THREADS=1 $(DEV)/bin/python -m pv falsify contracts --stale -j 2
	@OMP_NUM_THREADS=1 $(DEV)/bin/python -m pv prove contracts --stale -j 2
	@$(DEV)/bin/python -m pv status contracts

test-live: $(DEV)/.done
	@$(DEV)/bin/python -m pytest -m live -s --durations=0

contracts: $(DEV)/.done
	@$(DEV)/bin/python -m pv status contracts

# What is claimed of real checkpoints, one after the other: some hours, 491 MB fetched once; the evidence is kept in git.
contracts-live: $(DEV)/.done
	@$(DEV)/bin/python -m pv falsify contracts --live --only '*-LIVE' --only FALSIFY-APR-PRETRAIN-INIT-006 --minutes 120 \
	  --have model:qwen2.5-coder-0.5b-instruct --have model:smollm2-135m-instruct

check: $(DEV)/.done
	@$(DEV)/bin/ruff format --check .
	@$(DEV)/bin/ruff check .
	@$(DEV)/bin/mypy
	@$(DEV)/bin/lint-imports --no-cache
	@$(DEV)/bin/python docs/generate.py --check
	@$(DEV)/bin/python -m pv validate contracts
	@$(DEV)/bin/python -m pv lint contracts

format: $(DEV)/.done
	@$(DEV)/bin/ruff format .
	@$(DEV)/bin/ruff check --fix .
	@$(DEV)/bin/python docs/generate.py

# Runs that are killed at random moments and resumed: a hundred of a tiny model, five of SmolLM2.
torture: $(DEV)/.done
	@OMP_NUM_THREADS=1 $(DEV)/bin/python -m bench.torture --runs 100
	@OMP_NUM_THREADS=1 $(DEV)/bin/python -m bench.torture --runs 5 --real --num-steps 6

bench: $(DEV)/.done
	@$(DEV)/bin/python -m bench --rounds $(BENCH_ROUNDS)

$(PEERS)/.done: requirements/peers.txt | need-python
	@echo "setting up $(PEERS) (once; torch is large)"
	@$(PYTHON) -m venv $(PEERS)
	@$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check $$(grep '^torch==' requirements/peers.txt)
	@$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements/peers.txt
	@touch $@

scoreboard: $(DEV)/.done $(PEERS)/.done
	@$(DEV)/bin/python -m bench.scoreboard --peers $(PEERS)

lock: | need-python
	@sh requirements/lock.sh $(PYTHON)

clean:
	rm -rf $(VENV) $(DEV) $(PEERS) demo .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache build dist src/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
