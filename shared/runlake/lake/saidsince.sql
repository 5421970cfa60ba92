-- What was said of runs since a worker was given up that had said something of them too. `{lake}` is the attached lake.

-- name: given_up_at
-- Where all went on without what `$worker` had at `$first` and did not flush: the first jump in its numbers that is not
-- before that. NULL when its numbers still have their place.
SELECT min(last_seq) FROM {lake}.flushes WHERE worker = $worker::UUID AND first_seq > last_seq AND last_seq >= $first

-- name: flushed
-- The last message of `$worker` that the lake has.
SELECT coalesce(max(last_seq), 0) FROM {lake}.flushes WHERE worker = $worker::UUID AND first_seq <= last_seq

-- name: said_since
-- For each run of the messages in the file `{path}` (NDJSON), which fields (`{fields}`) changes behind `$after` have set that
-- are not themselves among the messages.
WITH messages AS (
    SELECT event_id, run_event_id
    FROM read_json(
        {path}, format = 'newline_delimited', columns = {{event_id: 'UUID', run_event_id: 'UUID', kind: 'VARCHAR'}},
        maximum_object_size = 16777216
    )
    WHERE kind IN ('run.updated', 'commit.associated')
)
SELECT run_event_id::VARCHAR, list_filter([{fields}], lambda name: name IS NOT NULL)
FROM {lake}.run_changes
WHERE
    seq > $after
    AND kind <> 'run.started'
    AND run_event_id IN (SELECT run_event_id FROM messages)
    AND event_id NOT IN (SELECT event_id FROM messages)
GROUP BY run_event_id

-- name: field
CASE WHEN count({name}) > 0 THEN '{name}' END
