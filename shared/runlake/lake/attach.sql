-- Attaching a lake. DuckDB takes no parameters here: values are quoted by `duck.quote`, and names are ours.

-- name: sqlite_for_writing
-- In WAL mode readers never block the writer.
ATTACH {catalog} AS {name} (
    DATA_PATH {storage}, OVERRIDE_DATA_PATH {override}, DATA_INLINING_ROW_LIMIT 0,
    META_JOURNAL_MODE 'WAL', META_BUSY_TIMEOUT {busy_timeout_ms}
)

-- name: postgres_for_writing
ATTACH {catalog} AS {name} (
    DATA_PATH {storage}, OVERRIDE_DATA_PATH {override}, DATA_INLINING_ROW_LIMIT 0, META_SECRET {secret}
)

-- name: detach
DETACH {name}

-- name: sqlite_copy
ATTACH {catalog} AS {name} (READ_ONLY)

-- name: postgres_snapshot
ATTACH {catalog} AS {name} (READ_ONLY, SNAPSHOT_VERSION {snapshot}, META_SECRET {secret})

-- name: inlined_tables
-- The tables that are told to keep small rows in the catalog itself.
SELECT t.table_name
FROM __ducklake_metadata_{name}.ducklake_metadata AS m
JOIN __ducklake_metadata_{name}.ducklake_table AS t ON t.table_id = m.scope_id AND t.end_snapshot IS NULL
WHERE m.key = 'data_inlining_row_limit' AND m.scope = 'table' AND m.value <> '0'

-- name: inline
CALL {name}.set_option('data_inlining_row_limit', 100, table_name => {table})

-- name: catalog_secret
CREATE OR REPLACE SECRET {secret} (TYPE postgres, PASSWORD {password})

-- name: no_catalog_secret
CREATE OR REPLACE SECRET {secret} (TYPE postgres)

-- name: storage_secret
CREATE OR REPLACE SECRET {secret} (TYPE s3, {options}, SCOPE {scope})

-- name: storage_patience
-- How long a request may take, seconds, and how often and how soon one that failed is tried again: a store that does not
-- answer is an error within a minute.
SET http_timeout = {timeout_s};
SET http_retries = {retries};
SET http_retry_wait_ms = {first_wait_ms};
SET http_retry_backoff = {backoff}
