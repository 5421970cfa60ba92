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

-- name: outlived
-- The runs of which more has come than was removed: what is stored of them is folded of both. `flushed` says whether the lake
-- has all of that, so that they can be folded anew from there. What other workers took of a run before its last one is in the
-- lake by then: a run moves when all have flushed. `$settled` were.
CREATE OR REPLACE TEMP TABLE outlived AS
WITH later AS (
    SELECT runs.event_id, runs.worker, runs.seq, removed.last_seq
    FROM runs
    JOIN removed ON removed.run_event_id = runs.event_id
    WHERE runs.worker IS DISTINCT FROM removed.worker OR runs.seq > removed.last_seq
    UNION ALL
    SELECT events.run_event_id, events.worker, events.seq, removed.last_seq
    FROM events
    JOIN removed ON removed.run_event_id = events.run_event_id
    WHERE events.worker IS DISTINCT FROM removed.worker OR events.seq > removed.last_seq
)
SELECT
    later.event_id,
    later.event_id || ' ' || max(later.last_seq) AS name,
    bool_and(coalesce(later.seq <= positions.lake_seq, true)) AS flushed
FROM later
LEFT JOIN positions ON positions.worker = later.worker
GROUP BY later.event_id
HAVING name NOT IN (SELECT unnest($settled::VARCHAR[]))

-- name: count_outlived
SELECT count(*), count(*) FILTER (NOT flushed) FROM outlived

-- name: settled
SELECT name FROM outlived WHERE flushed

-- name: gone
-- A run whose start came after the removal is another one. One of which more has come that the lake does not have yet
-- stays until it does: only here is what has come.
CREATE OR REPLACE TEMP TABLE gone AS
SELECT runs.event_id
FROM runs
JOIN removed ON removed.run_event_id = runs.event_id
WHERE
    runs.event_id NOT IN (SELECT event_id FROM outlived WHERE NOT flushed)
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
