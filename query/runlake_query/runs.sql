-- Runs as the API shows them. `{run}` is the Run object as a JSON text, made once for every query.

-- name: count
SELECT count(*) FROM {shown} WHERE {where}

-- name: sum_of_counts
-- The same where the condition is on nothing but what runs are counted by.
SELECT coalesce(sum(runs), 0)::BIGINT FROM run_counts WHERE {where}

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

-- name: not_before_first
start_time <= make_timestamptz($first_time)
    AND (start_time < make_timestamptz($first_time) OR event_id <= $first_id::UUID)

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
-- The same for consecutive runs of a list: its own conditions, and where they begin and end, are filters of the scan, so that
-- of all other columns those rows alone are read (10 million runs, 100 of them far apart: 36 ms of processor time, else 140).
-- They are no more than `$rows`; to say so costs a tenth less, for then they are not gathered in the order of the table.
SELECT event_id::VARCHAR, {run} FROM {shown} WHERE {where} LIMIT $rows

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
