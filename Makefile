# One-liners over the public commands; needs only Python 3.11+ and make.
PYTHON ?= python3
BIN := .venv/bin
# One process for each core, at most four. Each takes about 1 GB. tests/conftest.py says which tests stay together.
# `make test WORKERS=0`: all in one.
WORKERS ?= logical
TORCH_BACKEND ?= lock
# Imports of torch take twice as long where Python may not keep its byte code.
unexport PYTHONDONTWRITEBYTECODE
.DEFAULT_GOAL := help
PYTEST = $(BIN)/pytest --numprocesses $(WORKERS) --maxprocesses 4

.PHONY: help install smoke test reliability docs notebooks screenshots wheel image cluster lint lock newest clean

help: ## what can be made
	@sed -n 's/^\([a-z-]*\):.*## /make \1\t/p' Makefile | expand -t 20

install: .venv/ready ## the environment alone

smoke: .venv/ready ## the whole suite on the embedded sample
	$(BIN)/snakemake --cores 2 smoke

test: .venv/ready ## all tests but the next
	$(PYTEST) tests/workflow tests/unit

reliability: .venv/ready ## kills, faults, broken inputs, memory, stale results: minutes
	$(PYTEST) tests/reliability

docs: .venv/ready ## site/: the documents as a site that opens offline: half a minute
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

notebooks: .venv/ready ## docs/notebooks/, executed again: minutes
	$(BIN)/python .ci/notebooks.py

screenshots: smoke ## docs/images/, from the report of the smoke run and from the sample; needs chromium
	$(BIN)/python .ci/screenshots.py

# VERSIONS=oldest or newest: with these dependencies, not those of the lock. WITH=python3.13: with this Python.
wheel: .venv/ready ## dist/: wheel and sdist, tried in a fresh environment: minutes, 7 GB of disk meanwhile
	VERSIONS=$(VERSIONS) WITH=$(WITH) .ci/wheel.sh

image: ## the image of the Dockerfile, and the smoke run in it; TORCH_BACKEND=cpu: without CUDA
	.ci/image.sh $(TORCH_BACKEND)

cluster: .venv/ready ## the smoke run on a SLURM cluster of one node, made here for it: minutes; root on Debian
	$(BIN)/python tests/cluster/smoke_on_slurm.py

lint: .venv/ready ## style, types, layers of imports, generated files, the workflow
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports && $(BIN)/reconpatch schemas --check
	$(BIN)/snakefmt --check Snakefile workflow && $(BIN)/snakemake --lint

# uv itself is installed from its pinned, hashed entry in the lock.
.venv/ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	sed -n '/^uv==/,/# via/p' requirements.lock > .venv/uv.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --requirement .venv/uv.txt
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $@

lock: .venv/ready ## re-resolve the lock and environment.yml
	$(BIN)/uv pip compile $(LOCK_OPTIONS) --quiet --universal --generate-hashes --python-version 3.11 --fork-strategy fewest \
		--group dev --extra workflow --extra cluster --extra export pyproject.toml --output-file requirements.lock
	$(BIN)/python .ci/conda_environment.py > environment.yml

newest: ## the newest versions of all dependencies into the lock
	$(MAKE) lock LOCK_OPTIONS=--upgrade

clean: ## remove results, logs and the environment
	find results -mindepth 1 ! -name README.md -delete
	rm -rf .venv .snakemake logs site

.PHONY: bench bench-quick bench-memory

# Peers are compared with where they are: ANOMALIB=python of its environment, PATCHCORE=src folder of its checkout,
# DATA=MVTec AD's root; ONLY="coreset metrics" and RESUME=1 measure in parts.
BENCH = env -u PYTHONDONTWRITEBYTECODE $(BIN)/python benchmarks/bench.py $(if $(ANOMALIB),--anomalib $(ANOMALIB)) \
	$(if $(PATCHCORE),--patchcore $(PATCHCORE)) $(if $(DATA),--data $(DATA))

bench: .venv/ready ## speed against ceilings and peers: benchmarks/RESULTS.md
	$(BENCH) $(if $(ONLY),--only $(ONLY)) $(if $(RESUME),--resume)

bench-quick: .venv/ready ## ratios beside the last committed ones, in under three minutes; KEEP=1 writes them down
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/python benchmarks/quick.py $(if $(KEEP),--keep)

bench-memory: .venv/ready ## memory at 1,000 images of 480 px, beside what RESULTS.md has; minutes, and 8 GB of disk
	$(BENCH) --only memory --resume
