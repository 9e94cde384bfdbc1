# The verbs of the house. PYTHON is the interpreter that the virtual environment is made with.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= gpu_out
# tests run in this many processes of one thread each; a file's tests stay together, for they share what is dear to make
WORKERS ?= 2
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --max-worker-restart 0
export OMP_NUM_THREADS ?= 2

.PHONY: install quickstart test test-all soak lint gpu sbom

$(BIN)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --upgrade pip
	# the CPU build of torch first, so that no other package pulls the one for GPUs
	$(BIN)/pip install -q -c constraints.txt torch
	$(BIN)/pip install -q -c constraints.txt -e '.[dev,cpu]'
	touch $@

install: $(BIN)/.installed

quickstart: install
	$(BIN)/vlseg quickstart

test: install
	$(PYTEST) -m "not slow and not soak and not gpu and not network"

test-all: install
	$(PYTEST) -m "not soak and not gpu"

soak: install
	$(BIN)/python -m pytest -m "soak or slow"

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

# a bill of materials (CycloneDX) of this environment, and of what each Jetson installs
sbom: install
	mkdir -p dist
	$(BIN)/cyclonedx-py environment $(BIN)/python --pyproject pyproject.toml -o dist/vlseg.cdx.json
	for python in 310 312; do $(BIN)/cyclonedx-py requirements deploy/jetson/files/requirements-py$$python.txt \
		--pyproject pyproject.toml -o dist/vlseg-jetson-py$$python.cdx.json || exit 1; done

gpu:
	OUT=$(OUT) .ci/gpu
