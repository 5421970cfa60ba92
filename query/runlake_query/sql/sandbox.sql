-- What a sandbox runs besides the statement of the user.

-- name: syntax_tree
SELECT json_serialize_sql($sql::VARCHAR)

-- name: internal_views
-- What a WITH query must not be named like: it would hide that the real one is meant elsewhere in the statement.
SELECT view_name FROM duckdb_views() WHERE internal

-- name: settings
-- In this order: nothing can be changed after the last one.
SET TimeZone = 'UTC';
SET enable_progress_bar = false;
SET python_enable_replacements = false;
SET allow_community_extensions = false;
SET allow_persistent_secrets = false;
SET allowed_paths = {files};
SET enable_external_access = false

-- name: lock
SET lock_configuration = true

-- name: runs
CREATE VIEW runs AS FROM read_parquet({runs})

-- name: events
-- The lake's files up to where the answer reflects them, and what they do not have yet.
CREATE VIEW events AS {sources}

-- name: events_of_lake
SELECT {columns} FROM read_parquet({files}) WHERE {reflected} UNION ALL

-- name: events_of_lake_with_deletes
SELECT {columns}
FROM read_parquet({files}, filename = true, file_row_number = true) AS stored
WHERE
    ({reflected})
    AND NOT EXISTS (
        FROM read_parquet({deletes}) AS deleted
        WHERE deleted.file_path = stored.filename AND deleted.pos = stored.file_row_number
    )
UNION ALL

-- name: recent_events
SELECT {columns} FROM read_parquet({recent})

-- name: event_columns
worker, seq, event_id, run_id, run_event_id, ts, type, payload::JSON AS payload, trace_id, span_id, parent_span_id

-- name: result
-- One row more than may be given, to see that there are more.
CREATE TEMP TABLE result AS SELECT * FROM {statement} LIMIT {limit}

-- name: columns
SELECT column_name, column_type FROM (DESCRIBE result)

-- name: rows_that_fit
-- How many of the first rows fit into so many bytes of JSON, and how many there are. Rows of a table come as they went in.
SELECT count(*) FILTER (number <= {max_rows} AND total <= {max_bytes}), count(*)
FROM (
    SELECT row_number() OVER () AS number, sum(bytes) OVER (ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS total
    FROM (SELECT strlen(to_json(the_row_of_the_result)::VARCHAR) + 1 AS bytes FROM result AS the_row_of_the_result)
)

-- name: copy
COPY (SELECT {columns} FROM result LIMIT {rows}) TO {path} ({options})

-- name: select
SELECT {columns} FROM result LIMIT {rows}

-- name: time
replace(({column} AT TIME ZONE 'UTC')::VARCHAR, ' ', 'T') || 'Z' AS {column}

-- name: decimal
{column}::DECIMAL(38, 0) AS {column}
