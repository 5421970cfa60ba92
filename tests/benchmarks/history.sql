-- A long history, made from a seed: 200 agents with 30 kinds of jobs, trees of eight runs, one run in ten with a commit (four
-- to a commit), tokens and costs, no to three events each. The runs `$first` to `$last`, spread evenly over `$days` before `$end`.

-- name: runs
-- What is drawn for each run. Everything of a run is computed from its number, so that parts can be made apart. `base` is the
-- number of messages before it: a start and an end each, events in a cycle of four, a commit in a cycle of ten.
CREATE OR REPLACE TEMP TABLE drawn AS
SELECT
    * EXCLUDE (tree),
    (printf('%012x', epoch_ms(start_time)) || '7' || left(md5($seed || ':' || i), 3) || '8'
        || substr(md5($seed || ':' || i), 4, 15))::UUID AS id,
    hash($seed, tree) AS of_tree,
    hash($seed, i, 1) / 18446744073709551616.0 AS dice,
    hash($seed, i, 2) / 18446744073709551616.0 AS other_dice,
    2 * i + 6 * (i // 4) + [0, 0, 1, 3][i % 4 + 1] + (i + 9) // 10 AS base,
    i % 4 AS events,
    i % 10 = 0 AS has_commit
FROM (
    SELECT
        i,
        i // 8 AS tree,
        date_trunc('milliseconds',
            $end::TIMESTAMPTZ - to_microseconds((($total - i) * ($days * 86400000000.0 / $total))::BIGINT)
        ) AS start_time
    FROM range($first, $last + 1) AS numbers (i)
);

CREATE OR REPLACE TEMP TABLE made AS
SELECT
    drawn.*,
    CASE
        WHEN i % 8 = 0 THEN NULL
        WHEN i % 8 < 5 THEN first_value(id) OVER (PARTITION BY i // 8 ORDER BY i)
        ELSE nth_value(id, 2) OVER (PARTITION BY i // 8 ORDER BY i ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
    END AS parent,
    CASE
        WHEN dice < 0.94 THEN 'success'
        WHEN dice < 0.97 THEN 'failure'
        WHEN dice < 0.98 THEN 'partial'
        WHEN dice < 0.99 THEN 'timeout'
        ELSE 'cancelled'
    END AS status,
    (20 * exp(9 * other_dice))::BIGINT AS duration_ms
FROM drawn

-- name: changes
INSERT INTO lake.run_changes BY NAME
SELECT
    $worker::UUID AS worker, base + 1 AS seq, start_time AS received_at, 'fleet-' || of_tree % 16 AS producer,
    'run.started' AS kind, id AS event_id, id AS run_event_id, start_time AS ts,
    id::VARCHAR AS run_id, parent::VARCHAR AS parent_run_id,
    'agent-' || printf('%03d', (of_tree % 200)::INTEGER) AS agent_name,
    'job-' || printf('%02d', ((of_tree // 200 + i % 8) % 30)::INTEGER) AS job_type,
    ['cron', 'manual', 'webhook'][(of_tree % 3 + 1)::INTEGER] AS trigger_type,
    ['prod', 'test'][(of_tree % 10 = 0)::INTEGER + 1] AS environment,
    'host-' || of_tree % 40 AS host,
    'product-' || of_tree % 12 AS product,
    'site-' || of_tree % 90 || '.example' AS website,
    'running' AS status,
    start_time
FROM made
UNION ALL BY NAME
SELECT
    $worker::UUID AS worker, base + 2 + events + has_commit::INTEGER AS seq,
    start_time + to_milliseconds(duration_ms) AS received_at, 'fleet-' || of_tree % 16 AS producer, 'run.updated' AS kind,
    md5($seed || 'u' || i)::UUID AS event_id, id AS run_event_id, start_time + to_milliseconds(duration_ms) AS ts,
    status, start_time + to_milliseconds(duration_ms) AS end_time,
    (duration_ms % 50)::BIGINT AS items_discovered, (duration_ms % 40)::BIGINT AS items_succeeded,
    CASE WHEN status = 'failure' THEN 'it failed at step ' || duration_ms % 9 END AS error_summary,
    'model-' || of_tree % 8 AS model, 'provider-' || of_tree % 3 AS provider,
    (duration_ms * 3)::BIGINT AS input_tokens, (duration_ms // 2)::BIGINT AS output_tokens,
    (duration_ms)::BIGINT AS cache_read_tokens, (duration_ms * 7 / 1000000)::DECIMAL(18,9) AS cost_usd
FROM made
UNION ALL BY NAME
SELECT
    $worker::UUID AS worker, base + 2 AS seq, start_time + INTERVAL 1 MILLISECOND AS received_at,
    'fleet-' || of_tree % 16 AS producer, 'commit.associated' AS kind, md5($seed || 'c' || i)::UUID AS event_id,
    id AS run_event_id, start_time + INTERVAL 1 MILLISECOND AS ts,
    md5($seed || 'h' || i // 40) || left(md5($seed || 'i' || i // 40), 8) AS commit_hash, 'ci' AS commit_source,
    'dev-' || of_tree % 30 AS commit_author
FROM made
WHERE has_commit
ORDER BY seq

-- name: events
INSERT INTO lake.events BY NAME
SELECT
    $worker::UUID AS worker, base + 1 + has_commit::INTEGER + number AS seq,
    start_time + to_milliseconds(number) AS received_at, 'fleet-' || of_tree % 16 AS producer,
    md5($seed || 'e' || i || ':' || number)::UUID AS event_id, id::VARCHAR AS run_id, id AS run_event_id,
    start_time + to_milliseconds(number) AS ts, ['page', 'tool', 'note'][number] AS type,
    json_object('number', number, 'text', left(md5(i::VARCHAR), 20)) AS payload
FROM (SELECT *, unnest(range(1, events + 1)) AS number FROM made)
ORDER BY seq

-- name: books
INSERT INTO lake.deliveries BY NAME
SELECT
    $worker::UUID AS worker, min(base) + 1 AS first_seq, max(start_time) AS received_at, 'fleet' AS producer,
    $segment AS batch, min(base) + 1 AS first_number, sum(2 + events + has_commit::INTEGER)::BIGINT AS received,
    sum(2 + events + has_commit::INTEGER)::BIGINT AS accepted, 0 AS duplicate, 0 AS rejected
FROM made;

INSERT INTO lake.flushes BY NAME
SELECT
    $worker::UUID AS worker, $segment AS segment, min(base) + 1 AS first_seq,
    max(base + 2 + events + has_commit::INTEGER) AS last_seq, max(start_time) AS flushed_at
FROM made

-- name: last_seq
SELECT max(base + 2 + events + has_commit::INTEGER) FROM made
