# shellcheck shell=bash
# From an empty engine to metrics; then stop, and start again.

up() {
	compose up --build --detach --wait || {
		compose logs --no-color --tail 10
		return 1
	}
}

# Returns with `starts` as whether there is anything to go on with.
check_start() {
	local began
	starts=false
	began=$(date +%s)
	check "up --build starts everything from nothing" up
	# Without a start no other check can run.
	[ "$last" = 0 ] || return 0
	starts=true
	check "the database is healthy before migrate starts, and migrate has ended before the server starts" starts_in_order "$began"
	check "an event that is answered 202 is counted by /metrics" counts_an_event
	check "a page that calls the server by a name of its own is refused" refuses_a_foreign_name
	check "the server has no capabilities, no way to new ones, a read-only root, bounded memory and logs" is_confined
	check "the server's user is 65532, and the log's directory its own" same user 65532 "$(inspect server '{{.Config.User}}')"
	check "a second up --build changes nothing" second_up_changes_nothing
	check "a stop drains: status 0, and everything acknowledged is in the database" stop_drains
	check "down and up, twice, leave no anonymous volume" leaves_no_anonymous_volume
	check "PORT chooses the port on this machine" serves_on_another_port
	check "the image alone serves, with its data in a directory that belongs to 65532" serves_alone
}

# The engine remembers what happened, and when.
starts_in_order() {
	local format='{{index .Actor.Attributes "com.docker.compose.service"}} {{.Action}}' events
	events=$(inside docker events --since "$1" --until "$(($(date +%s) + 1))" --filter type=container --format "$format" |
		grep --extended-regexp '^(db health_status: healthy|migrate start|migrate die|server start|server health_status: healthy)$')
	same order 'db health_status: healthy
migrate start
migrate die
server start
server health_status: healthy' "$events" &&
		same "status of migrate" 0 "$(inspect migrate '{{.State.ExitCode}}')"
}

counts_an_event() {
	same answer 202 "$(post first somebody)" && within 10 is_counted first 1
}

refuses_a_foreign_name() {
	same answer 403 "$(inside curl --silent --output /dev/null --write-out '%{http_code}' --max-time 5 \
		--header 'Host: rebind.example' http://127.0.0.1:8080/health)"
}

is_confined() {
	local format='{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}} {{.HostConfig.SecurityOpt}} {{index .HostConfig.LogConfig.Config "max-size"}}'
	same server 'true [ALL] [no-new-privileges=true] 10m 536870912' "$(inspect server "$format {{.HostConfig.Memory}}")" &&
		same database 'false [ALL] [no-new-privileges=true] 10m 268435456' "$(inspect db "$format {{.HostConfig.ShmSize}}")"
}

# migrate runs again, in the same container, and only its run shows that there is nothing to do.
second_up_changes_nothing() {
	local before after format='{{.Id}} {{.State.StartedAt}}'
	before="$(inspect server "$format") $(inspect db "$format") $(container migrate)"
	up || return 1
	after="$(inspect server "$format") $(inspect db "$format") $(container migrate)"
	same containers "$before" "$after"
}

stop_drains() {
	start_sending drain || return 1
	compose stop server || return 1
	stop_sending
	same status 0 "$(inspect server '{{.State.ExitCode}}')" || return 1
	all_stored_once drain || return 1
	up
}

leaves_no_anonymous_volume() {
	local _
	for _ in 1 2; do
		compose down || return 1
		up || return 1
	done
	same volumes 'fast-ingest_data fast-ingest_db ' "$(inside docker volume ls --quiet | sort | tr '\n' ' ')" || return 1
	is_counted first 1
}

serves_on_another_port() {
	local variables=(PORT=8099)
	up || return 1
	inside curl --silent --fail --output /dev/null http://127.0.0.1:8099/health || return 1
	variables=()
	up
}

serves_alone() {
	local status=0
	inside sh -c "mkdir /mnt/work/$store/alone && chown 65532:65532 /mnt/work/$store/alone" || return 1
	inside docker run --detach --name alone --read-only --volume "/mnt/work/$store/alone:/data" fast-ingest >/dev/null || return 1
	within 30 inside docker exec alone fast-ingest health || status=1
	inside docker rm --force alone >/dev/null
	return "$status"
}
