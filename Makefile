# `make up` runs everything on this machine, `make test` sets up and tests everything.
# Both need Python 3.11 or later and git; npm is used where it is there.

PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
BIN := $(VENV)/bin

.PHONY: up test check format schema lock assets bench bench-sync bench-crowd audit clean

up: $(READY) assets
	@$(BIN)/annoris up $(UP)

test: $(READY) assets
	$(BIN)/pytest --numprocesses=auto --maxprocesses=4 --dist=worksteal $(TEST)

# What has to hold besides the tests. `make format` mends the first two.
check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/annoris schema | diff -u schema.graphql -

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

schema: $(READY)
	$(BIN)/annoris schema > schema.graphql

# GraphiQL, served by the gateway itself. Without npm it comes from a CDN.
assets: $(READY)
	@$(BIN)/python -m api.http.graphiql install

# What reads and writes cost, beside what they could, as tables; a quarter of an hour, or two
# minutes with SIZES=1000 ROUNDS=1 SECONDS=0.2.
bench: $(READY)
	$(BIN)/python -m tests.bench.serving $(SIZES) \
		$(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SECONDS),--seconds $(SECONDS))

# What syncs and health checks cost, as a table; minutes for 100,000 documents.
bench-sync: $(READY)
	$(BIN)/python -m tests.bench.sync $(SIZES)

# What 64 clients notice of one that misbehaves, as a table; three minutes.
bench-crowd: $(READY)
	$(BIN)/python -m tests.bench.crowd \
		$(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SECONDS),--seconds $(SECONDS))

# The exact versions of everything, with hashes and without the address of an index.
LOCK := .annoris/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --no-header \
	--generate-hashes --no-emit-index-url --no-annotate pyproject.toml
lock:
	$(PYTHON) -m venv .annoris/lock
	.annoris/lock/bin/pip install --quiet --disable-pip-version-check uv
	$(LOCK) --upgrade --output-file requirements.lock
	$(LOCK) --upgrade --constraint requirements.lock --extra dev --output-file requirements-dev.lock

# What is known to be wrong with the packages that we stand on, and what their licences are.
audit: $(READY)
	@$(PYTHON) -m venv .annoris/audit
	@.annoris/audit/bin/pip install --quiet --disable-pip-version-check pip-audit pip-licenses
	.annoris/audit/bin/pip-audit --requirement requirements.lock --require-hashes --disable-pip
	.annoris/audit/bin/pip-licenses --python=$(BIN)/python --order=license

clean:
	rm -rf $(VENV) .annoris build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(READY): pyproject.toml requirements-dev.lock
	@echo "Setting up $(VENV); this takes a minute, once."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
