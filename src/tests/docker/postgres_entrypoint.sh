#!/bin/bash
# Imitates the official image's entry point, as far as docker-compose.yml depends on it: starts as root, hands the data directory to the
# user postgres and becomes that user, makes the database with a server that listens on the socket only, then runs the real server.
set -euo pipefail

if [ "$(id -u)" = 0 ]; then
	mkdir -p "$PGDATA"
	chmod 700 "$PGDATA"
	find "$PGDATA" ! -user postgres -exec chown postgres {} +
	find /var/run/postgresql ! -user postgres -exec chown postgres {} +
	exec setpriv --reuid=postgres --regid=postgres --init-groups -- "$0" "$@"
fi

if [ ! -s "$PGDATA/PG_VERSION" ]; then
	initdb --encoding=UTF8 --username="$POSTGRES_USER" --pwfile=<(printf '%s\n' "$POSTGRES_PASSWORD") --auth-local=trust --auth-host=scram-sha-256 >/dev/null
	echo 'host all all all scram-sha-256' >> "$PGDATA/pg_hba.conf"
	pg_ctl --wait -o "-c listen_addresses='' -c unix_socket_directories=/var/run/postgresql" start >/dev/null
	psql --quiet --host=/var/run/postgresql --username="$POSTGRES_USER" --dbname=postgres --command="CREATE DATABASE \"$POSTGRES_DB\""
	pg_ctl --wait --mode=fast stop >/dev/null
fi
exec postgres -c listen_addresses='*' -c unix_socket_directories=/var/run/postgresql "$@"
