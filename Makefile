# `make demo` and `make test` need nothing but Python 3.10 or newer: they do their own set-up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test lab train export clean

help: ## this list
	@echo "ttp_nb: test-time personalization of human pose. Targets:"
	@grep -E '^[a-z]+:.*##' Makefile | sed -e 's/:.*## /	/' | awk -F'	' '{ printf "  make %-8s %s\n", $$1, $$2 }'
	@echo "Set PYTHON=... to choose the interpreter, ARGS='...' to add options to demo and train."

# glibc otherwise gives memory back and asks for it again at every step: a tenth of the demo's time.
demo: export MALLOC_MMAP_THRESHOLD_ = 1073741824
demo: export MALLOC_TRIM_THRESHOLD_ = 4294967296
demo: $(STAMP) ## before, online and offline on sixty drawn people; writes output/demo
	$(BIN)/ttp demo --out output/demo $(ARGS)

test: ## everything CI checks, in a fresh environment of its own
	PYTHON="$(PYTHON)" bash .ci/run

lab: $(STAMP) ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab nbs/index.ipynb

train: $(STAMP) ## optional: train the small joint model again (the trained one is in models/)
	$(BIN)/ttp train joint $(ARGS)

export: $(STAMP) ## notebooks -> ttp_nb/*.py, then clean the notebooks
	$(BIN)/nbdev_export
	$(BIN)/nbdev_clean

clean: ## remove the environment, caches and builds; output/ and data/ stay
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis _proc _docs
	find . -name __pycache__ -prune -exec rm -rf {} +
	find . -name .ipynb_checkpoints -prune -exec rm -rf {} +

# Made anew whenever what is to be installed changes.
$(STAMP): settings.ini setup.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "ttp_nb needs Python 3.10 or newer; '$(PYTHON)' is: `$(PYTHON) --version 2>&1`." >&2; \
	  echo "Name another one, for example: make $(MAKECMDGOALS) PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV): a few minutes the first time."
	$(BIN)/python -m pip install -qq --disable-pip-version-check -e ".[dev]" -c constraints.txt
	@touch $(STAMP)
