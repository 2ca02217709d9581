DROP TABLE quarantine;
DROP TABLE wal_checkpoints;
DROP TABLE events;
