ALTER TABLE wal_checkpoints RENAME COLUMN committed_at TO moved_at;
DROP TABLE wal_gaps;
DROP TABLE database_identity;
ALTER TABLE wal_checkpoints DROP COLUMN life;
ALTER TABLE wal_checkpoints DROP COLUMN token;
ALTER TABLE wal_checkpoints DROP COLUMN applied;
ALTER TABLE wal_checkpoints DROP COLUMN duplicates;
ALTER TABLE wal_checkpoints DROP COLUMN quarantined;
ALTER TABLE wal_checkpoints DROP COLUMN skipped;
