-- Rollups: what GET /metrics reads instead of the events. `users` is a set of users as src/rollup/users.rs writes it: one byte of
-- kind, then either 64-bit hashes or the bytes of an Apache DataSketches CPC sketch. It is as small as it gets, so it is never
-- compressed again.

-- What each flush adds, in the transaction that stores the rows: insert only, so that servers never wait for each other. A
-- background step merges these rows into the tables below. `minutes` is the width of the bucket: 1 or 15.
CREATE TABLE rollup_deltas (
    event_name text NOT NULL,
    channel text NOT NULL,
    bucket timestamptz NOT NULL,
    minutes smallint NOT NULL CHECK (minutes IN (1, 15)),
    events bigint NOT NULL,
    users bytea NOT NULL
) WITH (
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_analyze_scale_factor = 0,
    autovacuum_analyze_threshold = 50000,
    -- Dead entries in few pages would otherwise be left for later, and keep an empty table from shrinking.
    vacuum_index_cleanup = on
);
ALTER TABLE rollup_deltas ALTER COLUMN users SET STORAGE EXTERNAL;
CREATE INDEX rollup_deltas_name_bucket ON rollup_deltas (event_name, bucket);

-- What a rollup row is about: an event name and a channel, where NULL means all of them. Three kinds exist: (name, channel),
-- (name, NULL) and (NULL, NULL).
CREATE TABLE rollup_series (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_name text,
    channel text,
    UNIQUE NULLS NOT DISTINCT (event_name, channel)
);

-- Disjoint pieces of time: each event of a series is in exactly one of its rows here or in one delta. Room is left in each page
-- because minutes are updated again and again while they are new.
CREATE TABLE rollups (
    series_id integer NOT NULL,
    bucket timestamptz NOT NULL,
    minutes smallint NOT NULL CHECK (minutes IN (1, 15)),
    events bigint NOT NULL,
    users bytea NOT NULL,
    PRIMARY KEY (series_id, bucket, minutes)
) WITH (fillfactor = 90);
ALTER TABLE rollups ALTER COLUMN users SET STORAGE EXTERNAL;
-- Finds what is old enough to be merged into 15 minutes.
CREATE INDEX rollups_minutes ON rollups (bucket) WHERE minutes = 1;

-- Sums of the rows above over a UTC day. A day that has rows above and was not summed since they changed is stale, and then its
-- numbers mean nothing.
CREATE TABLE rollup_days (
    series_id integer NOT NULL,
    day timestamptz NOT NULL,
    stale boolean NOT NULL,
    events bigint NOT NULL,
    users bytea NOT NULL,
    PRIMARY KEY (series_id, day)
);
ALTER TABLE rollup_days ALTER COLUMN users SET STORAGE EXTERNAL;
CREATE INDEX rollup_days_stale ON rollup_days (day) WHERE stale;
CREATE INDEX rollup_days_day ON rollup_days (day);

-- Days with more (event name, channel) pairs than the cap: the pairs beyond it have no series of their own on that day, and whoever
-- asks for them counts events.
CREATE TABLE rollup_overflow (
    day timestamptz PRIMARY KEY,
    events bigint NOT NULL
);

-- One row. Events that were stored before there were rollups have yet to be counted: `migrate up` does that and says so here.
-- All days before `build_from` are counted already: there an interrupted run is taken up again.
CREATE TABLE rollup_state (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    rebuild_needed boolean NOT NULL,
    build_from timestamptz
);

-- Keeps out servers of the releases before, which look at the schema only when they start: they would go on to store rows without deltas,
-- and nothing would ever count these. Each of their flushes begins with an UPDATE of updated_at; it fails now as one on a schema
-- that does not fit (42703), which makes them keep their events in the log until a server of this release flushes it. The lock that this
-- takes is granted when all open flushes have ended. So the statement that comes next, which reads a fresh snapshot (READ COMMITTED,
-- see src/store/postgres/migrate.rs), sees all that was ever stored without deltas.
ALTER TABLE wal_checkpoints RENAME COLUMN updated_at TO moved_at;
INSERT INTO rollup_state (rebuild_needed) SELECT EXISTS (SELECT FROM events);

-- Queries read events at the edges of their range, some minutes each. Ranges of 32 pages instead of 128 let them read a third.
DROP INDEX events_ts;
CREATE INDEX events_ts ON events USING brin (ts) WITH (pages_per_range = 32);
