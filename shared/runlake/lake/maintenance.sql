-- What maintenance asks the catalog, and what it has DuckLake do. `{meta}` is DuckLake's own database of metadata, and
-- `{lake}` the attached lake: both are names of ours.

-- name: files
-- The live Parquet files, oldest first.
SELECT t.table_name, f.file_size_bytes, f.record_count
FROM {meta}.ducklake_data_file AS f
JOIN {meta}.ducklake_table AS t ON t.table_id = f.table_id AND t.end_snapshot IS NULL
WHERE f.end_snapshot IS NULL
ORDER BY f.begin_snapshot, f.data_file_id

-- name: deletes
-- Tables that have files of which rows were deleted: how many files, and the largest part of one that is deleted.
SELECT t.table_name, count(*), max(d.delete_count / f.record_count)
FROM {meta}.ducklake_delete_file AS d
JOIN {meta}.ducklake_data_file AS f ON f.data_file_id = d.data_file_id AND f.end_snapshot IS NULL
JOIN {meta}.ducklake_table AS t ON t.table_id = f.table_id AND t.end_snapshot IS NULL
WHERE d.end_snapshot IS NULL
GROUP BY t.table_name
ORDER BY t.table_name

-- name: rewrite
CALL ducklake_rewrite_data_files('{lake}', '{table}', delete_threshold => {part})

-- name: inlined_tables
-- Where the catalog itself holds rows of `flushes`.
SELECT i.table_name
FROM {meta}.ducklake_inlined_data_tables AS i
JOIN {meta}.ducklake_table AS t ON t.table_id = i.table_id AND t.end_snapshot IS NULL
WHERE t.table_name = 'flushes'

-- name: inlined_rows
SELECT count(*) FROM {meta}."{table}"

-- name: snapshots
-- How many snapshots there are, and how many of them ended before `$before`; never the newest.
SELECT count(*), count(*) FILTER (snapshot_time::TIMESTAMPTZ < $before::TIMESTAMPTZ AND NOT newest)
FROM (
    SELECT snapshot_time, snapshot_id = max(snapshot_id) OVER () AS newest
    FROM {meta}.ducklake_snapshot
)

-- name: old_snapshots
-- The oldest snapshots from before `$before`; never the newest of all.
SELECT snapshot_id
FROM {meta}.ducklake_snapshot
WHERE
    snapshot_time::TIMESTAMPTZ < $before::TIMESTAMPTZ
    AND snapshot_id < (SELECT max(snapshot_id) FROM {meta}.ducklake_snapshot)
ORDER BY snapshot_id
LIMIT $most

-- name: scheduled
-- How many replaced files wait to be removed, and how many of them since before `$before`.
SELECT count(*), count(*) FILTER (schedule_start::TIMESTAMPTZ < $before::TIMESTAMPTZ)
FROM {meta}.ducklake_files_scheduled_for_deletion

-- name: removable_until
-- Up to when the `$most` files were replaced that have waited longest, of those from before `$before`.
SELECT max(since)::VARCHAR
FROM (
    SELECT schedule_start::TIMESTAMPTZ AS since
    FROM {meta}.ducklake_files_scheduled_for_deletion
    WHERE schedule_start::TIMESTAMPTZ < $before::TIMESTAMPTZ
    ORDER BY since
    LIMIT $most
)

-- name: known_files
-- Every Parquet file that the catalog knows, live or scheduled, by its name.
SELECT regexp_extract(path, '[^/]+$')
FROM (
    SELECT path FROM {meta}.ducklake_data_file
    UNION ALL
    SELECT path FROM {meta}.ducklake_delete_file
    UNION ALL
    SELECT path FROM {meta}.ducklake_files_scheduled_for_deletion
)

-- name: inline
CALL ducklake_flush_inlined_data('{lake}', table_name => 'flushes')

-- name: target
-- How large the file becomes that the next merge makes.
CALL {lake}.set_option('target_file_size', '{size}B', table_name => '{table}')

-- name: merge
CALL ducklake_merge_adjacent_files(
    '{lake}', '{table}', max_compacted_files => 1, min_file_size => {least}, max_file_size => {below}
)

-- name: expire
CALL ducklake_expire_snapshots('{lake}', versions => {versions})

-- name: remove
CALL ducklake_cleanup_old_files('{lake}', older_than => {until}::TIMESTAMPTZ + INTERVAL 1 MICROSECOND)

-- name: old_objects
-- The Parquet files in object storage that were there before `$before`. Only lists them.
SELECT filename FROM read_blob({pattern}) WHERE last_modified < $before::TIMESTAMPTZ

-- name: orphans
-- Files below the storage that DuckLake does not know.
CALL ducklake_delete_orphaned_files('{lake}', older_than => {until}::TIMESTAMPTZ, dry_run => {dry_run})

-- name: is_sorted
-- Whether a table's files are sorted when they are merged.
SELECT count(*)
FROM {meta}.ducklake_sort_info AS s
JOIN {meta}.ducklake_table AS t ON t.table_id = s.table_id AND t.end_snapshot IS NULL
WHERE t.table_name = $table AND s.end_snapshot IS NULL
