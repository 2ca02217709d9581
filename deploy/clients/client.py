#!/usr/bin/env python3
"""Sends events to fast-ingest, each stored once, whatever fails in between. Python 3.8 or newer, nothing else.

    FAST_INGEST_URL=http://127.0.0.1:8080 ./client.py < events.ndjson > not-accepted.ndjson

reads one JSON event a line and ends with status 0 once all of them are accepted. Otherwise it says why, ends with status 1 and writes those that
were not accepted to standard output, with their ids: sending these again is safe. From a program:

    send([{"event_name": "page_view", "channel": "web", "user_id": "u1", "timestamp": time.time()}])
"""
import http.client
import json
import os
import random
import sys
import time
import uuid
from urllib.parse import urlsplit

URL = urlsplit((os.environ.get("FAST_INGEST_URL") or "http://127.0.0.1:8080").rstrip("/") + "/events/bulk")
KEY = os.environ.get("FAST_INGEST_KEY")
# Seconds after which a batch that is not accepted is given up.
GIVE_UP_AFTER = float(os.environ.get("FAST_INGEST_GIVE_UP_AFTER") or 300)
# Seconds to connect, and for which a try may stand still.
TRY_TIMEOUT = float(os.environ.get("FAST_INGEST_TRY_TIMEOUT") or 30)
# What the server takes in one request: 1,000 events, and 4 MiB with some room.
BATCH_EVENTS, BATCH_BYTES = 1000, 4_000_000
# Seconds; the longest wait doubles with each try.
WAIT_FIRST, WAIT_MAX = 0.2, 10


class NotAccepted(Exception):
    """Says why; `events` are those that were not accepted, as far as is known. They have their ids: send the same again."""

    def __init__(self, why, events):
        super().__init__(why)
        self.events = events


def send(events):
    """Returns once the server has all of these dicts safe on disk; raises NotAccepted."""
    for event in events:
        # Before the first try, and never changed: by its id the server recognizes an event that it already has.
        if event.get("event_id") is None:
            event["event_id"] = str(uuid.uuid4())
    encoded = [json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode() for event in events]
    start = 0
    while start < len(events):
        end, size = start, 0
        while end < len(events) and end - start < BATCH_EVENTS and (end == start or size + len(encoded[end]) < BATCH_BYTES):
            size += len(encoded[end]) + 1
            end += 1
        try:
            send_batch(b"[" + b",".join(encoded[start:end]) + b"]", end - start)
        except NotAccepted as error:
            error.events = events[start:]
            raise
        start = end


def send_batch(body, count):
    """Sends the same bytes until they are accepted."""
    deadline = time.monotonic() + GIVE_UP_AFTER
    longest = WAIT_FIRST
    while True:
        why, retry_after = try_once(body, count)
        if why is None:
            return
        # Full jitter: clients that failed together must not retry together.
        wait = retry_after + random.uniform(0, longest)
        if time.monotonic() + wait > deadline:
            raise NotAccepted(f"gave up after {GIVE_UP_AFTER:g} s: {why}", [])
        print(f"trying again in {wait:.1f} s: {why}", file=sys.stderr)
        time.sleep(wait)
        longest = min(2 * longest, WAIT_MAX)


def try_once(body, count):
    """Why to try again, and after how many seconds at least; (None, 0) once accepted. Raises NotAccepted if retries are useless."""
    headers = {"Content-Type": "application/json"}
    if KEY:
        headers["Authorization"] = f"Bearer {KEY}"
    kind = http.client.HTTPSConnection if URL.scheme == "https" else http.client.HTTPConnection
    connection = kind(URL.netloc, timeout=TRY_TIMEOUT)
    try:
        connection.request("POST", URL.path, body, headers)
        answer = connection.getresponse()
        text = answer.read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        return f"no answer: {error!r}", 0
    finally:
        connection.close()
    try:
        fields = json.loads(text)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        fields = {}
    if answer.status in (200, 202) and fields.get("accepted") == count:
        return None, 0
    why = f"{answer.status} {fields.get('code', answer.reason)}: {fields.get('detail', text[:200])}"
    # 408 and 5xx come from a slow network, or from a proxy in front.
    if answer.status in (408, 429) or answer.status >= 500:
        seconds = answer.headers.get("Retry-After", "")
        return why, int(seconds) if seconds.isdecimal() else 0
    for error in fields.get("errors", []):
        why += f"\n  event {error.get('index')}, {error.get('field')}: {error.get('message')}"
    raise NotAccepted(why, [])


if __name__ == "__main__":
    events = [json.loads(line) for line in sys.stdin.buffer if line.strip()]
    try:
        send(events)
    except NotAccepted as error:
        print(f"{len(error.events)} of {len(events)} events were not accepted: {error}", file=sys.stderr)
        for event in error.events:
            sys.stdout.buffer.write(json.dumps(event, ensure_ascii=False).encode() + b"\n")
        sys.exit(1)
