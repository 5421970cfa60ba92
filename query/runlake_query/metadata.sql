-- What agents and jobs there are, and how many runs of late.

-- name: names
-- Distinct first, so that no more than the names themselves is ever collected.
SELECT to_json(agents.names), coalesce(len(agents.names), 0), to_json(jobs.names), coalesce(len(jobs.names), 0)
FROM (SELECT list(agent_name ORDER BY agent_name) AS names FROM (SELECT DISTINCT agent_name FROM {shown})) AS agents
CROSS JOIN (SELECT list(job_type ORDER BY job_type) AS names FROM (SELECT DISTINCT job_type FROM {shown})) AS jobs

-- name: summary
-- The numbers of the JSON form of /metrics.
SELECT
    json_object(
        'total_runs', count(*),
        'agents', coalesce((
            SELECT json_group_object(agent_name, runs)
            FROM (SELECT agent_name, count(*) AS runs FROM {shown} GROUP BY agent_name ORDER BY agent_name)
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
