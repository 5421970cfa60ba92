-- Runs as the API shows them. `{run}` is the Run object as a JSON text, made once for every query.

-- name: count
SELECT count(*) FROM {shown} WHERE {where}

-- name: page
-- Where the runs of one page are, newest start first: two narrow columns are searched, and the runs themselves are read by
-- `bodies` for the page alone.
SELECT epoch_us(start_time), event_id::VARCHAR
FROM {shown}
WHERE {where}
ORDER BY start_time DESC, event_id DESC
LIMIT $rows OFFSET $skip

-- name: after_cursor
start_time <= make_timestamptz($cursor_time)
    AND (start_time < make_timestamptz($cursor_time) OR event_id < $cursor_id::UUID)

-- name: not_after_end
start_time >= make_timestamptz($end_time)
    AND (start_time > make_timestamptz($end_time) OR event_id >= $end_id::UUID)

-- name: bodies
-- The runs of these event_ids and starts. The starts keep it to the parts of the table that hold them.
SELECT event_id::VARCHAR, {run}
FROM shown
WHERE
    event_id IN (SELECT unnest($1::VARCHAR[])::UUID)
    AND start_time IN (SELECT make_timestamptz(unnest($2::BIGINT[])))

-- name: bodies_of_page
-- The same for consecutive runs of a list: its own conditions and the range of their starts are filters of the scan, so that
-- of all other columns those rows alone are read (10 million runs, 100 of them far apart: 60 ms of processor time, else 240).
SELECT event_id::VARCHAR, {run}
FROM {shown}
WHERE
    {where}
    AND start_time BETWEEN make_timestamptz($first_start) AND make_timestamptz($last_start)
    AND event_id IN (SELECT unnest(string_split($event_ids, ','))::UUID)

-- name: since
-- A run starts at or after it.
start_time >= make_timestamptz($since)

-- name: starts
-- At which times some shares of the runs have started, as a sample says.
SELECT
    (SELECT count(*) FROM runs),
    (SELECT quantile_disc(epoch_us(start_time), {shares}) FROM runs TABLESAMPLE system({percent}%))

-- name: find_by_run_id
-- What a path means by a run: the most recently created one of that run_id, …
SELECT {columns} FROM shown WHERE run_id = $name ORDER BY created_at DESC, created_seq DESC, event_id DESC LIMIT 1

-- name: find_by_event_id
-- … else the one whose event_id it is.
SELECT {columns} FROM shown WHERE event_id = $name::UUID
