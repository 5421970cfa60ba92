-- The workers of a cluster, in the schema `runlake` of the catalog's database: not tables of the lake. Asked by psycopg.

-- name: server_keepalive
-- Have the server notice within seconds that this connection's host is gone, and let go of what it locked.
SELECT set_config('tcp_keepalives_idle', '5', false), set_config('tcp_keepalives_interval', '2', false),
    set_config('tcp_keepalives_count', '3', false), set_config('tcp_user_timeout', '15000', false)

-- name: backend
SELECT pg_backend_pid()

-- name: are_there
SELECT to_regclass('runlake.reports') IS NOT NULL

-- name: one_at_a_time
-- Until the transaction ends, nobody else changes the list.
SELECT pg_advisory_xact_lock(hashtextextended('runlake list', 0))

-- name: make_schema
CREATE SCHEMA IF NOT EXISTS runlake

-- name: make_lists
-- Every list of workers that there was. One is in force (`active`), and at most one is to follow it (`changing`); `past`
-- were in force, `withdrawn` never were.
CREATE TABLE IF NOT EXISTS runlake.lists (
    version BIGINT PRIMARY KEY,
    state TEXT NOT NULL CHECK (state IN ('active', 'changing', 'past', 'withdrawn')),
    why TEXT NOT NULL,
    announced_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    settled_at TIMESTAMPTZ
)

-- name: make_one_of_a_state
CREATE UNIQUE INDEX IF NOT EXISTS lists_one_of_a_state ON runlake.lists (state) WHERE state IN ('active', 'changing')

-- name: make_members
CREATE TABLE IF NOT EXISTS runlake.members (
    version BIGINT NOT NULL REFERENCES runlake.lists,
    worker UUID NOT NULL,
    endpoint TEXT NOT NULL,
    PRIMARY KEY (version, worker)
)

-- name: make_workers
-- Every worker that ever ran on this catalog. `token` changes whenever its lease is taken: a copy of its folder that was
-- left behind has another one.
CREATE TABLE IF NOT EXISTS runlake.workers (
    worker UUID PRIMARY KEY,
    token UUID NOT NULL,
    endpoint TEXT NOT NULL,
    host TEXT NOT NULL,
    process BIGINT NOT NULL,
    since TIMESTAMPTZ NOT NULL,
    retired_at TIMESTAMPTZ
)

-- name: make_reports
-- Who takes nothing and has brought all to the lake, for the change to this version.
CREATE TABLE IF NOT EXISTS runlake.reports (
    version BIGINT NOT NULL REFERENCES runlake.lists,
    worker UUID NOT NULL,
    reported_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (version, worker)
)

-- name: is_fenced
-- Whether the lake's commits ask `runlake.fence`; NULL where there is no lake yet.
SELECT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = s.id AND tgname = 'runlake_fence')
FROM (SELECT to_regclass('ducklake_snapshot') AS id) AS s
WHERE s.id IS NOT NULL

-- name: make_fence
-- Each commit of the lake is one row of `ducklake_snapshot`. One by a connection that is named after a token of a worker's
-- is refused when the worker's token is another one by now. The row is locked until the commit has ended, and so comes
-- before whatever changes the token, or after it.
CREATE OR REPLACE FUNCTION runlake.fence() RETURNS trigger LANGUAGE plpgsql AS $fence$
DECLARE
    writer TEXT[] := regexp_match(
        current_setting('application_name'), '^runlake lake ([0-9a-f]{32}) t([0-9a-f]{8})'
    );
BEGIN
    IF writer IS NOT NULL THEN
        PERFORM FROM runlake.workers AS w
        WHERE w.worker = writer[1]::UUID AND starts_with(w.token::TEXT, writer[2])
        FOR SHARE;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'This process is no longer worker %', writer[1]::UUID;
        END IF;
    END IF;
    RETURN NEW;
END
$fence$

-- name: put_fence_up
CREATE TRIGGER runlake_fence BEFORE INSERT ON ducklake_snapshot FOR EACH ROW EXECUTE FUNCTION runlake.fence()

-- name: standing
-- The list in force and the one that is to follow it, a row for each member.
SELECT l.version, l.state, m.worker, m.endpoint
FROM runlake.lists AS l
JOIN runlake.members AS m ON m.version = l.version
WHERE l.state IN ('active', 'changing')
ORDER BY l.version, m.worker

-- name: reports
SELECT worker FROM runlake.reports WHERE version = %(version)s

-- name: why
SELECT why FROM runlake.lists WHERE version = %(version)s

-- name: last_version
SELECT coalesce(max(version), 0) FROM runlake.lists

-- name: add_list
INSERT INTO runlake.lists (version, state, why, settled_at)
VALUES (%(version)s, %(state)s, %(why)s, CASE WHEN %(state)s = 'active' THEN now() END)

-- name: add_member
INSERT INTO runlake.members (version, worker, endpoint) VALUES (%(version)s, %(worker)s, %(endpoint)s)

-- name: report
INSERT INTO runlake.reports (version, worker)
SELECT version, %(worker)s FROM runlake.lists WHERE version = %(version)s AND state = 'changing'
ON CONFLICT DO NOTHING

-- name: settle
-- End the state of a list; a row when it was in that state.
UPDATE runlake.lists SET state = %(to)s, settled_at = now()
WHERE version = %(version)s AND state = %(was)s
RETURNING version

-- name: worker
SELECT token, endpoint, host, process, since, retired_at FROM runlake.workers WHERE worker = %(worker)s

-- name: workers
SELECT worker, endpoint, host, process, since, retired_at FROM runlake.workers ORDER BY worker

-- name: take_place
INSERT INTO runlake.workers (worker, token, endpoint, host, process, since)
VALUES (%(worker)s, %(token)s, %(endpoint)s, %(host)s, %(process)s, now())
ON CONFLICT (worker) DO UPDATE
SET token = excluded.token, endpoint = excluded.endpoint, host = excluded.host, process = excluded.process, since = now()

-- name: retire
UPDATE runlake.workers SET retired_at = coalesce(retired_at, now()), token = %(token)s
WHERE worker = %(worker)s
RETURNING worker

-- name: try_lock
SELECT pg_try_advisory_lock(%(key)s)

-- name: unlock
SELECT pg_advisory_unlock(%(key)s)

-- name: held_locks
-- The keys of the advisory locks that somebody holds in this database.
SELECT (classid::BIGINT << 32) | objid::BIGINT
FROM pg_locks
WHERE locktype = 'advisory' AND objsubid = 1 AND granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())

-- name: silence
-- Who holds this lock: for how many seconds nothing has come from there.
SELECT coalesce(extract(epoch FROM clock_timestamp() - a.state_change), 0)::FLOAT8
FROM pg_locks AS l
JOIN pg_stat_activity AS a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND (l.classid::BIGINT << 32) | l.objid::BIGINT = %(key)s
