-- Keeps out servers of the releases before, which would hash without the key. Each of their flushes begins with an UPDATE of
-- committed_at; it fails now as one on a schema that does not fit ("no such column"), which makes them keep their events in the log until
-- a server of this release flushes it.
ALTER TABLE wal_checkpoints RENAME COLUMN committed_at TO flushed_at;

-- Rollups know a user by a hash of the id. With a hash that everybody can compute, whoever chooses ids can choose those that an estimate
-- takes for millions. So the hash is keyed by a secret of this database, which is NULL where rollups were made without one: sets that were
-- hashed in two ways do not merge. There `fast-ingest rollup rebuild` makes the key, and all rollups afresh.
ALTER TABLE rollup_state ADD COLUMN user_key TEXT;
UPDATE rollup_state SET user_key = lower(hex(randomblob(16)))
    WHERE NOT EXISTS (SELECT 1 FROM rollup_series) AND NOT EXISTS (SELECT 1 FROM rollup_deltas);

-- What had overflowed of a day when it was rebuilt, which is done once it is over: only then is it known which pairs have most events. NULL
-- before, and when much more has come since it is due again.
ALTER TABLE rollup_overflow ADD COLUMN settled_events INTEGER;
