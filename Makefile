# The project's commands. Each does its own set-up: a Rust toolchain, a C compiler and make are enough.

# Reads .env.dev, where it exists, line by line and literally (a password may hold anything); the environment goes before it.
LOAD_ENV := if [ -f .env.dev ]; then while IFS='=' read -r name value || [ -n "$$name" ]; do case "$$name" in ''|'\#'*) ;; \
	*) printenv "$$name" >/dev/null || export "$$name=$$value" ;; esac; done < .env.dev; fi;

CARGO ?= cargo
COMPOSE ?= docker compose
# Root needs no sudo, and minimal machines have none.
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

# True if PostgreSQL's server programs are somewhere, 15 or newer. src/tests/postgres.rs looks in the same places.
HAVE_POSTGRES := for dir in $$(echo "$$PATH" | tr : ' ') /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /usr/libexec/postgresql* \
	/opt/homebrew/opt/postgresql*/bin /usr/local/opt/postgresql*/bin "$$(pg_config --bindir 2>/dev/null)"; do \
	[ -x "$$dir/initdb" ] && [ -x "$$dir/pg_ctl" ] && [ -x "$$dir/postgres" ] && \
	[ "$$("$$dir/postgres" --version | awk '{ print int($$3) }')" -ge 15 ] && exit 0; done; exit 1

.DEFAULT_GOAL := help
.PHONY: help run migrate-up migrate-down check test model torture bench postgres docker-up docker-down docker-logs

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Run the server: on embedded SQLite, or on DATABASE_URL from .env.dev
	@$(LOAD_ENV) $(CARGO) run --release --locked -- serve

migrate-up: ## Bring the database schema up to date
	@$(LOAD_ENV) $(CARGO) run --release --locked -- migrate up

migrate-down: ## Undo the newest migration
	@$(LOAD_ENV) $(CARGO) run --release --locked -- migrate down

check: postgres ## Formatting, lints, documentation, migrations up and down and up
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --document-private-items
	env -u PORT -u DATABASE_URL $(CARGO) test --locked --test integration migrations

test: postgres ## All tests, on a throw-away PostgreSQL
	env -u PORT -u DATABASE_URL $(CARGO) test --locked --lib --bins --test integration

model: ## Run the log's protocol in random orders of its steps: SCHEDULES=1000000 for more
	SCHEDULES=$(or $(SCHEDULES),10000) $(CARGO) test --locked --lib --features shuttle schedules::

torture: postgres ## Break things around a real server: PLAN=kill CYCLES=1000 SEED=1, or every plan briefly
	env -u PORT -u DATABASE_URL $(CARGO) test --locked --test torture -- \
		$(if $(PLAN),--plan $(PLAN)) $(if $(CYCLES),--cycles $(CYCLES)) $(if $(SEED),--seed $(SEED))

mutants: postgres ## Plant twelve bugs, one after the other: the tests and the fault harness must catch each
	env -u PORT -u DATABASE_URL $(CARGO) test --locked --test mutants

bench: ## Measure the layers against their limits
	env -u PORT -u DATABASE_URL $(CARGO) bench --locked --benches

postgres: # PostgreSQL's binaries for the tests, which start a cluster of their own with them
	@( $(HAVE_POSTGRES) ) || { \
		echo "PostgreSQL 15 or newer is not installed: installing the distribution's package for the tests"; \
		if command -v apt-get >/dev/null; then \
			$(SUDO) apt-get update -q && $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -yq postgresql; \
		elif command -v dnf >/dev/null; then $(SUDO) dnf install -y postgresql-server; \
		elif command -v apk >/dev/null; then $(SUDO) apk add postgresql; \
		elif command -v brew >/dev/null; then brew install postgresql; fi; \
		( $(HAVE_POSTGRES) ) || { echo "install PostgreSQL 15 or newer so that initdb is on the PATH, then try again" >&2; exit 1; }; }

docker-up: ## Start PostgreSQL, migrate it, and serve on port 8080
	$(COMPOSE) up --build --detach --wait

docker-down: ## Stop the containers; the data stays in its volumes
	$(COMPOSE) down

docker-logs: ## Follow the containers' logs
	$(COMPOSE) logs --follow
