-- Trees of runs. A run names its parent by run_id, and several runs may have that run_id. Its parent is the one of them that
-- started last before it did (at the same time counts), or else the first to start; a run that names itself has no parent.

-- name: nodes
-- What a tree is made of. `{runs}` is a condition on shown runs.
SELECT
    event_id::VARCHAR, run_id, parent_run_id, epoch_us(start_time), epoch_us(end_time), status, duration_ms, input_tokens,
    output_tokens, cache_read_tokens, cache_write_tokens, cost_usd, events
FROM shown
WHERE {runs}

-- name: by_event_ids
event_id IN (SELECT unnest($ids::VARCHAR[])::UUID)

-- name: namesakes
-- The runs of these run_ids in the order in which they take children: by start, then by creation.
SELECT run_id, event_id::VARCHAR, epoch_us(start_time)
FROM shown
WHERE run_id IN (SELECT unnest($names::VARCHAR[]))
ORDER BY start_time, created_at, created_seq, event_id

-- name: children
-- The children of runs, each given by its run_id and the time from which (NULL: always) and until which it takes them.
SELECT
    taking.parent, event_id::VARCHAR, run_id, parent_run_id, epoch_us(start_time), epoch_us(end_time), status, duration_ms,
    input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, cost_usd, events
FROM shown
JOIN (
    SELECT
        unnest($parents::VARCHAR[]) AS parent, unnest($names::VARCHAR[]) AS name,
        unnest($since::BIGINT[]) AS since, unnest($until::BIGINT[]) AS until
) AS taking
    ON shown.parent_run_id = taking.name
    AND (taking.since IS NULL OR epoch_us(shown.start_time) >= taking.since)
    AND (taking.until IS NULL OR epoch_us(shown.start_time) < taking.until)
WHERE shown.parent_run_id != shown.run_id
ORDER BY start_time, event_id
LIMIT $limit

-- name: bodies
-- The runs as they are shown; the times are those of the first and the last of them, so that others are not looked at.
SELECT event_id::VARCHAR, {run}
FROM shown
WHERE
    start_time >= make_timestamptz($first) AND start_time <= make_timestamptz($last)
    AND event_id IN (SELECT unnest($ids::VARCHAR[])::UUID)
