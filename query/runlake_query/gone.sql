-- Why a worker knows the id of a run that no answer shows. `{lake}` is a copy of the lake's catalog.

-- name: has_removals
SELECT count(*) FROM duckdb_tables() WHERE database_name = $lake AND table_name = 'removals'

-- name: why
-- Of these runs, those that were removed, and whether because somebody asked to forget them.
SELECT run_event_id::VARCHAR, bool_or(forgotten)
FROM (
    SELECT run_event_id, why = 'forgotten' AS forgotten FROM {lake}.removals
    UNION ALL
    SELECT run_event_id, true FROM {lake}.forgets
)
WHERE run_event_id IN (SELECT unnest($runs::UUID[]))
GROUP BY ALL
