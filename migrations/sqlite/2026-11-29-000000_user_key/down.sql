ALTER TABLE wal_checkpoints RENAME COLUMN flushed_at TO committed_at;
-- The release before hashes without a key: it has to make the rollups afresh (`fast-ingest migrate up`), and counts events until then.
UPDATE rollup_state SET rebuild_needed = 1, build_from = NULL WHERE user_key IS NOT NULL AND EXISTS (SELECT 1 FROM events);
ALTER TABLE rollup_state DROP COLUMN user_key;
ALTER TABLE rollup_overflow DROP COLUMN settled_events;
