-- How a journal segment becomes rows of the lake. The segment's lines are first read into the temporary table `segment`;
-- DuckDB does all the work on rows.

-- name: read
-- The lines of a segment file. `{columns}` is a fixed struct literal of column names and types.
CREATE OR REPLACE TEMP TABLE segment AS
SELECT * FROM read_json({path}, format = 'newline_delimited', columns = {columns}, maximum_object_size = 16777216)
WHERE kind <> 'group'

-- name: run_changes
INSERT INTO lake.run_changes BY NAME
SELECT
    $worker::UUID AS worker, seq, received_at, producer, kind, event_id,
    coalesce(run_event_id, event_id) AS run_event_id,
    coalesce(ts, start_time) AS ts,
    {change_columns}
FROM segment
WHERE kind IN ('run.started', 'run.updated', 'commit.associated')

-- name: events
INSERT INTO lake.events BY NAME
SELECT
    $worker::UUID AS worker, seq, received_at, producer, event_id, run_id, run_event_id, ts, type, payload,
    trace_id, span_id, parent_span_id, prev_hash, event_hash
FROM segment
WHERE kind = 'run.event'

-- name: deliveries
INSERT INTO lake.deliveries BY NAME
SELECT
    $worker::UUID AS worker, first_seq, received_at, producer, batch, first_number, received, accepted, duplicate, rejected
FROM segment
WHERE kind = 'delivery'

-- name: quarantine
INSERT INTO lake.quarantine BY NAME
SELECT
    $worker::UUID AS worker, received_at, producer, batch, number, coalesce(messages, 1) AS messages, field, reason,
    from_base64(raw) AS raw
FROM segment
WHERE kind = 'rejected'

-- name: flushes
INSERT INTO lake.flushes BY NAME
SELECT
    $worker::UUID AS worker, $segment::BIGINT AS segment, $first_seq::BIGINT AS first_seq, $last_seq::BIGINT AS last_seq,
    now() AS flushed_at

-- name: counts
-- How many rows of each table the segment holds.
SELECT
    count(*) FILTER (kind IN ('run.started', 'run.updated', 'commit.associated')),
    count(*) FILTER (kind = 'run.event'),
    count(*) FILTER (kind = 'delivery'),
    count(*) FILTER (kind = 'rejected')
FROM segment

-- name: flushed
-- How far a worker's log is in the lake: its last flushed segment and position.
SELECT coalesce(max(segment), 0), coalesce(max(last_seq), 0) FROM lake.flushes WHERE worker = $worker::UUID

-- name: last_of_any
-- The last position that any worker flushed.
SELECT coalesce(max(last_seq), 0) FROM lake.flushes

-- name: number_on
-- For each of the `$workers` (a JSON array) an empty flush behind a position that nobody has given out. Its segment is the
-- worker's last one.
INSERT INTO lake.flushes BY NAME
SELECT
    w.worker,
    coalesce((SELECT max(f.segment) FROM lake.flushes AS f WHERE f.worker = w.worker), 0) AS segment,
    (SELECT coalesce(max(last_seq), 0) + 2 FROM lake.flushes) AS first_seq,
    (SELECT coalesce(max(last_seq), 0) + 1 FROM lake.flushes) AS last_seq,
    now() AS flushed_at
FROM (SELECT unnest(from_json($workers::JSON, '["UUID"]')) AS worker) AS w

-- name: patience
-- Several workers commit to one catalog, and the second of two who do at once tries again: soon, and for about 12 s.
SET ducklake_max_retry_count = 50;
SET ducklake_retry_wait_ms = 10;
SET ducklake_retry_backoff = 1.1

-- name: keep_no_files
-- DuckDB keeps what it has read of files, also of those that are gone, until most of the machine's memory is full of it.
-- A worker reads a file about once: when it is merged.
SET enable_external_file_cache = false

-- name: buckets
-- How many accepted messages there are per bucket of time, newest first: where a window of bounded size may begin.
SELECT bucket, sum(messages)::BIGINT
FROM (
    SELECT epoch_us(ts) // $bucket_us AS bucket, count(*) AS messages FROM lake.run_changes GROUP BY ALL
    UNION ALL
    SELECT epoch_us(ts) // $bucket_us AS bucket, count(*) AS messages FROM lake.events GROUP BY ALL
)
GROUP BY bucket
ORDER BY bucket DESC

-- name: window
-- The ids of all messages at or after a time: 16 bytes and Unix seconds each.
SELECT unhex(replace(event_id::VARCHAR, '-', '')), epoch_us(ts) // 1000000
FROM lake.run_changes
WHERE ts >= to_timestamp($horizon)
UNION ALL
SELECT unhex(replace(event_id::VARCHAR, '-', '')), epoch_us(ts) // 1000000
FROM lake.events
WHERE ts >= to_timestamp($horizon)

-- name: known
-- Which of the messages in `$wanted` (a JSON array of {"id", "us"}) the lake holds. The bounds on `ts` let file
-- statistics skip what cannot hold them.
WITH wanted AS (
    SELECT unnest(from_json($wanted::JSON, '[{"id": "UUID", "us": "BIGINT"}]'), recursive := true)
)
SELECT unhex(replace(event_id::VARCHAR, '-', ''))
FROM lake.run_changes
WHERE ts BETWEEN make_timestamptz($first) AND make_timestamptz($last)
    AND (event_id, epoch_us(ts)) IN (SELECT id, us FROM wanted)
UNION ALL
SELECT unhex(replace(event_id::VARCHAR, '-', ''))
FROM lake.events
WHERE ts BETWEEN make_timestamptz($first) AND make_timestamptz($last)
    AND (event_id, epoch_us(ts)) IN (SELECT id, us FROM wanted)

-- name: known_behind
-- Which of the ids in `$wanted` (a JSON array) are of changes behind a position, whatever their time. Files of older
-- positions are skipped by their statistics.
SELECT unhex(replace(event_id::VARCHAR, '-', ''))
FROM lake.run_changes
WHERE seq > $after AND event_id IN (SELECT unnest(from_json($wanted::JSON, '["UUID"]')))
