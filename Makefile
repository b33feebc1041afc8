# What there is: make help. Needs Python 3.11+, git and make; everything else comes into .venv.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/synchronised
UV := $(shell sed -n 's/.*"\(uv==[^"]*\)".*/\1/p' pyproject.toml)

# Nothing of the machine's: neither another environment that is active, nor another Python, nor that each of the many
# processes of the tests compiles everything again.
unexport VIRTUAL_ENV PYTHONHOME PYTHONPATH CONDA_PREFIX PYTHONDONTWRITEBYTECODE
export UV_PROJECT_ENVIRONMENT := .venv
export UV_PYTHON := .venv/bin/python
export UV_PYTHON_DOWNLOADS := never

# What a file of tests makes, or several share, is made once, and the longest come first (tests/conftest.py).
WORKERS := -n 2 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help run test check conformance bench bench-identity docs layer fmt clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST)

run: $(STAMP) ## bring up the whole stack on this machine; PORT=8100 moves it, FRESH=1 starts empty
	@exec $(BIN)/passerelle run

test: $(STAMP) ## every test
	@$(BIN)/pytest $(WORKERS)

check: $(STAMP) ## format, lint, types, import contracts, then every test
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/pytest $(WORKERS)

conformance: $(STAMP) ## the conformance kit against the stack of `make run`; its page is .passerelle/conformance.html
	@$(BIN)/pytest conformance --url http://127.0.0.1:8000/fhir --client conformance/examples/local.json \
		--profile conformance/examples/local.toml --report .passerelle/conformance.html

bench: $(STAMP) ## what each step costs, cold starts, a long record, and other servers
	@$(BIN)/python -m benchmarks

bench-identity: $(STAMP) ## how well people are recognised, beside Splink and recordlinkage; QUICK=1 for a tenth of it
	@UV_PROJECT_ENVIRONMENT=.venv-identity $(BIN)/uv sync --frozen --quiet --no-default-groups --group identity
	@.venv-identity/bin/python -m benchmarks.identity $(if $(QUICK),--quick,--output benchmarks/identity.txt)

docs: $(STAMP) ## the pages of docs/ that are made from code
	@$(BIN)/python -m infra.describe

layer: $(STAMP) ## the requirements of the dependencies layer, from uv.lock
	@$(BIN)/uv export --frozen --quiet --no-dev --no-emit-project --no-annotate --no-header \
		> layers/dependencies/requirements.txt

fmt: $(STAMP) ## format, and repair what can be
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

clean: ## forget the environment, the caches and the data of the local stack
	rm -rf .venv .venv-identity .passerelle cdk.out .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

$(STAMP): pyproject.toml uv.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Passerelle needs Python 3.11 or newer")'
	@echo "Setting up .venv"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(UV)
	@$(BIN)/uv sync --frozen
	@$(BIN)/passerelle kb build --when-needed
	@touch $@
