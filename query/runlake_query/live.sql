-- What is being applied, as it goes out. Read in the transaction that applies it, from the temporary tables of `apply.sql`.

-- name: touched
-- The runs that leave the recent ones until the commit.
SELECT event_id::VARCHAR FROM merged

-- name: runs
-- The changed runs whose start has come, as they will be shown. `{conditions}` are those of the subscribers' filters, one
-- truth value each.
SELECT
    event_id::VARCHAR, run_id, epoch_us(start_time), epoch_us(created_at), created_seq, seq, {run},
    agent_name, job_type,
    CASE WHEN status = 'running' THEN epoch_us(heartbeat_until) END,
    coalesce(epoch_us(last_event_at), 0),
    {conditions}
FROM (
    SELECT * EXCLUDE (duration_ms, shown_duration_ms), shown_duration_ms AS duration_ms
    FROM merged
    WHERE created_at IS NOT NULL
)
ORDER BY seq

-- name: events
-- The new run events, in log order.
SELECT seq, run_event_id::VARCHAR, run_id, type, {event} FROM new_events ORDER BY seq

-- name: matches
-- Which of the runs that new events are about pass the filters.
SELECT event_id::VARCHAR, {conditions}
FROM (
    SELECT * EXCLUDE (duration_ms, shown_duration_ms), shown_duration_ms AS duration_ms
    FROM (
        SELECT * FROM runs WHERE rowid IN (SELECT place FROM touched WHERE events > 0 AND NOT changed)
        UNION ALL BY NAME
        SELECT * FROM merged
    )
    WHERE created_at IS NOT NULL
)

-- name: promises
-- What running runs have promised, and when the last of their events was.
SELECT
    event_id::VARCHAR, run_id, agent_name, job_type, epoch_us(heartbeat_until), coalesce(epoch_us(last_event_at), 0)
FROM runs
WHERE created_at IS NOT NULL AND status = 'running' AND heartbeat_until IS NOT NULL

-- name: spoken
-- Of which runs there are new events, and the latest time of each.
SELECT run_event_id::VARCHAR, max(epoch_us(ts)) FROM new_events WHERE run_event_id IS NOT NULL GROUP BY run_event_id

-- name: shown
-- Of some runs the status, and which of the subscribers' filters they pass.
SELECT event_id::VARCHAR, status, {conditions} FROM shown WHERE event_id IN (SELECT unnest($event_ids::VARCHAR[])::UUID)

-- name: latest_created
SELECT coalesce(max(epoch_us(created_at)), 0) FROM runs
