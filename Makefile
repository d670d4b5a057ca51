# Everything from a fresh machine: each target makes its own virtual environment first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test unit journey lint install clean

install: $(INSTALLED)

# The last step lets numba compile what is used of librosa into the environment: else the first command that measures
# pitch, or the first tests, do it while they are waited for (17 s; 2 cores, shared, 2026-11-24).
# resemblyzer and openai-whisper declare packages that need a compiler or that nothing here uses: their own files are
# installed without them (docs/dependencies.md says why).
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[synth,vad,cluster,bfloat16,dev]"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-deps resemblyzer openai-whisper
	$(BIN)/python -c "from cosytune.audio.librosa_once import load_librosa; load_librosa()"
	touch $@

demo: $(INSTALLED)
	$(BIN)/cosytune demo --output demo

test: lint unit journey

# Compiled modules are kept whatever the shell says: without them each worker compiles source and tests anew.
unit: $(INSTALLED)
	OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest tests/unit --numprocesses 2 --dist loadfile --no-loadscope-reorder

journey: $(INSTALLED)
	$(BIN)/python -m pytest tests/journey

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) demo
