-- What the DuckDBs beside the read model's need to ask a version of the lake as the read model is asked.

-- name: rfc3339
-- As in `model.sql`.
CREATE MACRO rfc3339(t) AS replace((t AT TIME ZONE 'UTC')::VARCHAR, ' ', 'T') || 'Z'

-- name: all_threads
-- As many as the machine has cores, and no more only one.
RESET GLOBAL threads
