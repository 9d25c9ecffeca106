# The common tasks; `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

PYTHON ?= python3
WORKERS ?= 4
BIN := .venv/bin
READY := .venv/.ready
on = $(filter-out 0 no false off,$(1))

.PHONY: help venv test vm campaign mutants lint format demo bench picture handbook lock clean

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16
	@echo
	@echo '  make demo FOR=30s JSON=1 KEEP=1 BROKER=mosquitto PORT=8081    (all optional)'
	@echo '  make test ARGS="-k planner"       make bench BENCH=drain JSON=1 README=1'

venv: $(READY) ## .venv with everything for development, and tidewatt in it

# Made anew only when what it depends on changed.  Its output goes to stderr: stdout belongs to the task itself.
$(READY): requirements.lock pyproject.toml .ci/need
	@{ .ci/need "$(PYTHON)"; \
	  echo 'making .venv (a minute or two, once)'; \
	  "$(PYTHON)" -m venv --clear .venv; \
	  $(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --require-hashes -r requirements.lock; \
	  $(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .; \
	} >&2
	@touch $@

test: $(READY) ## all tests; installs the Debian packages they need
	@.ci/need mosquitto=mosquitto systemd-analyze=systemd chromium=chromium openssl=openssl zsh=zsh fish=fish >&2
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

mutants: $(READY) ## each promise of the delivery protocol broken in one line, and the tests that notice; NAME=poison for some
	@.ci/need mosquitto=mosquitto >&2
	@$(BIN)/python -m tests.mutants $(NAME)

vm: $(READY) ## drivers, unit and power cuts in a virtual Pi; root and Debian 12, half an hour; GUEST=powercut CUTS=20
	@CUTS="$(CUTS)" SEED="$(SEED)" tests/vm/all.sh $(GUEST)

lint: $(READY) ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(READY) ## ruff's fixes and format
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

demo: $(READY) ## a simulated site into a real Postgres; Ctrl-C ends it
	@$(if $(filter mosquitto,$(BROKER)),.ci/need mosquitto=mosquitto >&2)
	@$(BIN)/tidewatt demo $(if $(FOR),--for '$(FOR)') $(if $(call on,$(JSON)),--json) \
	  $(if $(call on,$(KEEP)),--keep) $(if $(BROKER),--broker '$(BROKER)') $(if $(PORT),--port '$(PORT)') \
	  $(if $(DIR),--dir '$(DIR)')

bench: $(READY) ## what it costs and how fast it is, beside the targets; BENCH=PART for one, BENCH=--help for which
	@.ci/need mosquitto=mosquitto >&2
	@$(BIN)/python -m tests.bench $(BENCH) $(if $(call on,$(JSON)),--json) $(if $(call on,$(README)),--readme)

picture: $(READY) ## the picture of the page, taken of the demo: edge/web/handbook/page.png
	@.ci/need chromium=chromium >&2
	@$(BIN)/python -m tests.picture $(FILE)

campaign: $(READY) ## random faults over everything, judged record by record; FAULTS= MINUTES= SEED=
	@.ci/need mosquitto=mosquitto >&2
	@$(BIN)/python -m tests.campaign $(if $(FAULTS),--faults $(FAULTS)) $(if $(MINUTES),--minutes $(MINUTES)) \
	  $(if $(SEED),--seed $(SEED))

handbook: $(READY) ## the chapters that are made from the program: commands, config keys, interfaces
	@$(BIN)/python -m tests.handbook

lock: $(READY) ## requirements.lock from pyproject.toml: hashes for all platforms, no addresses
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@scratch=$$(mktemp -d); trap 'rm -rf "$$scratch"' EXIT; \
	  cp pyproject.toml README.md LICENSE "$$scratch"; \
	  PATH="$$PWD/$(BIN):$$PATH" .ci/lock "$$scratch" >requirements.lock.new
	@mv requirements.lock.new requirements.lock

clean: ## remove .venv, .vm, .demo, .bench and caches
	@data=$$(readlink .demo/postgres/data || true); \
	  case "$$data" in /var/tmp/tidewatt-postgres-data-*/data) rm -rf "$${data%/data}";; esac
	@rm -rf .venv .vm .demo .bench dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
