ALTER TABLE wal_checkpoints RENAME COLUMN committed_at TO moved_at;
DROP TABLE wal_lives;
DROP TABLE wal_gaps;
DROP TABLE database_identity;
ALTER TABLE wal_checkpoints
    DROP COLUMN life,
    DROP COLUMN token,
    DROP COLUMN applied,
    DROP COLUMN duplicates,
    DROP COLUMN quarantined,
    DROP COLUMN skipped;
