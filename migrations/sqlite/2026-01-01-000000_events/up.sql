-- One row an event. ts is microseconds since 1970-01-01T00:00:00Z, tags a JSON array, metadata the JSON object as sent.
CREATE TABLE events (
    ts INTEGER NOT NULL,
    event_name TEXT NOT NULL,
    channel TEXT NOT NULL,
    user_id TEXT NOT NULL,
    event_id TEXT,
    campaign_id TEXT,
    tags TEXT,
    metadata TEXT
) STRICT;

-- What a metrics query asks for: one name, a range of time.
CREATE INDEX events_name_ts ON events (event_name, ts);

-- An event that carries an id is stored once; events without one pay nothing.
CREATE UNIQUE INDEX events_event_id ON events (user_id, ts, event_id) WHERE event_id IS NOT NULL;

-- How far each write-ahead log has been flushed. Moved by compare-and-set in the transaction that stores the rows.
CREATE TABLE wal_checkpoints (
    wal_id TEXT PRIMARY KEY,
    flushed_through INTEGER NOT NULL,
    updated_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
) STRICT;

-- Events that this database refused, one by one, so that the rest could go on: `encoded` is the event as the log held it,
-- `readable` the same as JSON text for a person.
CREATE TABLE quarantine (
    wal_id TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    code TEXT NOT NULL,
    message TEXT NOT NULL,
    readable TEXT NOT NULL,
    encoded BLOB NOT NULL,
    quarantined_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (wal_id, sequence)
) STRICT;
