-- What users' SQL reads, copied from the read model into Parquet files, and the lake's own files.

-- name: runs
COPY (SELECT {columns} FROM shown) TO {path} (FORMAT parquet)

-- name: recent_events
-- What the read model reflects beyond what it has confirmed of the lake.
COPY (
    SELECT worker, seq, event_id, run_id, run_event_id, ts, type, payload, trace_id, span_id, parent_span_id
    FROM events
    ANTI JOIN positions ON positions.worker = events.worker AND events.seq <= positions.lake_seq
) TO {path} (FORMAT parquet)

-- name: event_files
SELECT data_file, data_file_size_bytes, delete_file, delete_file_size_bytes
FROM ducklake_list_files({lake}, 'events')

-- name: lake_positions
SELECT worker::VARCHAR, lake_seq FROM positions
