-- One row an event. Partitions (events_2026_02 for February 2026, in UTC) are made on demand, before the batch that needs
-- them. There is no DEFAULT partition: rows in it would forbid adding the month that they belong to.
CREATE TABLE events (
    ts timestamptz NOT NULL,
    event_name text NOT NULL,
    channel text NOT NULL,
    user_id text NOT NULL,
    event_id text,
    campaign_id text,
    tags text[],
    metadata jsonb
) PARTITION BY RANGE (ts);

-- Events arrive roughly in the order of their time, so block ranges find a time range at next to no cost for the writer.
CREATE INDEX events_ts ON events USING brin (ts);

-- An event that carries an id is stored once. The key holds ts because partitioning asks for it, and user_id because a later
-- distribution by user would: a retry repeats all three unchanged. Events without an id pay nothing.
CREATE UNIQUE INDEX events_event_id ON events (user_id, ts, event_id) WHERE event_id IS NOT NULL;

-- How far each write-ahead log has been flushed. Moved by compare-and-set in the transaction that stores the rows.
CREATE TABLE wal_checkpoints (
    wal_id uuid PRIMARY KEY,
    flushed_through bigint NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- Events that this database refused, one by one, so that the rest could go on. Nothing here depends on the event's own values
-- being acceptable: `encoded` is the event as the log held it, `readable` the same as JSON text for a person.
CREATE TABLE quarantine (
    wal_id uuid NOT NULL,
    sequence bigint NOT NULL,
    code text NOT NULL,
    message text NOT NULL,
    readable text NOT NULL,
    encoded bytea NOT NULL,
    quarantined_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (wal_id, sequence)
);
