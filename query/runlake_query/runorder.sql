-- Pages of runs in the order of one of their columns. `{column}` is one of our own, `{where}` the condition of the filters.

-- name: newest
start_time DESC, event_id DESC

-- name: order
{column} {direction} NULLS LAST, start_time DESC, event_id DESC

-- name: page
-- Where the runs of one page are, and what they are sorted by.
SELECT epoch_us(start_time), event_id::VARCHAR, {column}::VARCHAR
FROM shown
WHERE {where}
ORDER BY {order}
LIMIT $rows OFFSET $skip

-- name: after_value
(
    {column} {beyond} try_cast($cursor_value AS {sql_type})
    OR {column} IS NULL
    OR ({column} = try_cast($cursor_value AS {sql_type}) AND (
        start_time < make_timestamptz($cursor_time)
        OR (start_time = make_timestamptz($cursor_time) AND event_id < $cursor_id::UUID)
    ))
)

-- name: after_null
{column} IS NULL AND (
    start_time < make_timestamptz($cursor_time)
    OR (start_time = make_timestamptz($cursor_time) AND event_id < $cursor_id::UUID)
)
