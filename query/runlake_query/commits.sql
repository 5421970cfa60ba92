-- From a commit to its runs. A hash may be abbreviated where it is asked for, and where it was said.

-- name: associations
-- Who associated the commit with which run: all that the lake has, and the latest of each run from the read model, which
-- the lake may not have yet.
SELECT
    run_event_id, commit_hash, commit_source, commit_author, rfc3339(commit_timestamp), rfc3339(ts), position
FROM (
    SELECT
        run_event_id::VARCHAR AS run_event_id, commit_hash, commit_source, commit_author, commit_timestamp, ts,
        worker || ':' || seq AS position
    FROM {lake}.run_changes
    WHERE
        commit_hash IS NOT NULL AND {match}
        AND EXISTS (
            FROM positions AS p WHERE p.worker = {lake}.run_changes.worker AND {lake}.run_changes.seq <= p.lake_seq
        )
    UNION ALL BY NAME
    SELECT
        event_id::VARCHAR AS run_event_id, commit_hash, commit_source, commit_author, commit_timestamp,
        updated_at AS ts, shown.worker || ':' || shown.seq AS position
    FROM shown
    LEFT JOIN positions ON positions.worker = shown.worker
    WHERE
        shown.seq > $confirmed AND commit_hash IS NOT NULL AND {match}
        AND shown.seq > coalesce(positions.lake_seq, 0)
)
ORDER BY ts, position
LIMIT $limit

-- name: confirmed
-- What the lake has of every worker: runs with no later word are not looked at.
SELECT coalesce(min(lake_seq), 0) FROM positions

-- name: match
(starts_with(lower(commit_hash), $sha) OR starts_with($sha, lower(commit_hash)))
