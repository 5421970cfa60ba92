-- What there is: values of a dimension, and files of the lake.

-- name: values
-- Those that runs have which match, the most frequent first. `{column}` is one of our own dimensions.
SELECT {column}, count(*) AS runs
FROM {shown}
WHERE {where} AND {column} IS NOT NULL AND starts_with(lower({column}), lower($prefix))
GROUP BY {column}
ORDER BY runs DESC, {column}
LIMIT $rows

-- name: files
-- Of the tables of the lake, as its catalog has them; `flushes` is small and in the catalog itself.
SELECT table_name, file_count, file_size_bytes
FROM ducklake_table_info('{lake}')
ORDER BY file_size_bytes DESC, table_name
