-- The connections of others to the catalog's database. Asked by psycopg.

-- name: end
-- Tell the other connections of these names to end; a row for each that is still there.
SELECT pid, pg_terminate_backend(pid)
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND starts_with(application_name, %(names)s)
