-- What agents and jobs there are, and how many runs of late.

-- name: names
-- Of the counts of runs, so that nobody goes through the runs themselves.
SELECT to_json(agents.names), coalesce(len(agents.names), 0), to_json(jobs.names), coalesce(len(jobs.names), 0)
FROM (SELECT list(agent_name ORDER BY agent_name) AS names FROM (
    SELECT agent_name FROM run_counts GROUP BY agent_name HAVING sum(runs) > 0
)) AS agents
CROSS JOIN (SELECT list(job_type ORDER BY job_type) AS names FROM (
    SELECT job_type FROM run_counts GROUP BY job_type HAVING sum(runs) > 0
)) AS jobs

-- name: summary
-- The numbers of the JSON form of /metrics.
SELECT
    json_object(
        'total_runs', count(*),
        'agents', coalesce((
            SELECT json_group_object(agent_name, runs)
            FROM (
                SELECT agent_name, sum(runs)::BIGINT AS runs
                FROM run_counts
                GROUP BY agent_name
                HAVING sum(run_counts.runs) > 0
                ORDER BY agent_name
            )
        ), json_object()),
        'recent_24h', count(*) FILTER (start_time >= $since::TIMESTAMPTZ),
        'performance', json_object(
            'avg_duration_ms', avg(duration_ms),
            'p50_duration_ms', quantile_cont(duration_ms, 0.5),
            'p95_duration_ms', quantile_cont(duration_ms, 0.95),
            'success_rate', avg((status = 'success')::INTEGER) FILTER (status != 'running')
        )
    )
FROM {shown}
