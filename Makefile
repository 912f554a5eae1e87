# The commands of this repository. `make` alone lists them.
#
# Any Python 3.11 or newer is found by itself, or named:        make test PYTHON=/path/to/python3.12
# On Linux the default index serves torch with CUDA, a download of several GB. For the small CPU build, name PyTorch's
# CPU wheel index (the address is in the install selector of pytorch.org):
#                                                               make test PIP_EXTRA_ARGS="--extra-index-url ADDRESS"
# or one exact build:                                           make test TORCH="torch==2.13.0"

PYTHON ?= $(shell for p in python3.14 python3.13 python3.12 python3.11 python3 python; do \
	if $$p -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then echo $$p; break; fi; done)
TORCH ?= torch>=2.11,<2.14
PIP_EXTRA_ARGS ?=
JOBS ?= 2

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PEERS := .peers
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help install demo test chromium test-browser bench variants soak check clean

help:  ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */  make \1\t/' | expand -t 24

install: $(READY)  ## create .venv and install gpuday with its development tools

# Installed once; again when pyproject.toml changes. torch comes first and alone, so that its build can be chosen.
$(READY): pyproject.toml
	@if [ ! -x $(BIN)/python ]; then \
		if [ -z "$(PYTHON)" ]; then \
			echo "gpuday needs Python 3.11 or newer with its venv module, and none was found on PATH."; \
			echo "Install one (on Debian: python3 and python3-venv), or name it: make install PYTHON=/path/to/python3"; \
			exit 2; \
		fi; \
		echo "creating $(VENV) with $(PYTHON)"; \
		$(PYTHON) -m venv $(VENV); \
	fi
	$(BIN)/python -m pip install --quiet $(PIP_EXTRA_ARGS) "$(TORCH)"
	$(BIN)/python -m pip install --quiet $(PIP_EXTRA_ARGS) --editable ".[dev]"
	@touch $@

demo: $(READY)  ## train an encoder for three minutes on the text this environment already holds
	$(BIN)/gpuday run --budget 3m --out runs/demo

# Two workers of one torch thread each keep two cores busy; more threads than cores make every test slower. A file stays
# with one worker, since two would both make the runs that its tests share.
test: $(READY)  ## run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile --no-loadscope-reorder

# Installed only where that needs no question: as root, with apt. Otherwise the browser's tests do not run.
chromium:
	@if ! command -v chromium >/dev/null && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		(apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium) >/dev/null 2>&1 || true; \
	fi

test-browser: $(READY) chromium  ## run the tests that open the report in Chromium
	@if [ ! -d tests/browser ]; then \
		echo "the browser tests did not run: there are none (tests/browser)"; exit 0; \
	fi; \
	if ! command -v chromium >/dev/null; then \
		echo "the browser tests did not run: there is no chromium here and it could not be installed"; exit 0; \
	fi; \
	$(BIN)/python -m pytest -q tests/browser

# accelerate is what the Hugging Face Trainer needs to start. Not in .venv: what is installed there is the text of pydocs.
bench: $(READY)  ## measure speed, memory and start-up, beside other code where there is some; QUICK=1 is short
	@[ -d $(PEERS)/accelerate ] || \
		$(BIN)/python -m pip install --quiet $(PIP_EXTRA_ARGS) --no-deps --target $(PEERS) accelerate || \
		echo "accelerate could not be installed: the comparisons with the Trainer will fail"
	PYTHONPATH=$(PEERS) $(BIN)/python benchmarks/everything.py $(if $(QUICK),--quick) $(if $(OUT),--out $(OUT))

variants: $(READY)  ## measure every part and axis beside a preset, and write docs/variants.md; two hours or so
	$(BIN)/python tools/variants.py $(if $(OUT),--out $(OUT))

soak: $(READY)  ## kills, fuzz, rot and torn saves by the thousand, an hour or more; QUICK=1 is short
	$(BIN)/python tools/soak.py $(if $(QUICK),--quick) $(if $(OUT),--out $(OUT))

check: $(READY)  ## lint, format, types, import order, tree rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/check_tree.py

clean:  ## remove caches and the environment, never runs
	rm -rf $(VENV) $(PEERS) build dist .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
