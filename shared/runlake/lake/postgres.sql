-- What is asked of the PostgreSQL that holds the catalog, by psycopg.

-- name: deadline
SELECT set_config('statement_timeout', %s, false)

-- name: alone
-- A lock on making and migrating the lake, until the connection ends.
SELECT pg_advisory_lock(hashtextextended('runlake migration', 0))

-- name: newest
-- The newest snapshot. Its time tells a catalog that was replaced from the one before.
SELECT snapshot_id, snapshot_time::text FROM ducklake_snapshot ORDER BY snapshot_id DESC LIMIT 1

-- name: size
-- Bytes on disk of all that the database holds.
SELECT pg_database_size(current_database())
