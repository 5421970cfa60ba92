-- Runs that retention has removed from the lake. `{lake}` is a copy of its catalog.

-- name: has_removals
SELECT count(*) FROM duckdb_tables() WHERE database_name = {lake} AND table_name = 'removals'

-- name: extent
SELECT count(*), max(removed_at)::VARCHAR FROM {lake}.removals

-- name: take
-- Each run once for each worker.
CREATE OR REPLACE TEMP TABLE removed AS
SELECT worker, run_event_id, max(last_seq) AS last_seq
FROM {lake}.removals
GROUP BY ALL

-- name: runs
-- A run whose start came after the removal is another one.
DELETE FROM runs USING removed
WHERE
    runs.event_id = removed.run_event_id
    AND coalesce(runs.worker = removed.worker, true)
    AND coalesce(runs.created_seq, runs.seq, 0) <= removed.last_seq

-- name: events
DELETE FROM events USING removed
WHERE
    events.run_event_id = removed.run_event_id AND events.worker = removed.worker AND events.seq <= removed.last_seq

-- name: associations
DELETE FROM associations USING removed
WHERE
    associations.run_event_id = removed.run_event_id
    AND associations.worker = removed.worker
    AND associations.seq <= removed.last_seq
