-- What a stream that is resumed has missed, from the read model. `$workers` and `$seqs` are the positions it was sent.

-- name: runs
SELECT worker::VARCHAR, seq, event_id::VARCHAR, run_id, {run}
FROM shown
WHERE seq > coalesce(list_extract($seqs::BIGINT[], list_position($workers::UUID[], worker)), 0) AND ({where})
ORDER BY worker, seq
LIMIT $limit

-- name: events
-- `{source}` is the query `recent` or, in the lake, `older`; `{of_run}` says which runs' events.
SELECT worker::VARCHAR, seq, run_event_id::VARCHAR, run_id, {event}
FROM ({source})
WHERE
    seq > coalesce(list_extract($seqs::BIGINT[], list_position($workers::UUID[], worker)), 0)
    AND ({of_run})
    AND ($type::VARCHAR IS NULL OR type = $type::VARCHAR)
ORDER BY worker, seq
LIMIT $limit

-- name: recent
SELECT * FROM events

-- name: older
-- What the lake has before the read model's window, up to where that has followed it: the positions `$followed_seqs` of
-- `$followed_workers`.
SELECT event_id, run_id, ts, type, payload, trace_id, span_id, parent_span_id, worker, seq, run_event_id
FROM {lake}.events
WHERE
    ts < $window_since::TIMESTAMPTZ
    AND seq > coalesce(list_extract($seqs::BIGINT[], list_position($workers::UUID[], worker)), 0)
    AND seq <= list_extract($followed_seqs::BIGINT[], list_position($followed_workers::UUID[], worker))

-- name: older_runs
-- The runs of which the lake has such events.
SELECT DISTINCT run_event_id::VARCHAR
FROM ({source})
WHERE run_event_id IS NOT NULL AND ($type::VARCHAR IS NULL OR type = $type::VARCHAR)

-- name: window_since
SELECT events_since::VARCHAR FROM meta

-- name: passing
-- Which of these runs match.
SELECT event_id::VARCHAR FROM shown WHERE event_id IN (SELECT unnest($runs::VARCHAR[])::UUID) AND ({where})

-- name: of_filter
run_event_id IN (SELECT event_id FROM shown WHERE {where})

-- name: of_run
run_event_id = $run::UUID OR (run_event_id IS NULL AND run_id = $loose)

-- name: of_runs
run_event_id IN (SELECT unnest($runs::VARCHAR[])::UUID)
