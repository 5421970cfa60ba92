-- What agents and jobs there are, and how many runs of late.

-- name: names
SELECT
    to_json(list_sort(list_distinct(list(agent_name)))),
    count(DISTINCT agent_name),
    to_json(list_sort(list_distinct(list(job_type)))),
    count(DISTINCT job_type)
FROM shown

-- name: summary
-- The numbers of the JSON form of /metrics.
SELECT
    json_object(
        'total_runs', count(*),
        'agents', coalesce((
            SELECT json_group_object(agent_name, runs)
            FROM (SELECT agent_name, count(*) AS runs FROM shown GROUP BY agent_name ORDER BY agent_name)
        ), '{}'::JSON),
        'recent_24h', count(*) FILTER (start_time >= $since::TIMESTAMPTZ),
        'performance', json_object(
            'avg_duration_ms', avg(duration_ms),
            'p50_duration_ms', quantile_cont(duration_ms, 0.5),
            'p95_duration_ms', quantile_cont(duration_ms, 0.95),
            'success_rate', avg((status = 'success')::INTEGER) FILTER (status != 'running')
        )
    )
FROM shown
