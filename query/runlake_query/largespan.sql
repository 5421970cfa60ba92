-- Applying a span of so many messages that they are not copied first: runs that are new are folded from the lake's files straight
-- into the read model. `{changes}` and `{events}` are queries of the span's rows there.

-- name: changes
(SELECT * FROM {lake}.run_changes WHERE worker = {worker}::UUID AND seq > {after} AND seq <= {upto})

-- name: events
(SELECT * FROM {lake}.events WHERE worker = {worker}::UUID AND seq > {after} AND seq <= {upto})

-- name: inserted
-- While `touched` is filled. Position and worker alone do not tell: a run that moved may be stored with the position of its
-- last worker, and another one as its worker.
(
    SELECT *, rowid AS place
    FROM runs
    WHERE worker = {worker}::UUID AND seq > {after} AND event_id IN (SELECT event_id FROM touched WHERE place IS NULL)
)

-- name: count
SELECT
    (SELECT count(*) FROM {events}),
    (SELECT count(*) FROM {events} WHERE run_event_id IS NULL),
    count(*),
    {set_fields}
FROM {changes}

-- name: touch
INSERT INTO touched BY NAME
SELECT new.*, runs.rowid AS place
FROM (
    SELECT
        run_event_id AS event_id,
        count(*) FILTER (NOT changed) AS events,
        min(ts) FILTER (NOT changed) AS first_event_at,
        max(ts) FILTER (NOT changed) AS last_event_at,
        bool_or(changed) AS changed
    FROM (
        SELECT run_event_id, ts, true AS changed FROM {changes}
        UNION ALL
        SELECT run_event_id, ts, false AS changed FROM {events} WHERE run_event_id IS NOT NULL
    )
    GROUP BY run_event_id
) AS new
LEFT JOIN runs ON runs.event_id = new.event_id

-- name: of_stored
(SELECT * FROM {changes} WHERE run_event_id IN (SELECT event_id FROM touched WHERE changed AND place IS NOT NULL))

-- name: of_new
(SELECT * FROM {changes} WHERE run_event_id NOT IN (SELECT event_id FROM touched WHERE changed AND place IS NOT NULL))

-- name: stage
INSERT INTO new_changes BY NAME SELECT * FROM {changes}

-- name: counts
SELECT event_id AS run_event_id, events, NULL::TIMESTAMPTZ AS first_change_at, first_event_at, last_event_at
FROM touched
WHERE {runs}

-- name: stored
changed AND place IS NOT NULL

-- name: new
place IS NULL

-- name: insert
-- In the order of their starts, which those of a page have in common: the fold leaves them in none.
INSERT INTO runs BY NAME
SELECT
    *,
    {duration_ms} AS shown_duration_ms,
    {cost_source} AS cost_source,
    {cost_table_version} AS cost_table_version
FROM ({fold})
ORDER BY start_time

-- name: insert_events
INSERT INTO events BY NAME
SELECT worker, seq, event_id, run_id, run_event_id, ts, type, payload, trace_id, span_id, parent_span_id
FROM {events}
WHERE ts >= (SELECT events_since FROM meta)

-- name: loose
SELECT run_id, count(*) AS events, min(ts) AS first_event_at, max(ts) AS last_event_at
FROM {events}
WHERE run_event_id IS NULL
GROUP BY run_id

-- name: unpriced
-- Runs that were inserted and have a cost to be computed.
SELECT place, model, start_time, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, cost_usd
FROM {inserted}
WHERE priced_by IS NULL AND {needed}

-- name: count_unpriced
SELECT count(*) FROM ({unpriced})

-- name: price
UPDATE runs
SET
    cost_usd = priced.computed_cost_usd,
    cost_source = CASE WHEN priced.computed_cost_usd IS NOT NULL THEN 'computed' END,
    cost_table_version = priced.price_version::VARCHAR,
    priced_by = coalesce((SELECT any_value(list) FROM prices), '00000000-0000-0000-0000-000000000000'::UUID)
FROM ({priced}) AS priced
WHERE runs.rowid = priced.place
