# Everfold: one task, one target. `make` alone lists them.

BROKER ?=
DATA ?=
KILLS ?=
MAPPING ?=
ROUNDS ?=
SEED ?=
TESTS ?= tests
WORKERS ?= 2

PACKAGES := schemas infra event_store command_api projectors query_api client
BIN := .venv/bin

# Every role and many a test is a process of its own; none of them should compile our sources again.
export PYTHONDONTWRITEBYTECODE :=
READY := .venv/ready
PEERS := .venv/peers/ready

.DEFAULT_GOAL := help
.PHONY: help up test demo check fix bench chaos lock clean
.NOTPARALLEL:

help: ## lists the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)$$/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-14s %s\n", $$1, $$2}'

# Runs only when the lock or the package's description changed. The first Python that is new enough makes it.
$(READY): requirements.lock pyproject.toml infra/bootstrap.py
	@for python in $(PYTHON) python3 python3.13 python3.12 python3.11 python3.14 python; do \
	    if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        exec $$python infra/bootstrap.py .venv requirements.lock; \
	    fi; \
	done; \
	echo 'Everfold needs Python 3.11 or newer, and none was found on PATH.' >&2; \
	echo 'Install one (Debian: apt install python3 python3-venv), or name it: make PYTHON=/path/to/python …' >&2; \
	exit 2

up: $(READY) ## starts everything on this machine until Ctrl-C; BROKER=rabbitmq to use RabbitMQ
	@exec $(BIN)/everfold up --end-with-parent $(if $(BROKER),--broker $(BROKER))

test: $(READY) ## runs all tests on real services; TESTS=path narrows them, WORKERS=n shares them out
	@exec $(BIN)/python -m tests -n $(WORKERS) --dist loadgroup $(TESTS)

demo: $(READY) ## pushes orders through the whole system and proves the result; DATA=file MAPPING=name for real ones
	@exec $(BIN)/everfold demo $(if $(DATA),--data $(DATA)) $(if $(MAPPING),--mapping $(MAPPING))

check: $(READY) ## format, lint, types, import directions, and that stored events stay readable; changes nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/everfold schemas check --all

fix: $(READY) ## mends what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# What peers need stands in an environment of its own; where it cannot be had, peers are not measured, and said to be.
$(PEERS): tests/bench/peers/packages.txt $(READY)
	@$(BIN)/uv venv --quiet --clear .venv/peers && \
	$(BIN)/uv pip install --quiet --python .venv/peers/bin/python --require-hashes -r $< && touch $@

bench: $(READY) ## benchmarks beside their ceiling and a peer; ROUNDS=n
	@$(MAKE) --no-print-directory $(PEERS) || echo 'The peers could not be installed, so they are not measured.' >&2
	@exec $(BIN)/python -m tests.bench $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SEED),--seed $(SEED))

chaos: $(READY) ## kills and cuts things under load, then checks what must hold; KILLS=n ROUNDS=n SEED=s BROKER=log|URL
	@exec $(BIN)/python -m tests.chaos $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SEED),--seed $(SEED)) \
	    $(if $(KILLS),--kills $(KILLS)) $(if $(BROKER),--broker $(BROKER))

lock: $(READY) ## writes requirements.lock anew from pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --all-extras --generate-hashes --no-emit-index-url --upgrade \
	    pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --upgrade \
	    tests/bench/peers/packages.in -o tests/bench/peers/packages.txt

clean: ## removes what was built; the data in .everfold stays
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find $(PACKAGES) tests -name __pycache__ -type d -prune -exec rm -rf {} +
