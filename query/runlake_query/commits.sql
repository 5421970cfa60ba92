-- From commits to runs and back: what was said of them, in the order in which it was said. A hash may be abbreviated where it
-- is asked for, and where it was said.

-- name: associations
-- Who associated a commit with which run.
SELECT
    run_event_id::VARCHAR, coalesce(said, sha), commit_source, commit_author, rfc3339(commit_timestamp), rfc3339(ts),
    worker || ':' || seq
FROM associations
WHERE {where}
ORDER BY associations.ts, worker, seq
LIMIT $limit

-- name: of_commit
-- The range is that of the characters which every form of the hash has: one that was said has at least 7.
sha >= $first AND sha < $beyond AND (starts_with(sha, $sha) OR starts_with($sha, sha))

-- name: of_run
run_event_id = $event_id::UUID
