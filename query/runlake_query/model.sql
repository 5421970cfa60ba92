-- The read model: what requests are answered from. Local, disposable, without indexes (see the measured facts of the
-- design), and written by the follower alone. Its version is a digest of this file and of the rules that fill it.

-- name: attach
-- Without a write-ahead log: see `checkpoints.py`. `{path}` is the read model's file.
ATTACH {path} AS model (RECOVERY_MODE no_wal_writes)

-- name: use
USE model

-- name: tables
-- `runs`: one row per run that anything was said about, as folded. Fields are as they were set, for folding further;
-- `shown_duration_ms`, `cost_source` and `cost_table_version` are as they are shown. A run whose start has not come has no
-- `created_at`. `cost_usd` was set where `cost_source` is 'reported', else it is as shown; `priced_by` is the price list by which
-- a cost was computed, or could not be. `events` counts its run events over all history, and their times are bounds for
-- looking them up; `first_change_at` and `updated_at` are those of its changes. Ids are not packed into fewer bits: that saves a
-- third of their bytes, and to read one takes as long as to read 2,048 (10 million runs, a page of 100 far apart: 45 ms of
-- processor time with packed ids, else 26).
CREATE TABLE runs (
    event_id UUID NOT NULL USING COMPRESSION uncompressed,
    {run_columns},
    created_at TIMESTAMPTZ,
    updated_at TIMESTAMPTZ,
    created_seq BIGINT,
    seq BIGINT,
    worker UUID,
    shown_duration_ms BIGINT,
    cost_source VARCHAR,
    cost_table_version VARCHAR,
    priced_by UUID,
    events BIGINT NOT NULL,
    first_event_at TIMESTAMPTZ,
    last_event_at TIMESTAMPTZ,
    first_change_at TIMESTAMPTZ
);

-- The runs whose start has not come. Mostly none: then nobody needs to look at each run for that.
CREATE TABLE unstarted (event_id UUID NOT NULL);

-- How many runs are shown, by what lists are filtered by most: several rows of a group are to be summed, and some of them
-- take away (10 million runs of 200 agents: 0.5 ms to say how many of one agent failed, else 27 of processor time).
CREATE TABLE run_counts (agent_name VARCHAR, job_type VARCHAR, status VARCHAR, runs BIGINT NOT NULL);

-- The fields that some run may have: of what no run ever had nothing needs to be read.
CREATE TABLE used_fields (name VARCHAR NOT NULL);

-- Run events at or after `meta.events_since`, and older ones that the lake does not have yet.
CREATE TABLE events (
    worker UUID NOT NULL,
    seq BIGINT NOT NULL,
    event_id UUID NOT NULL,
    run_id VARCHAR NOT NULL,
    run_event_id UUID,
    ts TIMESTAMPTZ NOT NULL,
    type VARCHAR NOT NULL,
    payload JSON,
    trace_id VARCHAR,
    span_id VARCHAR,
    parent_span_id VARCHAR
);

-- Every commit that was ever said of a run, by whatever message. `sha` is in lower case; `said` is as it was written, where that is
-- another text. Hashes have at least 7 characters.
CREATE TABLE associations (
    sha VARCHAR NOT NULL,
    said VARCHAR,
    run_event_id UUID NOT NULL USING COMPRESSION uncompressed,
    commit_source VARCHAR,
    commit_author VARCHAR,
    commit_timestamp TIMESTAMPTZ,
    ts TIMESTAMPTZ NOT NULL,
    worker UUID NOT NULL,
    seq BIGINT NOT NULL
);

-- Counts of the events that name a `run_id` and no run. They belong to the most recently created run of that `run_id`,
-- which is decided when they are read, so that the answer depends on the log and not on the order of its arrival.
CREATE TABLE loose_events (
    run_id VARCHAR NOT NULL,
    events BIGINT NOT NULL,
    first_event_at TIMESTAMPTZ NOT NULL,
    last_event_at TIMESTAMPTZ NOT NULL
);

-- The books, summed over the batches up to a worker's position in the lake. What the feed says of later segments, and what
-- had nothing to accept at the very end of the log, is kept apart until the lake has its segment, and replaced then.
CREATE TABLE producers (
    worker UUID NOT NULL,
    producer VARCHAR NOT NULL,
    received BIGINT NOT NULL,
    accepted BIGINT NOT NULL,
    duplicate BIGINT NOT NULL,
    rejected BIGINT NOT NULL,
    first_seen TIMESTAMPTZ NOT NULL,
    last_seen TIMESTAMPTZ NOT NULL
);
CREATE TABLE open_deliveries (
    worker UUID NOT NULL,
    segment BIGINT NOT NULL,
    producer VARCHAR NOT NULL,
    received_at TIMESTAMPTZ NOT NULL,
    first_number BIGINT,
    received BIGINT NOT NULL,
    accepted BIGINT NOT NULL,
    duplicate BIGINT NOT NULL,
    rejected BIGINT NOT NULL
);

-- Which of a producer's own numbers have come: ranges that neither overlap nor touch.
CREATE TABLE producer_ranges (
    worker UUID NOT NULL,
    producer VARCHAR NOT NULL,
    first_number BIGINT NOT NULL,
    last_number BIGINT NOT NULL
);

-- How far each worker's log is reflected in all tables above, by whatever way it came; how much of that the lake has
-- confirmed, with its last journal segment; and of which segment the last group of the feed was.
CREATE TABLE positions (
    worker UUID NOT NULL,
    seq BIGINT NOT NULL,
    lake_seq BIGINT NOT NULL,
    segment BIGINT NOT NULL,
    feed_segment BIGINT NOT NULL
);

-- The price list in force, as the lake's `prices` has it, and until when each price holds.
CREATE TABLE prices (
    list UUID NOT NULL,
    version INTEGER NOT NULL,
    source VARCHAR NOT NULL,
    written_at TIMESTAMPTZ NOT NULL,
    model VARCHAR NOT NULL,
    valid_from TIMESTAMPTZ NOT NULL,
    input DECIMAL(18,9) NOT NULL,
    output DECIMAL(18,9) NOT NULL,
    cache_read DECIMAL(18,9),
    cache_write DECIMAL(18,9),
    valid_until TIMESTAMPTZ
);

CREATE TABLE meta (version VARCHAR NOT NULL, lake UUID, events_since TIMESTAMPTZ NOT NULL);

-- Runs as they are shown: those whose start came.
CREATE VIEW shown AS
SELECT
    * EXCLUDE (duration_ms, shown_duration_ms),
    shown_duration_ms AS duration_ms
FROM runs
WHERE created_at IS NOT NULL;

-- The same when `unstarted` is empty (10 million runs, counted: 4 ms of processor time instead of 34).
CREATE VIEW every_run AS SELECT * EXCLUDE (duration_ms, shown_duration_ms), shown_duration_ms AS duration_ms FROM runs;

-- The loose events of each run that has any.
CREATE VIEW loose_of_run AS
SELECT latest.event_id, loose_events.* EXCLUDE (run_id)
FROM loose_events
JOIN (
    SELECT run_id, arg_max(event_id, (created_at, created_seq, event_id)) AS event_id
    FROM runs
    WHERE created_at IS NOT NULL AND run_id IN (SELECT run_id FROM loose_events)
    GROUP BY run_id
) AS latest USING (run_id);

-- RFC 3339 in UTC, with a fraction only when it is not zero.
CREATE MACRO rfc3339(t) AS replace((t AT TIME ZONE 'UTC')::VARCHAR, ' ', 'T') || 'Z';

-- name: stamp
INSERT INTO meta VALUES ($version, NULL, $events_since::TIMESTAMPTZ)

-- name: read_stamp
SELECT version, lake::VARCHAR FROM meta

-- name: set_lake
UPDATE meta SET lake = $lake::UUID

-- name: empty
-- Forgets everything, for another lake.
DELETE FROM runs;
DELETE FROM unstarted;
DELETE FROM run_counts;
DELETE FROM used_fields;
DELETE FROM events;
DELETE FROM associations;
DELETE FROM loose_events;
DELETE FROM producers;
DELETE FROM open_deliveries;
DELETE FROM producer_ranges;
DELETE FROM positions;
DELETE FROM prices;
UPDATE meta SET lake = $lake::UUID, events_since = $events_since::TIMESTAMPTZ

-- name: count_runs
SELECT count(*) FROM runs

-- name: unstarted
-- A row where there are any: EXISTS takes 0.7 ms, this 0.3.
SELECT true FROM unstarted LIMIT 1

-- name: used_fields
SELECT name FROM used_fields

-- name: positions
SELECT worker::VARCHAR, seq FROM positions

-- name: lake_positions
SELECT worker::VARCHAR, lake_seq FROM positions
