# shellcheck shell=bash
# An edit always reaches the binary; builds from nothing always succeed.

# Files keep the time of a check-out, a copy, or a wrong clock: older than everything that was ever built here.
long_ago='2001-01-01 00:00'

check_builds() {
	check "an edit of a source reaches the binary, whatever its time" edit_arrives
	check "a new directory of migrations reaches the binary, whatever its time" migration_arrives
	check "an edit of a test builds nothing" test_edit_builds_nothing
	check_out
	compose down --volumes >/dev/null 2>&1
}

edit_arrives() {
	local source=$work/checkout/src/cli.rs words='A durable front door for edited events'
	sed -i 's/A durable front door for events/A durable front door for edited events/' "$source" || return 1
	grep --quiet "$words" "$source" || return 1
	touch --date="$long_ago" "$source"
	up || return 1
	# Not through a pipe: grep would close it before the build has written everything.
	inside docker run --rm fast-ingest --help > "$work/help" && grep --quiet "$words" "$work/help"
}

migration_arrives() {
	local directory=$work/checkout/migrations/postgres/2999-01-01-000000_arrived
	mkdir "$directory"
	echo 'CREATE TABLE arrived (number int);' > "$directory/up.sql"
	echo 'DROP TABLE arrived;' > "$directory/down.sql"
	touch --date="$long_ago" "$directory"/* "$directory"
	up || return 1
	same table 0 "$(sql 'SELECT count(*) FROM arrived')"
}

test_edit_builds_nothing() {
	local before after
	before=$(inside docker image inspect --format '{{.Id}}' fast-ingest)
	echo '// An edit.' >> "$work/checkout/src/tests/main.rs"
	up || return 1
	after=$(inside docker image inspect --format '{{.Id}}' fast-ingest)
	same image "$before" "$after"
}

# check_first_builds NUMBER: containers, volumes and the image's tag are removed each time. The built layers stay, so that both services reach
# the tag at nearly the same time.
check_first_builds() {
	local number=0 succeeded=0
	while [ "$number" -lt "$1" ]; do
		number=$((number + 1))
		compose down --volumes > "$work/said" 2>&1 || true
		inside docker image rm --force fast-ingest >> "$work/said" 2>&1 || true
		if up >> "$work/said" 2>&1; then succeeded=$((succeeded + 1)); else tail -n 20 "$work/said"; fi
	done
	check "$succeeded of $1 first builds succeed" same builds "$1" "$succeeded"
	compose down --volumes > "$work/said" 2>&1 || true
}
