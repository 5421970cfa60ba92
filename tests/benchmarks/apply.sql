-- The read model that spans are applied to.

-- name: runs
-- `$count` finished runs, one a second up to `$until_ms` (since 1970), with ids in the order of their start (`$ordered`)
-- as the SDK makes them, or random ones.
INSERT INTO runs BY NAME
SELECT
    CASE WHEN $ordered THEN concat(lpad(hex(ms), 12, '0'), '7', right(md5(i::VARCHAR), 19))::UUID ELSE md5(i::VARCHAR)::UUID END
        AS event_id,
    'run-' || i AS run_id,
    'agent-' || (i % 50) AS agent_name,
    'job-' || (i % 7) AS job_type,
    'product-' || (i % 11) AS product,
    'success' AS status,
    make_timestamptz(ms * 1000) AS start_time,
    make_timestamptz(ms * 1000 + 5_000_000) AS end_time,
    i % 100 AS items_succeeded,
    'claude-' || (i % 5) AS model,
    i % 9_000 AS input_tokens,
    i % 700 AS output_tokens,
    json_object('k', i)::JSON AS metrics_json,
    start_time AS created_at,
    end_time AS updated_at,
    3 * i AS created_seq,
    3 * i + 2 AS seq,
    $worker::UUID AS worker,
    5_000 AS shown_duration_ms,
    i % 20 AS events,
    start_time AS first_event_at,
    end_time AS last_event_at
FROM (SELECT i, $until_ms - ($count - i) * 1000 AS ms FROM range($count) AS numbers(i))

-- name: position
INSERT INTO positions VALUES ($worker::UUID, $seq, $seq, 1, 1)

-- name: some_runs
-- Runs from all over the table.
SELECT event_id::VARCHAR FROM runs USING SAMPLE 4096 ROWS
