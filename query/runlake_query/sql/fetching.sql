-- Files of object storage on this machine.

-- name: fetch
-- A file as it is, to the disk.
COPY (SELECT content FROM read_blob({file})) TO {path} (FORMAT blob)
