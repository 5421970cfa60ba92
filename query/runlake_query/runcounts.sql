-- Keeping `run_counts`. A run is counted while it is shown, so from its start on.

-- name: count
INSERT INTO run_counts
SELECT agent_name, job_type, status, count(*) FROM {runs} WHERE created_at IS NOT NULL GROUP BY ALL

-- name: uncount
INSERT INTO run_counts
SELECT agent_name, job_type, status, -count(*)
FROM runs
WHERE created_at IS NOT NULL AND event_id IN ({runs})
GROUP BY ALL

-- name: recount_merged
-- The merged runs, of which some are stored. Mostly a change leaves a run in its group.
INSERT INTO run_counts
SELECT agent_name, job_type, status, sum(more)::BIGINT
FROM (
    SELECT agent_name, job_type, status, 1 AS more FROM merged WHERE created_at IS NOT NULL
    UNION ALL
    SELECT agent_name, job_type, status, -1 AS more
    FROM runs
    WHERE created_at IS NOT NULL AND rowid IN (SELECT place FROM touched WHERE changed AND place IS NOT NULL)
)
GROUP BY agent_name, job_type, status
HAVING sum(more) <> 0

-- name: sum_up
-- One row for each group that has runs.
INSERT INTO summed_counts
SELECT agent_name, job_type, status, sum(runs)::BIGINT
FROM run_counts
GROUP BY agent_name, job_type, status
HAVING sum(runs) <> 0;
DELETE FROM run_counts;
INSERT INTO run_counts SELECT * FROM summed_counts;
DELETE FROM summed_counts

-- name: rows
-- How many there are, and how many there would be when summed up.
SELECT count(*), (SELECT count(*) FROM (SELECT DISTINCT agent_name, job_type, status FROM run_counts)) FROM run_counts
