-- Rollups: what GET /metrics reads instead of the events. Times are microseconds since 1970-01-01T00:00:00Z. `users` is a set of
-- users as src/rollup/users.rs writes it: one byte of kind, then either 64-bit hashes or the bytes of an Apache DataSketches CPC
-- sketch.

-- What each flush adds, in the transaction that stores the rows. A background step merges these rows into the tables below.
-- `minutes` is the width of the bucket: 1 or 15.
CREATE TABLE rollup_deltas (
    event_name TEXT NOT NULL,
    channel TEXT NOT NULL,
    bucket INTEGER NOT NULL,
    minutes INTEGER NOT NULL CHECK (minutes IN (1, 15)),
    events INTEGER NOT NULL,
    users BLOB NOT NULL
) STRICT;
CREATE INDEX rollup_deltas_name_bucket ON rollup_deltas (event_name, bucket);

-- What a rollup row is about: an event name and a channel, where NULL means all of them. Three kinds exist: (name, channel),
-- (name, NULL) and (NULL, NULL).
CREATE TABLE rollup_series (
    id INTEGER PRIMARY KEY,
    event_name TEXT,
    channel TEXT
) STRICT;
-- Names are never empty, so that the empty text can stand for NULL, which a unique index would not compare.
CREATE UNIQUE INDEX rollup_series_name_channel ON rollup_series (coalesce(event_name, ''), coalesce(channel, ''));

-- Disjoint pieces of time: each event of a series is in exactly one of its rows here or in one delta.
CREATE TABLE rollups (
    series_id INTEGER NOT NULL,
    bucket INTEGER NOT NULL,
    minutes INTEGER NOT NULL CHECK (minutes IN (1, 15)),
    events INTEGER NOT NULL,
    users BLOB NOT NULL,
    PRIMARY KEY (series_id, bucket, minutes)
) STRICT;
-- Finds what is old enough to be merged into 15 minutes.
CREATE INDEX rollups_minutes ON rollups (bucket) WHERE minutes = 1;

-- Sums of the rows above over a UTC day. A day that has rows above and was not summed since they changed is stale, and then its
-- numbers mean nothing.
CREATE TABLE rollup_days (
    series_id INTEGER NOT NULL,
    day INTEGER NOT NULL,
    stale INTEGER NOT NULL CHECK (stale IN (0, 1)),
    events INTEGER NOT NULL,
    users BLOB NOT NULL,
    PRIMARY KEY (series_id, day)
) STRICT;
CREATE INDEX rollup_days_stale ON rollup_days (day) WHERE stale;
CREATE INDEX rollup_days_day ON rollup_days (day);

-- Days with more (event name, channel) pairs than the cap: the pairs beyond it have no series of their own on that day, and whoever
-- asks for them counts events.
CREATE TABLE rollup_overflow (
    day INTEGER PRIMARY KEY,
    events INTEGER NOT NULL
) STRICT;

-- One row. Events that were stored before there were rollups have yet to be counted: `migrate up` does that and says so here.
-- All days before `build_from` are counted already: there an interrupted run is taken up again.
CREATE TABLE rollup_state (
    only_row INTEGER PRIMARY KEY DEFAULT 1 CHECK (only_row = 1),
    rebuild_needed INTEGER NOT NULL CHECK (rebuild_needed IN (0, 1)),
    build_from INTEGER
) STRICT;

-- Keeps out servers of the releases before, which look at the schema only when they start: they would go on to store rows without deltas,
-- and nothing would ever count these. Each of their flushes begins with an UPDATE of updated_at; it fails now as one on a schema
-- that does not fit ("no such column"), which makes them keep their events in the log until a server of this release flushes it. This
-- transaction is the only writer, so the statement that comes next sees all that was ever stored without deltas.
ALTER TABLE wal_checkpoints RENAME COLUMN updated_at TO moved_at;
INSERT INTO rollup_state (rebuild_needed) SELECT EXISTS (SELECT 1 FROM events);
