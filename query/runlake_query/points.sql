-- Runs by name, many names at a time. `{names}` is a parameter, a list of texts.

-- name: known
-- Which of these event_ids are runs.
SELECT event_id::VARCHAR
FROM runs
WHERE event_id IN (SELECT unnest({names}::VARCHAR[])::UUID) AND created_at IS NOT NULL

-- name: runs
-- The runs of these event_ids.
SELECT event_id::VARCHAR, run_id, epoch_us(start_time), {run}
FROM shown
WHERE event_id IN (SELECT unnest({names}::VARCHAR[])::UUID)

-- name: latest
-- The most recently created run of each run_id.
SELECT run_id, arg_max(event_id, (created_at, created_seq, event_id))::VARCHAR
FROM shown
WHERE run_id IN (SELECT unnest({names}::VARCHAR[]))
GROUP BY run_id
