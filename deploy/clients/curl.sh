#!/usr/bin/env bash
# Sends events to fast-ingest, each stored once, whatever fails in between. bash, curl and awk, nothing else.
#
#     FAST_INGEST_URL=http://127.0.0.1:8080 ./curl.sh < events.ndjson > not-accepted.ndjson
#
# reads one JSON event a line and ends with status 0 once all of them are accepted. Otherwise it says why, ends with status 1 and writes those
# that were not accepted to standard output, with their ids: sending these again is safe. From a script:
#
#     echo '{"event_name":"backup_done","channel":"cron","user_id":"'"$HOSTNAME"'","timestamp":'"$(date +%s)"'}' | ./curl.sh
set -euo pipefail
# The C locale: lengths are bytes, and bytes pass through unchanged.
export LC_ALL=C

url=${FAST_INGEST_URL:-http://127.0.0.1:8080}
# Seconds after which a batch that is not accepted is given up.
give_up_after=${FAST_INGEST_GIVE_UP_AFTER:-300}
# Seconds that a try may take, its answer included.
try_timeout=${FAST_INGEST_TRY_TIMEOUT:-30}
# What the server takes in one request: 1,000 events, and 4 MiB with some room.
batch_events=1000 batch_bytes=4000000
# Milliseconds; the longest wait doubles with each try.
wait_first=200 wait_max=10000

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
# In a file, because every user can read a command line.
{
  echo 'Content-Type: application/json'
  [ -z "${FAST_INGEST_KEY:-}" ] || echo "Authorization: Bearer $FAST_INGEST_KEY"
} >"$dir/headers"

# Puts an id into each event that has none, before the first try, and never changed: by its id the server recognizes an event that it has.
# Then cuts the events into batches.
make_batches() {
  local new_id='cat /proc/sys/kernel/random/uuid'
  [ -r /proc/sys/kernel/random/uuid ] || new_id=uuidgen
  awk -v dir="$dir" -v new_id="$new_id" -v events_max="$batch_events" -v bytes_max="$batch_bytes" '
    # Whether the event itself, and no object inside it, has an id: strings go, then what is nested.
    function has_id(event) {
      gsub(/\\./, "", event)
      gsub(/"event_id"[ \t]*:[ \t]*null/, "", event)
      gsub(/"event_id"[ \t]*:/, "\001", event)
      gsub(/"[^"]*"/, "", event)
      sub(/[{]/, "", event)
      while (gsub(/[{][^{}]*[}]/, "", event));
      return index(event, "\001")
    }
    /^[ \t\r]*$/ { next }
    !/^[ \t]*[{]/ { print "line " NR " is no JSON object" >"/dev/stderr"; exit 1 }
    !has_id($0) {
      if ((new_id | getline id) < 1) { print "no ids can be made" >"/dev/stderr"; exit 1 }
      close(new_id)
      sub(/[{]/, "{\"event_id\":\"" id "\",")
    }
    batch == "" || events == events_max || bytes + length($0) + 1 > bytes_max {
      if (batch != "") close(batch)
      batch = sprintf("%s/batch-%06d", dir, ++batches)
      events = bytes = 0
    }
    { print >batch; events++; bytes += length($0) + 1 }'
}

# Sends a batch until it is accepted. Status 1 and a reason in $why if it is not.
send_batch() {
  local batch=$1 count deadline=$((SECONDS + give_up_after)) longest=$wait_first status retry_after wait
  count=$(wc -l <"$batch")
  { printf '['; paste -sd, "$batch"; printf ']'; } >"$dir/body"
  while :; do
    : >"$dir/answer"
    status=$(curl --silent --show-error --max-time "$try_timeout" --header "@$dir/headers" --data-binary "@$dir/body" \
      --dump-header "$dir/answer-headers" --output "$dir/answer" --write-out '%{http_code}' "${url%/}/events/bulk" 2>"$dir/error") ||
      status=000
    case $status in
      200 | 202) ! grep -q "\"accepted\":$((count))[,}]" "$dir/answer" || return 0 ;;
    esac
    # The answer is application/problem+json: its code, its detail, and which events are bad.
    why="$status $(cat "$dir/answer")"
    retry_after=
    case $status in
      000) why="no answer: $(cat "$dir/error")" ;;
      # 408 and 5xx come from a slow network, or from a proxy in front.
      408 | 429 | 5??) retry_after=$(tr -d '\r' <"$dir/answer-headers" | sed -n 's/^[Rr]etry-[Aa]fter: *\([0-9]\{1,6\}\)$/\1/p') ;;
      *) return 1 ;;
    esac
    # Full jitter: clients that failed together must not retry together.
    wait=$((${retry_after:-0} * 1000 + RANDOM % longest))
    if ((SECONDS + wait / 1000 >= deadline)); then
      why="gave up after $give_up_after s: $why"
      return 1
    fi
    echo "trying again in $wait ms: $why" >&2
    sleep "$((wait / 1000)).$(printf %03d $((wait % 1000)))"
    longest=$((longest * 2 < wait_max ? longest * 2 : wait_max))
  done
}

make_batches
for batch in "$dir"/batch-*; do
  [ -e "$batch" ] || break # no events
  send_batch "$batch" || {
    cat "$dir"/batch-* >"$dir/not-accepted"
    echo "$(wc -l <"$dir/not-accepted") events were not accepted: $why" >&2
    cat "$dir/not-accepted"
    exit 1
  }
  rm "$batch"
done
