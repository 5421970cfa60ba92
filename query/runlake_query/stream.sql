-- What a stream that is resumed has missed, from the read model. `$workers` and `$seqs` are the positions it was sent.

-- name: runs
SELECT worker::VARCHAR, seq, event_id::VARCHAR, run_id, {run}
FROM shown
WHERE seq > coalesce(list_extract($seqs::BIGINT[], list_position($workers::UUID[], worker)), 0) AND ({where})
ORDER BY worker, seq
LIMIT $limit

-- name: events
-- `{of_run}` says which runs' events.
SELECT worker::VARCHAR, seq, run_event_id::VARCHAR, run_id, {event}
FROM ({sources})
WHERE
    seq > coalesce(list_extract($seqs::BIGINT[], list_position($workers::UUID[], worker)), 0)
    AND ({of_run})
    AND ($type::VARCHAR IS NULL OR type = $type::VARCHAR)
ORDER BY worker, seq
LIMIT $limit

-- name: recent
SELECT * FROM events

-- name: older
-- What the lake has before the read model's window.
SELECT event_id, run_id, ts, type, payload, trace_id, span_id, parent_span_id, worker, seq, run_event_id
FROM {lake}.events
WHERE
    ts < (SELECT events_since FROM meta)
    AND seq > coalesce(list_extract($seqs::BIGINT[], list_position($workers::UUID[], worker)), 0)
    AND EXISTS (FROM positions AS p WHERE p.worker = {lake}.events.worker AND {lake}.events.seq <= p.lake_seq)

-- name: of_filter
run_event_id IN (SELECT event_id FROM shown WHERE {where})

-- name: of_run
run_event_id = $run::UUID OR (run_event_id IS NULL AND run_id = $loose)
