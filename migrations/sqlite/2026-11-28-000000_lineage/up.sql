-- A number alone cannot tell a log from its copy. So the checkpoint says who put it where it stands: `life` is the life of the log that
-- wrote the event at flushed_through (each start of a server begins one; nil for what a release before this one wrote), `token` is random,
-- new with each commit. The compare-and-set compares all of it.
--
-- The counts say what became of every sequence up to flushed_through: applied + duplicates + quarantined + skipped = flushed_through.
-- `skipped` are sequences that this database does not have: stored in another database, or lost with a restore and given up by a person.
ALTER TABLE wal_checkpoints ADD COLUMN life TEXT NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000';
ALTER TABLE wal_checkpoints ADD COLUMN token TEXT NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000';
ALTER TABLE wal_checkpoints ADD COLUMN applied INTEGER NOT NULL DEFAULT 0;
ALTER TABLE wal_checkpoints ADD COLUMN duplicates INTEGER NOT NULL DEFAULT 0;
ALTER TABLE wal_checkpoints ADD COLUMN quarantined INTEGER NOT NULL DEFAULT 0;
ALTER TABLE wal_checkpoints ADD COLUMN skipped INTEGER NOT NULL DEFAULT 0;

-- The releases before did not count duplicates: those of their time count as applied.
UPDATE wal_checkpoints SET quarantined = (SELECT count(*) FROM quarantine WHERE quarantine.wal_id = wal_checkpoints.wal_id);
UPDATE wal_checkpoints SET applied = flushed_through - quarantined;

-- Which database this is, made once: a log remembers where it was flushed to. A copy or a restored backup is the same database.
CREATE TABLE database_identity (
    only_row INTEGER PRIMARY KEY DEFAULT 1 CHECK (only_row = 1),
    id TEXT NOT NULL
) STRICT;
INSERT INTO database_identity (id) VALUES (lower(hex(randomblob(16))));

-- Sequences of a log that this database does not have, because a person let the flush go on over them (`fast-ingest wal adopt`): the
-- events were lost with a restore, or are in another database, or were taken for stored.
CREATE TABLE wal_gaps (
    id INTEGER PRIMARY KEY,
    wal_id TEXT NOT NULL,
    first_sequence INTEGER NOT NULL,
    last_sequence INTEGER NOT NULL,
    reason TEXT NOT NULL,
    adopted_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
) STRICT;

-- Which life of which log wrote what this database has: each row holds for the sequences from first_sequence to the one before the next
-- row's, as far as the log is flushed. Nil for sequences that were skipped, or that a release before this one wrote; no row for what one
-- stored. A receipt names a life and a sequence, so that it is not taken for that of another copy of the log.
CREATE TABLE wal_lives (
    wal_id TEXT NOT NULL,
    first_sequence INTEGER NOT NULL,
    life TEXT NOT NULL,
    PRIMARY KEY (wal_id, first_sequence)
) STRICT, WITHOUT ROWID;
CREATE INDEX wal_lives_life ON wal_lives (life);

-- Keeps out servers of the releases before, which would move the checkpoint without its life and token. Each of their flushes begins with an
-- UPDATE of moved_at; it fails now as one on a schema that does not fit ("no such column"), which makes them keep their events in the log
-- until a server of this release flushes it.
ALTER TABLE wal_checkpoints RENAME COLUMN moved_at TO committed_at;
