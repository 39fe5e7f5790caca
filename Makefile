# `make demo` and `make test` need nothing but Python 3.10 or newer: they do their own set-up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ARGS ?=
TORCH ?=
TORCH_INDEX ?= https://download.pytorch.org/whl

# PyPI's PyTorch for Linux brings CUDA. Of two builds of one version pip takes the one with a name (2.14.1+cpu).
ifneq ($(TORCH),)
export PIP_EXTRA_INDEX_URL := $(strip $(PIP_EXTRA_INDEX_URL) $(TORCH_INDEX)/$(TORCH))
endif

.DEFAULT_GOAL := help
.PHONY: help demo test lab site train export clean

help: ## this list
	@echo "ttp_nb: test-time personalization of human pose. Targets:"
	@grep -E '^[a-z]+:.*##' Makefile | sed -e 's/:.*## /	/' | awk -F'	' '{ printf "  make %-8s %s\n", $$1, $$2 }'
	@echo "Set PYTHON=... to choose the interpreter, ARGS='...' to add options to demo, lab and train."
	@echo "TORCH=cpu installs PyTorch without CUDA on Linux: under 2 GB instead of 6."

demo: $(STAMP) ## before, online and offline on sixty drawn people; writes output/demo
	$(BIN)/ttp demo --out output/demo $(ARGS)

test: ## everything CI checks, in a fresh environment of its own
	PYTHON="$(PYTHON)" bash .ci/run

# The configuration in nbs/ keeps a page that was only looked at as it was. Root is let in with a word, not refused.
lab: export JUPYTER_CONFIG_PATH := $(CURDIR)/nbs:$(JUPYTER_CONFIG_PATH)
lab: $(STAMP) ## open the notebooks in JupyterLab, with data/ and output/ beside them
	@root=; if [ "`id -u`" = 0 ]; then root=--allow-root; \
	  echo "Warning: JupyterLab runs as root here, and what it runs may do anything on this machine." >&2; fi; \
	exec $(BIN)/jupyter lab --ServerApp.root_dir="$(CURDIR)" --LabApp.default_url=/lab/tree/nbs/index.ipynb $$root $(ARGS)

site: $(STAMP) ## all pages as a static site with search, in _docs/html/index.html
	$(BIN)/python -m pip install -q --disable-pip-version-check -e ".[site]" -c constraints.txt
	$(BIN)/sphinx-build -q nbs _docs/html
	@echo "Open _docs/html/index.html"

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
	@echo "1 of 3: an environment in $(VENV), with `$(PYTHON) --version`"
	@$(PYTHON) -m venv $(VENV)
	@echo "2 of 3: some 130 packages, the first time for a few minutes"
	@echo "        PyTorch: $(if $(TORCH),$(TORCH) from $(TORCH_INDEX)/$(TORCH),as PyPI has it, on Linux with CUDA (without: TORCH=cpu))"
	$(BIN)/python -m pip install --disable-pip-version-check -e ".[dev]" -c constraints.txt
	@echo "3 of 3: trying it"
	@$(BIN)/python -c 'import torch, torchvision as tv; print("torch", torch.__version__, "torchvision", tv.__version__)'
	@touch $(STAMP)
