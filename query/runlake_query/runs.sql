-- Runs as the API shows them. `{run}` is the Run object as a JSON text, made once for every query.

-- name: count
SELECT count(*) FROM shown WHERE {where}

-- name: page
-- One page, newest start first; `{after}` is the condition of a cursor. Columns: the run, and what a cursor is made of.
SELECT {run}, epoch_us(start_time), event_id::VARCHAR
FROM (
    SELECT * FROM shown WHERE {where} AND {after} ORDER BY start_time DESC, event_id DESC LIMIT $limit OFFSET $offset
)
ORDER BY start_time DESC, event_id DESC

-- name: after_cursor
(start_time, event_id) < (make_timestamptz($cursor_time), $cursor_id::UUID)

-- name: find
-- What a path means by a run: the most recently created one of that run_id, else the one whose event_id it is.
SELECT {columns}
FROM shown
WHERE run_id = $run_id OR event_id = $event_id::UUID
ORDER BY coalesce(run_id = $run_id, false) DESC, created_at DESC, created_seq DESC, event_id DESC
LIMIT 1
