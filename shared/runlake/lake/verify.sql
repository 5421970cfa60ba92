-- Is the lake whole? Each query gives the rows that should not be; none is right. `{lake}` is the attached lake, `{meta}`
-- DuckLake's own database of metadata: both are names of ours.

-- name: messages
-- How much there is to look at.
SELECT (SELECT count(*) FROM {lake}.run_changes) + (SELECT count(*) FROM {lake}.events)

-- name: positions
-- Workers whose positions are not those that `flushes` says, from the first to the last, each once, or counted as
-- removed. A flush of nothing leaves positions out (see `flushes`).
WITH log AS (
    SELECT worker, seq FROM {lake}.run_changes
    UNION ALL
    SELECT worker, seq FROM {lake}.events
), found AS (
    SELECT worker, min(seq) AS first, max(seq) AS last, count(*) AS n, count(DISTINCT seq) AS seqs FROM log GROUP BY worker
), flushed AS (
    SELECT
        worker,
        min(first_seq) FILTER (last_seq >= first_seq) AS first,
        max(last_seq) FILTER (last_seq >= first_seq) AS last,
        {given_out} AS messages
    FROM ({with_before})
    GROUP BY worker
), removed AS (
    {removed}
), both_said AS (
    SELECT
        coalesce(found.worker, flushed.worker) AS worker,
        coalesce(flushed.first, 1) AS first,
        coalesce(flushed.last, 0) AS last,
        coalesce(flushed.messages, 0) AS messages,
        coalesce(found.n, 0) AS n,
        coalesce(found.seqs, 0) AS seqs,
        found.first AS found_first,
        found.last AS found_last,
        coalesce(removed.messages, 0) AS removed
    FROM found
    FULL JOIN flushed ON flushed.worker = found.worker
    LEFT JOIN removed ON removed.worker = coalesce(found.worker, flushed.worker)
)
SELECT worker::VARCHAR, n - seqs AS repeated, messages - seqs - removed AS missing
FROM both_said
WHERE n <> seqs OR seqs + removed <> messages OR found_first < first OR found_last > last
    OR (removed = 0 AND (found_first <> first OR found_last <> last))
ORDER BY 1

-- name: with_before
-- Flushes, each with where the worker's one before ended.
SELECT worker, first_seq, last_seq, lag(last_seq) OVER (PARTITION BY worker ORDER BY segment, last_seq) AS before
FROM {lake}.flushes

-- name: given_out
-- How many positions a worker gave out: those between its first and its last, without those that a flush of nothing says
-- were left out.
max(last_seq) - min(first_seq) + 1
    - coalesce(sum(first_seq - before - 1) FILTER (last_seq < first_seq AND first_seq > before), 0)::BIGINT

-- name: removed
SELECT worker, sum(messages)::BIGINT AS messages FROM {lake}.removals GROUP BY worker

-- name: nothing_removed
-- In a lake of a schema that removes nothing.
SELECT NULL::UUID AS worker, 0::BIGINT AS messages WHERE false

-- name: flushes
-- Flushes that do not go on where the one before ended. A worker's first one begins at 1; or, in a lake that was restored,
-- where another worker's log ended. A flush of nothing (its last position is the one before its first) is where the list
-- of workers changed: there every worker's numbering goes on further ahead.
SELECT worker::VARCHAR, segment, first_seq, before
FROM (
    SELECT
        worker, segment, first_seq, last_seq,
        coalesce(
            lag(last_seq) OVER (PARTITION BY worker ORDER BY segment, last_seq),
            (SELECT max(o.last_seq) FROM {lake}.flushes AS o WHERE o.worker <> f.worker AND o.last_seq = f.first_seq - 1),
            0
        ) AS before
    FROM {lake}.flushes AS f
)
WHERE first_seq <> before + 1 AND NOT (last_seq = first_seq - 1 AND first_seq > before)
ORDER BY 1, 2

-- name: ids
-- Messages that were accepted more than once.
SELECT event_id::VARCHAR, count(*)
FROM (SELECT event_id FROM {lake}.run_changes UNION ALL SELECT event_id FROM {lake}.events)
GROUP BY event_id
HAVING count(*) > 1
ORDER BY 1

-- name: books
-- Batches whose numbers do not add up, and workers whose books count other than what they stored.
SELECT 'batch ' || coalesce(batch::VARCHAR, '?') || ' of ' || producer
FROM {lake}.deliveries
WHERE received <> accepted + duplicate + rejected
UNION ALL
SELECT 'worker ' || coalesce(books.worker, flushed.worker)::VARCHAR
FROM (SELECT worker, sum(accepted) AS accepted FROM {lake}.deliveries GROUP BY worker) AS books
FULL JOIN (
    SELECT worker, {given_out} AS messages FROM ({with_before}) GROUP BY worker
) AS flushed ON flushed.worker = books.worker
WHERE coalesce(books.accepted, 0) <> coalesce(flushed.messages, 0)
ORDER BY 1

-- name: chains
-- Events whose `prev_hash` is not the `event_hash` of the run's event before, in log order. Only events that carry an
-- `event_hash` are in a chain; the first one's `prev_hash` is free.
SELECT event_id::VARCHAR, run
FROM (
    SELECT
        event_id,
        coalesce(run_event_id::VARCHAR, run_id) AS run,
        prev_hash,
        row_number() OVER chain AS place,
        lag(event_hash) OVER chain AS before
    FROM {lake}.events
    WHERE event_hash IS NOT NULL
    WINDOW chain AS (PARTITION BY coalesce(run_event_id::VARCHAR, run_id), worker ORDER BY seq)
)
WHERE place > 1 AND prev_hash IS DISTINCT FROM before
ORDER BY 1

-- name: hashed_events
SELECT count(*) FROM {lake}.events WHERE event_hash IS NOT NULL

-- name: live_files
SELECT t.table_name, f.path, f.path_is_relative, f.file_size_bytes, f.record_count
FROM {meta}.ducklake_data_file AS f
JOIN {meta}.ducklake_table AS t ON t.table_id = f.table_id AND t.end_snapshot IS NULL
WHERE f.end_snapshot IS NULL
ORDER BY f.data_file_id

-- name: read_file
-- Reads every value of a file; returns how many rows it has.
SELECT count(*), bit_xor(hash(file)) FROM read_parquet({path}) AS file

-- name: size_of_file
-- Of a file in object storage, without reading it.
SELECT size FROM read_blob({path})

-- name: differing_runs
-- Runs that the lake and an export of the read model do not show alike: in one of them only, or with other values.
WITH lake_runs AS (
    SELECT {columns} FROM {lake}.runs
), model_runs AS (
    SELECT {columns} FROM read_parquet({path})
)
SELECT event_id::VARCHAR, list_sort(list(side))
FROM (
    SELECT event_id, 'lake' AS side FROM (FROM lake_runs EXCEPT FROM model_runs)
    UNION ALL
    SELECT event_id, 'read model' AS side FROM (FROM model_runs EXCEPT FROM lake_runs)
)
GROUP BY event_id
ORDER BY 1

-- name: flushed
SELECT worker::VARCHAR, max(segment), max(last_seq) FROM {lake}.flushes GROUP BY worker
