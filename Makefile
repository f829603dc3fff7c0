# fastkd: two commands. `make demo` shows what it does, `make test` proves that it works here.
# Needs Python >= 3.11, make and a C++20 compiler; everything else goes into .venv, pinned.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
CONSTRAINTS := .ci/constraints.txt
NATIVE_SOURCES := CMakeLists.txt $(shell find csrc -name '*.cpp' -o -name '*.hpp')

# The oldest triton that is supported: the kernels must compile with it too.
OLDER_TRITON := 3.6.0
OLDER_TRITON_AT := build/triton-$(OLDER_TRITON)

.PHONY: help demo test lint older-triton slow setup clean

help:
	@echo "make demo    set up and run the main job on an embedded synthetic catalogue (about a minute)"
	@echo "make test    set up and run the test suite"
	@echo "make lint    ruff, mypy --strict and the import law"
	@echo "make older-triton    compile every kernel for sm_90 with triton $(OLDER_TRITON), beside the pinned one"
	@echo "make slow    the minutes-long tests and studies that CI leaves out"
	@echo "make clean   remove the environment and everything built"

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml $(CONSTRAINTS) $(NATIVE_SOURCES)
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "fastkd needs Python >= 3.11, $(PYTHON) is " + sys.version.split()[0] + "; try make PYTHON=python3.12")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -q -c $(CONSTRAINTS) torch scikit-build-core pybind11 cmake ninja
	$(PIP) install -q -c $(CONSTRAINTS) --no-build-isolation -e '.[plots,test,lint]'
	@touch $@

demo: setup
	$(BIN)/fastkd demo

test: setup
	$(BIN)/python -m pytest -n auto

lint: setup
	$(BIN)/ruff check fastkd tests benchmarks
	$(BIN)/ruff format --check fastkd tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python benchmarks/compile_report.py --check

older-triton: setup $(OLDER_TRITON_AT)/.ready
	PYTHONPATH=$(OLDER_TRITON_AT) $(BIN)/python -c 'import triton; assert triton.__version__ == "$(OLDER_TRITON)", triton.__file__'
	PYTHONPATH=$(OLDER_TRITON_AT) $(BIN)/python benchmarks/compile_report.py --no-budget --target 90

# A folder in front of the environment's own triton: all else the report needs is the environment's.
$(OLDER_TRITON_AT)/.ready: | setup
	$(PIP) install -q --no-deps --upgrade --target $(OLDER_TRITON_AT) triton==$(OLDER_TRITON)
	@touch $@

slow: setup
	$(BIN)/python -m pytest -m slow

clean:
	rm -rf $(VENV) build fastkd-demo
