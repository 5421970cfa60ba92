-- What the DuckDBs beside the read model's need to ask a version of the lake as the read model is asked.

-- name: rfc3339
-- As in `model.sql`.
CREATE MACRO rfc3339(t) AS replace((t AT TIME ZONE 'UTC')::VARCHAR, ' ', 'T') || 'Z'

-- name: threads
-- Of the read model: whether it has DuckDB's background threads.
SELECT current_setting('external_threads')::INTEGER < current_setting('threads')::INTEGER
