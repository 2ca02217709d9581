# shellcheck shell=bash
# A server that no restart helps (exit statuses 2, 65 and 78) is not restarted for ever; and passwords.

check_refusals() {
	check "damage to acknowledged events (65) is not restarted: the server waits, unhealthy, and names it" waits_with_damage
	check "a bad setting (2) is not restarted" waits_with_setting 2 FAST_INGEST_RING_SLOTS=many
	check "a contradiction (78) is not restarted" waits_with_setting 78 FAST_INGEST_WAL_BYTES_MAX=1MiB
	check "a password with special characters works" works_with_password 'p@s%41:/w?r d&#$'
	check "a password that the database refuses is not shown" does_not_show_password
	compose_quietly down --volumes
}

compose_quietly() {
	compose "$@" >/dev/null 2>&1
}

# is_waiting STATUS: the container is up, not healthy, never restarted, and logs why.
is_waiting() {
	within 60 is_unhealthy || return 1
	same "running, restarts" "true 0" "$(inspect server '{{.State.Running}} {{.RestartCount}}')" || return 1
	compose logs --tail 5 server > "$work/logs" && grep "exit status $1" "$work/logs"
}

is_unhealthy() {
	[ "$(inspect server '{{.State.Health.Status}}')" = unhealthy ]
}

# A byte of the first event in the newest segment, after headers of 96 and 32 bytes.
damage() {
	inside sh -c 'segment=$(ls /mnt/work/'"$store"'/volumes/fast-ingest_data/_data/wal/*.wal | tail -n 1) && cp -p "$segment" /run/sound &&
		printf "\377" | dd of="$segment" bs=1 seek=138 conv=notrunc status=none && echo "$segment" > /run/damaged'
}

mend() {
	inside sh -c 'cat /run/sound > "$(cat /run/damaged)"'
}

waits_with_damage() {
	same answer 202 "$(post damaged somebody)" && compose stop server && damage || return 1
	! compose up --detach --wait || return 1
	is_waiting 65 || return 1
	# The container stays up, so that a person can inspect its data.
	! compose exec -T server fast-ingest wal inspect > "$work/inspected" 2>&1 || return 1
	grep --quiet damaged "$work/inspected" || return 1
	compose stop --timeout 20 server || return 1
	same status 65 "$(inspect server '{{.State.ExitCode}}')" || return 1
	mend && up
}

# waits_with_setting STATUS VARIABLE
waits_with_setting() {
	inside sh -c "printf '%s\n' 'services:' '  server:' '    environment:' '      ${2%%=*}: ${2#*=}' > /run/override.yml"
	! compose --file docker-compose.yml --file /run/override.yml up --detach --wait || return 1
	is_waiting "$1" || return 1
	compose stop --timeout 20 server || return 1
	same status "$1" "$(inspect server '{{.State.ExitCode}}')" || return 1
	up
}

# The database gets its password when it is made.
works_with_password() {
	local variables=("POSTGRES_PASSWORD=$1")
	compose down --volumes && up || return 1
	same answer 202 "$(post password somebody)" && within 10 is_counted password 1
}

# The database is that of the check before.
does_not_show_password() {
	local variables=('POSTGRES_PASSWORD=wr@ng%42:/secret')
	! compose up --detach --wait --no-deps server migrate || return 1
	compose logs > "$work/logs" 2>&1
	grep --quiet 'password authentication failed' "$work/logs" || return 1
	! grep --extended-regexp 'ng%42|secret' "$work/logs"
}
