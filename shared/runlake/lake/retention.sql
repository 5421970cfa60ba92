-- What is removed from the lake: whole runs, because they are old or because somebody asked. `{lake}` is the attached lake.

-- name: horizon
-- What is older is expired; NULL where nothing ever was. In Unix seconds.
SELECT (epoch_us(max(horizon)) // 1000000)::BIGINT FROM {lake}.horizons

-- name: forgotten
-- The runs that somebody asked to forget.
SELECT DISTINCT run_event_id::VARCHAR FROM {lake}.forgets

-- name: count_forgotten
-- How many of these still have anything.
SELECT count(DISTINCT run_event_id)
FROM (SELECT run_event_id FROM {lake}.run_changes UNION ALL SELECT run_event_id FROM {lake}.events)
WHERE run_event_id IN (SELECT run_event_id FROM {lake}.forgets)

-- name: ask
INSERT INTO {lake}.forgets VALUES ($run::UUID, $now::TIMESTAMPTZ)

-- name: find
-- The run that a name means: that of this event_id, or else the latest created one of this run_id.
SELECT event_id::VARCHAR, run_id, status, created_at::VARCHAR
FROM {lake}.runs
WHERE event_id = TRY_CAST($run AS UUID) OR run_id = $run
ORDER BY event_id IS NOT DISTINCT FROM TRY_CAST($run AS UUID) DESC, created_at DESC, event_id DESC
LIMIT 1

-- name: extent
-- How many changes and events a run has.
SELECT
    (SELECT count(*) FROM {lake}.run_changes WHERE run_event_id = $run::UUID),
    (SELECT count(*) FROM {lake}.events WHERE run_event_id = $run::UUID)

-- name: choose_candidates
-- Runs of which anything is from before `$horizon`, by its own time and by that of its receipt: the files' statistics say
-- where to look, so that it costs next to nothing when there are none.
CREATE OR REPLACE TEMP TABLE candidates AS
SELECT run_event_id FROM {lake}.run_changes
WHERE ts < to_timestamp($horizon) AND received_at < to_timestamp($horizon)
UNION
SELECT run_event_id FROM {lake}.events
WHERE ts < to_timestamp($horizon) AND received_at < to_timestamp($horizon) AND run_event_id IS NOT NULL

-- name: count_candidates
SELECT count(*) FROM candidates

-- name: old
-- Those of them all of whose changes and events are; the newest of many may wait.
SELECT run_event_id
FROM candidates
WHERE run_event_id NOT IN (
    SELECT run_event_id FROM {lake}.run_changes
    WHERE (ts >= to_timestamp($horizon) OR received_at >= to_timestamp($horizon)) AND run_event_id IN (FROM candidates)
    UNION
    SELECT run_event_id FROM {lake}.events
    WHERE (ts >= to_timestamp($horizon) OR received_at >= to_timestamp($horizon)) AND run_event_id IN (FROM candidates)
)

-- name: count_old
SELECT count(*) FROM ({old})

-- name: choose_old
CREATE OR REPLACE TEMP TABLE removing AS SELECT run_event_id FROM ({old}) ORDER BY run_event_id LIMIT $most

-- name: choose_forgotten
CREATE OR REPLACE TEMP TABLE removing AS SELECT DISTINCT run_event_id FROM {lake}.forgets

-- name: note
-- How much of whose log is removed, so that the books of the positions still balance. One row for each run and worker.
INSERT INTO {lake}.removals
SELECT worker, run_event_id, max(seq), count(*), $now::TIMESTAMPTZ, $why
FROM (
    SELECT worker, run_event_id, seq FROM {lake}.run_changes WHERE run_event_id IN (FROM removing)
    UNION ALL
    SELECT worker, run_event_id, seq FROM {lake}.events WHERE run_event_id IN (FROM removing)
)
GROUP BY worker, run_event_id

-- name: remove_changes
DELETE FROM {lake}.run_changes WHERE run_event_id IN (FROM removing)

-- name: remove_events
DELETE FROM {lake}.events WHERE run_event_id IN (FROM removing)

-- name: set_horizon
INSERT INTO {lake}.horizons
SELECT to_timestamp($horizon), $now::TIMESTAMPTZ
WHERE to_timestamp($horizon) > coalesce((SELECT max(horizon) FROM {lake}.horizons), to_timestamp(0))
