-- What is exported. The columns are our own names; `{where}` is the condition of the filters.

-- name: runs
-- As in a list: the newest start first.
SELECT {columns}
FROM {shown} AS shown
WHERE ({where}) AND {within}
ORDER BY shown.start_time DESC, shown.event_id DESC

-- name: starts_of_runs
SELECT shown.start_time AS moment, shown.event_id FROM {shown} AS shown WHERE {where}

-- name: newest_runs
-- Few of them, found in two narrow columns first.
SELECT {columns}
FROM {shown} AS shown
WHERE shown.event_id IN (
    SELECT event_id FROM (
        SELECT start_time, event_id FROM {shown} WHERE {where} ORDER BY start_time DESC, event_id DESC LIMIT {limit}
    )
)
ORDER BY shown.start_time DESC, shown.event_id DESC

-- name: events
-- Those of the read model, and older ones of the lake, up to where the read model has followed it. (With EXISTS in place of the
-- join DuckDB keeps every event's position: of 15 million, 1.5 GB and eight times the processor time.)
WITH every_event AS (
    SELECT event_id, run_id, run_event_id, ts, type, payload, trace_id, span_id, parent_span_id FROM events
    UNION ALL
    SELECT event_id, run_id, run_event_id, ts, type, payload, trace_id, span_id, parent_span_id
    FROM {lake}.events AS stored
    SEMI JOIN positions ON positions.worker = stored.worker AND stored.seq <= positions.lake_seq
    WHERE ts < (SELECT events_since FROM meta)
)
{wanted}

-- name: events_in_order
SELECT {columns}
FROM every_event
WHERE ({where}) AND {within}
ORDER BY every_event.ts, every_event.event_id

-- name: times_of_events
SELECT every_event.ts AS moment, every_event.event_id FROM every_event WHERE {where}

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
SELECT {columns} FROM ({query}) AS made ORDER BY {order}

-- name: types
SELECT column_name, column_type FROM (DESCRIBE {query})

-- name: copy
COPY ({query}) TO {path} ({options})

-- name: parts
FROM read_parquet({parts})

-- name: limited
{query}
LIMIT $limit

-- name: count_times
SELECT count(*) FROM ({times})

-- name: edges
-- At which times stretches of about as many rows begin, in microseconds: as one row in `{every}` says.
SELECT quantile_disc(epoch_us(moment), {shares}) FROM ({times}) WHERE hash(event_id) % {every} = 0

-- name: before
{column} < make_timestamptz({edge})

-- name: between
{column} >= make_timestamptz({edge}) AND {column} < make_timestamptz({end})

-- name: since
{column} >= make_timestamptz({edge})
