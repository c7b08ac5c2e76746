# `make demo` and `make test` need python3 with venv and pip, and nothing else: .venv is built on first use.
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
DATA ?=
OUT ?= demo
SEED ?= 0
# A peer in `make benchmarks` and nothing else, so it is not in the lock; where it has no wheel its row is left out.
OPENVINO := openvino==2026.4.1
TIS_RAY_DATA ?= $(if $(wildcard ../shared/data),$(abspath ../shared/data))
export TIS_RAY_DATA

.PHONY: help setup demo test test-plain test-ray lint test-slow test-gpu docs-test benchmarks recipes mask-techniques long-tail service-benchmarks batch-benchmarks reliability lock clean

help:
	@echo "make demo [DATA=coco_folder] [OUT=demo] [SEED=0]   scenes -> training -> service -> submission -> scores"
	@echo "make test        lint, types, import contracts and the test suite"
	@echo "make test-slow   kills, soaks and recipe sweeps"
	@echo "make test-gpu    what needs a CUDA device"
	@echo "make docs-test   every bash block of the README and docs, executed"
	@echo "make benchmarks  fusion and masks beside the libraries that have them, into docs/benchmarks.md"
	@echo "make service-benchmarks   what the service takes for itself: time, memory, starts; into docs/benchmarks.md"
	@echo "make batch-benchmarks   scoring, writers and batch runs by replicas, into docs/benchmarks.md"
	@echo "make reliability the service under kills, overload and a soak, into docs/reliability.md"
	@echo "make recipes     every tiny recipe trained, served and scored, into docs/recipes.md"
	@echo "make mask-techniques   each mask technique alone beside plain Mask R-CNN, into docs/techniques.md"
	@echo "make long-tail   both stages and self-training on long-tail scenes, into docs/training.md"
	@echo "make lock        refresh requirements.lock from pyproject.toml"

setup: $(READY)

$(READY): requirements.lock pyproject.toml
	@test -x $(PY) || python3 -m venv $(VENV)
	@$(PY) -c 'import sys; assert sys.version_info >= (3, 11), "tis-ray needs Python 3.11 or later"'
	@test -x $(VENV)/bin/uv || $(PY) -m pip install --quiet --disable-pip-version-check uv
	@echo "installing the locked dependencies into $(VENV)"
	@$(VENV)/bin/uv pip install --quiet --python $(PY) --requirements requirements.lock
	@$(VENV)/bin/uv pip install --quiet --python $(PY) --no-deps --editable .
	@touch $@

demo: $(READY)
	$(VENV)/bin/tis-ray demo --out $(OUT) --seed $(SEED) $(if $(DATA),--data $(DATA))

lint: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

# What starts Ray mostly waits for processes to start, so the other tests run beside it.
test: lint
	@$(MAKE) --no-print-directory --jobs=2 test-plain test-ray

test-plain: $(READY)
	$(PY) -m pytest -m "not ray and not slow and not gpu and not docs"

test-ray: $(READY)
	$(PY) -m pytest -m "ray and not slow and not gpu and not docs"

test-slow: $(READY)
	$(PY) -m pytest -m "slow and not gpu"

test-gpu: $(READY)
	$(PY) -m pytest -m "gpu" tests/test_gpu.py tests/inference

docs-test: $(READY)
	$(PY) -m pytest -m "docs" tests/docs

benchmarks: $(READY)
	-$(VENV)/bin/uv pip install --quiet --python $(PY) --no-deps $(OPENVINO)
	$(PY) -m tests.benchmarks

service-benchmarks: $(READY)
	$(PY) -m tests.benchmarks.service_overhead
	$(PY) -m tests.benchmarks.service_memory

batch-benchmarks: $(READY)
	$(PY) -m tests.benchmarks.evaluation
	$(PY) -m tests.benchmarks.batch_writers
	$(PY) -m tests.benchmarks.batch_scaling

reliability: $(READY)
	$(PY) -m tests.benchmarks.service_reliability

recipes: $(READY)
	$(PY) -m tests.benchmarks.recipes

mask-techniques: $(READY)
	$(PY) -m tests.benchmarks.mask_techniques

long-tail: $(READY)
	$(PY) -m tests.benchmarks.long_tail

lock:
	$(VENV)/bin/uv pip compile pyproject.toml --extra dev --universal --generate-hashes \
		--no-emit-index-url --no-header --quiet --output-file requirements.lock

clean:
	rm -rf $(VENV) demo runs
