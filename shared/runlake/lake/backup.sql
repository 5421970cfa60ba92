-- What a backup asks of a copy of the catalog, by SQLite itself, and what a restore changes in it. The tables are DuckLake's own.

-- name: files
-- Every file that some snapshot of the lake reads, relative to the storage where it is below it; `live`: the newest does.
SELECT s.path || t.path || f.path AS path, f.path_is_relative AS relative, f.path AS whole, f.end_snapshot IS NULL AS live
FROM (
    SELECT table_id, path, path_is_relative, end_snapshot FROM ducklake_data_file
    UNION ALL
    SELECT table_id, path, path_is_relative, end_snapshot FROM ducklake_delete_file
) AS f
JOIN (SELECT DISTINCT table_id, schema_id, path FROM ducklake_table) AS t ON t.table_id = f.table_id
JOIN (SELECT DISTINCT schema_id, path FROM ducklake_schema) AS s ON s.schema_id = t.schema_id
ORDER BY 1

-- name: move
-- The lake's files are somewhere else now.
UPDATE ducklake_metadata SET value = :storage WHERE key = 'data_path' AND scope IS NULL

-- name: forget_scheduled
-- What was replaced before the backup was not copied; so there is nothing to delete.
DELETE FROM ducklake_files_scheduled_for_deletion
