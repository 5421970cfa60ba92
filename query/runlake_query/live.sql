-- What is being applied, as it goes out. Read in the transaction that applies it, from the temporary tables of `apply.sql`.

-- name: touched
-- The runs that leave the recent ones until the commit.
SELECT event_id::VARCHAR FROM merged

-- name: runs
-- The changed runs whose start has come, as they will be shown. `{conditions}` are those of the subscribers' filters, one
-- truth value each.
SELECT event_id::VARCHAR, run_id, epoch_us(start_time), epoch_us(created_at), created_seq, seq, {run}, {conditions}
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

-- name: latest_created
SELECT coalesce(max(epoch_us(created_at)), 0) FROM runs
