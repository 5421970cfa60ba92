-- Runs by name, many names at a time. `{names}` is a parameter, a list of texts.

-- name: known
-- Of which of these event_ids anything is known, and which of them are runs.
SELECT event_id::VARCHAR, created_at IS NOT NULL
FROM runs
WHERE event_id IN (SELECT unnest({names}::VARCHAR[])::UUID)

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
