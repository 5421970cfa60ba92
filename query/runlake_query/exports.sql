-- What is exported. The columns are our own names; `{where}` is the condition of the filters.

-- name: runs
SELECT {columns} FROM {shown} WHERE {where}

-- name: newest_runs
-- Found in two narrow columns first.
SELECT {columns}
FROM shown
WHERE event_id IN (
    SELECT event_id
    FROM (SELECT start_time, event_id FROM shown WHERE {where} ORDER BY start_time DESC, event_id DESC LIMIT $limit)
)

-- name: newest_first
{query}
ORDER BY start_time DESC, event_id DESC

-- name: events
-- Those of the read model, and older ones of the lake, up to where the read model has followed it.
WITH every_event AS (
    SELECT event_id, run_id, run_event_id, ts, type, payload, trace_id, span_id, parent_span_id FROM events
    UNION ALL
    SELECT event_id, run_id, run_event_id, ts, type, payload, trace_id, span_id, parent_span_id
    FROM {lake}.events AS stored
    WHERE
        ts < (SELECT events_since FROM meta)
        AND EXISTS (FROM positions WHERE positions.worker = stored.worker AND stored.seq <= positions.lake_seq)
)
SELECT {columns} FROM every_event WHERE {where}

-- name: of_runs
-- Events of the runs that match; those that name a run_id alone belong to the latest run of it.
(
    run_event_id IN (SELECT event_id FROM shown WHERE {where})
    OR (run_event_id IS NULL AND run_id IN (
        SELECT matching.run_id
        FROM (SELECT * FROM shown WHERE {where}) AS matching
        JOIN loose_of_run ON loose_of_run.event_id = matching.event_id
    ))
)

-- name: of_type
type = $type

-- name: ts_from
ts >= $ts_from::TIMESTAMPTZ

-- name: ts_to
ts < $ts_to::TIMESTAMPTZ

-- name: rollup
SELECT {columns} FROM ({query}) ORDER BY {order}

-- name: first_rows_of_rollup
SELECT {columns} FROM ({query}) ORDER BY {order} LIMIT $limit

-- name: types
SELECT column_name, column_type FROM (DESCRIBE {query})

-- name: copy
COPY ({query}) TO {path} ({options})

-- name: in_any_order
-- The same rows, of which DuckDB does not keep the order: it writes them as they come, on all threads. Else it holds what is
-- ready until all before it is (1 million runs as NDJSON: 2.1 GiB, and 0.3 GiB so). It keeps the order of tables, and that of
-- a join of theirs unless one side is an aggregate, which has none. For all queries at once there is a setting.
SELECT exported.* FROM ({query}) AS exported CROSS JOIN (SELECT DISTINCT true FROM range(1))
