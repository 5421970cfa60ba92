-- The order of the logs of several workers.

-- name: stretches
-- Where each worker's numbering in the lake has no gap, beyond `$seqs` of `$workers`; of the others all of it.
SELECT worker::VARCHAR, min(first_seq), max(last_seq)
FROM (
    SELECT
        *,
        sum(jumps) OVER (PARTITION BY worker ORDER BY last_seq, first_seq ROWS UNBOUNDED PRECEDING) AS stretch
    FROM (
        SELECT
            worker,
            first_seq,
            last_seq,
            CASE
                WHEN first_seq > 1 + lag(last_seq) OVER (PARTITION BY worker ORDER BY last_seq, first_seq) THEN 1
                ELSE 0
            END AS jumps
        FROM {lake}.flushes
        WHERE last_seq > coalesce(list_extract($seqs::BIGINT[], list_position($workers::UUID[], worker)), -1)
    )
)
GROUP BY worker, stretch
