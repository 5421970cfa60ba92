-- Runs as the API shows them. `{run}` is the Run object as a JSON text, made once for every query.

-- name: count
SELECT count(*) FROM shown WHERE {where}

-- name: edge
-- The start of the run at place `$place` of the list: a search of one sorted column, which skips what is older. The page
-- itself then reads only the rows between two such edges; joining on row numbers would read whole row groups.
SELECT start_time::VARCHAR FROM shown WHERE {where} AND {before} ORDER BY start_time DESC LIMIT 1 OFFSET $place

-- name: count_newer
SELECT count(*) FROM shown WHERE {where} AND start_time > $upper::TIMESTAMPTZ

-- name: page
-- One page, newest start first. Columns: the run, and what a cursor is made of.
SELECT {run}, epoch_us(start_time), event_id::VARCHAR
FROM (SELECT * FROM shown WHERE {where} ORDER BY start_time DESC, event_id DESC LIMIT $rows OFFSET $skip)
ORDER BY start_time DESC, event_id DESC

-- name: not_before
start_time >= $lower::TIMESTAMPTZ

-- name: not_after
start_time <= $upper::TIMESTAMPTZ

-- name: before_cursor
start_time < make_timestamptz($cursor_time)

-- name: after_cursor
start_time <= make_timestamptz($cursor_time)
    AND (start_time < make_timestamptz($cursor_time) OR event_id < $cursor_id::UUID)

-- name: find_by_run_id
-- What a path means by a run: the most recently created one of that run_id, …
SELECT {columns} FROM shown WHERE run_id = $name ORDER BY created_at DESC, created_seq DESC, event_id DESC LIMIT 1

-- name: find_by_event_id
-- … else the one whose event_id it is.
SELECT {columns} FROM shown WHERE event_id = $name::UUID
