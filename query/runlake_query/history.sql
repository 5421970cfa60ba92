-- Who said what of a run, and when: its accepted changes, from the lake.

-- name: run
-- Whether the lake has all that is reflected of a run, and from when until when its changes were received: the lake's files
-- of other times are not looked at, on any page.
SELECT coalesce(positions.lake_seq >= runs.seq, false), runs.first_change_at::VARCHAR, runs.updated_at::VARCHAR
FROM runs
LEFT JOIN positions ON positions.worker = runs.worker
WHERE runs.event_id = $event_id::UUID

-- name: changes
-- In log order, up to where the read model has followed the lake: the positions `$seqs` of `$workers`. `{fields}` are all
-- that a change can set, as JSON.
SELECT
    worker::VARCHAR, seq, rfc3339(received_at), producer, kind, event_id::VARCHAR, rfc3339(ts), {fields}
FROM {lake}.run_changes
WHERE
    run_event_id = $event_id::UUID AND received_at BETWEEN $since::TIMESTAMPTZ AND $until::TIMESTAMPTZ AND {conditions}
    AND seq <= list_extract($seqs::BIGINT[], list_position($workers::UUID[], worker))
ORDER BY worker, seq
LIMIT $limit

-- name: after_cursor
(worker, seq) > ($cursor_worker::UUID, $cursor_seq)

-- name: of_field
{field} IS NOT NULL
