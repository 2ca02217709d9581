# shellcheck shell=bash
# How a check reports its outcome, waits, and talks to the services on the engine.

passed=0
failed=0

# outcome STATUS WHAT: prints one line per check.
outcome() {
	if [ "$1" = 0 ]; then
		passed=$((passed + 1))
		printf 'ok      %s: %s\n' "$store" "$2"
	else
		failed=$((failed + 1))
		printf 'FAILED  %s: %s\n' "$store" "$2"
	fi
}

# Status of the last check.
last=0

# check WHAT COMMAND…: shows the command's output only if it fails. A failing command inside a check does not end it (`set -e` is off
# there): each must handle its own failure.
check() {
	local what=$1 status=0
	shift
	"$@" > "$work/said" 2>&1 || status=$?
	last=$status
	outcome "$status" "$what"
	[ "$status" = 0 ] || tail -n 15 "$work/said" | sed 's/^/        /'
	stop_sending
}

# within SECONDS COMMAND…: runs it until it succeeds.
within() {
	local deadline=$((SECONDS + $1))
	shift
	until "$@"; do
		[ "$SECONDS" -lt "$deadline" ] || {
			echo "not in time: $*"
			return 1
		}
		sleep 0.2
	done
}

# same WHAT EXPECTED FOUND
same() {
	[ "$2" = "$3" ] || {
		echo "$1: expected <$2>, found <$3>"
		return 1
	}
}

# The container of a service, even if it has ended.
container() {
	compose ps --all --quiet "$1"
}

# inspect SERVICE TEMPLATE
inspect() {
	inside docker inspect --format "$2" "$(container "$1")"
}

is_healthy() {
	[ "$(inspect server '{{.State.Health.Status}}')" = healthy ]
}

# Posts one event; prints the answer's status, 000 without an answer.
post() {
	# Without an answer curl fails, and 000 says so.
	inside curl --silent --output /dev/null --write-out '%{http_code}' --max-time 5 --header 'Content-Type: application/json' --data \
		"{\"event_name\":\"$1\",\"channel\":\"docker\",\"user_id\":\"$2\",\"timestamp\":$(date +%s)}" http://127.0.0.1:8080/events || true
}

# is_counted NAME NUMBER: whether GET /metrics counts this many events of the name.
is_counted() {
	local answer
	answer=$(inside curl --silent --max-time 5 \
		"http://127.0.0.1:8080/metrics?event_name=$1&from=2020-01-01T00:00:00Z&to=2100-01-01T00:00:00Z") || return 1
	case $answer in *"\"total_events\":$2,"*) ;; *) return 1 ;; esac
}

# send NAME FILE: posts events one after the other until FILE.stop exists, 5000 at most; FILE lists the users that were answered 202.
send() {
	local number=0
	: > "$2"
	while [ ! -e "$2.stop" ] && [ "$number" -lt 5000 ]; do
		number=$((number + 1))
		if [ "$(post "$1" "user-$number")" = 202 ]; then echo "user-$number" >> "$2"; else sleep 0.2; fi
	done
}

sender=

# Starts to send in the background. Returns when some events are acknowledged.
start_sending() {
	rm -f "$work/sent.stop"
	send "$1" "$work/sent" &
	sender=$!
	within 30 has_sent 20
}

has_sent() {
	[ "$(wc -l < "$work/sent")" -ge "$1" ]
}

stop_sending() {
	touch "$work/sent.stop"
	[ -z "$sender" ] || wait "$sender"
	sender=
}

sql() {
	compose exec -T db psql --no-psqlrc --quiet --tuples-only --no-align --host=/var/run/postgresql --username=fast_ingest \
		--dbname=fast_ingest --command="$1"
}

# all_stored_once NAME: whether every event that was acknowledged is in the database, and none of the name is there twice.
all_stored_once() {
	sql "SELECT user_id FROM events WHERE event_name = '$1'" > "$work/stored" || return 1
	[ "$(sort "$work/stored" | uniq --repeated | wc -l)" = 0 ] || return 1
	[ "$(sort "$work/sent" | comm -23 - <(sort "$work/stored") | wc -l)" = 0 ]
}
