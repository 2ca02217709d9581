DROP INDEX events_ts;
CREATE INDEX events_ts ON events USING brin (ts);
ALTER TABLE wal_checkpoints RENAME COLUMN moved_at TO updated_at;
DROP TABLE rollup_state;
DROP TABLE rollup_overflow;
DROP TABLE rollup_days;
DROP TABLE rollups;
DROP TABLE rollup_series;
DROP TABLE rollup_deltas;
