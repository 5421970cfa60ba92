-- The events of one run, from the read model and, when it has older ones, from the lake.

-- name: bounds
-- When the events of a run were, as bounds for looking for them, and what of them only the lake has.
SELECT
    run.run_id,
    run.first_event_at::VARCHAR,
    run.last_event_at::VARCHAR,
    coalesce(run.first_event_at < meta.events_since, false),
    meta.events_since::VARCHAR
FROM shown AS run
CROSS JOIN meta
WHERE run.event_id = $event_id::UUID

-- name: loose_bounds
-- The same with the loose events of its run_id, which belong to a run when it is the most recently created one of them.
SELECT
    loose.run_id,
    least($first::TIMESTAMPTZ, loose.first_event_at)::VARCHAR,
    greatest($last::TIMESTAMPTZ, loose.last_event_at)::VARCHAR,
    least($first::TIMESTAMPTZ, loose.first_event_at) < meta.events_since,
    meta.events_since::VARCHAR
FROM loose_events AS loose
CROSS JOIN meta
WHERE
    loose.run_id = $run_id
    AND $event_id::UUID = (
        SELECT arg_max(event_id, (created_at, created_seq, event_id)) FROM shown WHERE run_id = $run_id
    )

-- name: events
-- By time, then position. `{source}` is the query `recent` or, in the lake, `older`; `{conditions}` are those of the request.
SELECT
    {event},
    epoch_us(ts),
    worker::VARCHAR,
    seq
FROM ({source})
WHERE {conditions}
ORDER BY ts, worker, seq
LIMIT $limit

-- name: recent
SELECT event_id, run_id, ts, type, payload, trace_id, span_id, parent_span_id, worker, seq
FROM events
WHERE ts BETWEEN $first::TIMESTAMPTZ AND $last::TIMESTAMPTZ AND {of_run}

-- name: older
-- What the lake has before the window, up to where the read model has followed it: the positions `$seqs` of `$workers`.
SELECT event_id, run_id, ts, type, payload, trace_id, span_id, parent_span_id, worker, seq
FROM {lake}.events
WHERE
    ts >= $first::TIMESTAMPTZ AND ts <= $last::TIMESTAMPTZ AND ts < $since::TIMESTAMPTZ AND {of_run}
    AND seq <= list_extract($seqs::BIGINT[], list_position($workers::UUID[], worker))

-- name: of_run
run_event_id = $event_id::UUID

-- name: of_run_or_loose
(run_event_id = $event_id::UUID OR (run_event_id IS NULL AND run_id = $loose_run_id))

-- name: of_ids
event_id IN (SELECT unnest($ids::VARCHAR[])::UUID)

-- name: of_type
type = $type

-- name: after_cursor
(ts, worker, seq) > (make_timestamptz($cursor_time), $cursor_worker::UUID, $cursor_seq)

-- name: event
-- An event as the API shows it.
json_object(
    'event_id', event_id, 'run_id', run_id, 'ts', rfc3339(ts), 'type', type, 'payload', payload,
    'trace_id', trace_id, 'span_id', span_id, 'parent_span_id', parent_span_id
)
