-- The log, as messages. `{lake}` is the attached lake.

-- name: workers
-- How far each worker's log goes, in the order in which the logs began.
SELECT worker::VARCHAR, min(first_seq), max(last_seq)
FROM {lake}.flushes
GROUP BY worker
HAVING max(last_seq) >= min(first_seq)
ORDER BY min(flushed_at), min(first_seq), worker

-- name: count
-- How many messages a span of a worker's log holds.
SELECT
    (SELECT count(*) FROM {lake}.run_changes WHERE worker = $worker::UUID AND seq > $after AND seq <= $upto)
    + (SELECT count(*) FROM {lake}.events WHERE worker = $worker::UUID AND seq > $after AND seq <= $upto)

-- name: messages
-- A span of a worker's log in its order: position, microseconds of `received_at`, producer, and the message in JSON.
SELECT seq, epoch_us(received_at), producer, message::VARCHAR
FROM (
    SELECT
        seq, received_at, producer,
        json_object('kind', kind, 'event_id', event_id, 'run_event_id', run_event_id, 'ts', {ts}, {change_fields}) AS message
    FROM {lake}.run_changes
    WHERE worker = $worker::UUID AND seq > $after AND seq <= $upto
    UNION ALL
    SELECT
        seq, received_at, producer,
        json_object(
            'kind', 'run.event', 'event_id', event_id, 'run_id', run_id, 'run_event_id', run_event_id, 'ts', {ts},
            'type', type, 'payload', payload, 'trace_id', trace_id, 'span_id', span_id, 'parent_span_id', parent_span_id,
            'prev_hash', prev_hash, 'event_hash', event_hash
        ) AS message
    FROM {lake}.events
    WHERE worker = $worker::UUID AND seq > $after AND seq <= $upto
)
ORDER BY seq

-- name: time
-- A time as RFC 3339.
replace(({name} AT TIME ZONE 'UTC')::VARCHAR, ' ', 'T') || 'Z'
