-- The bits of event_ids in the filter of `knownruns.py`: for each word the bits to set. `{ids}` is a table of event_ids,
-- `{mask}` the number of words less one.

-- name: words
SELECT
    h & {mask} AS word,
    bit_or(
        (1::UBIGINT << ((h >> 32) & 63)) | (1::UBIGINT << ((h >> 38) & 63))
        | (1::UBIGINT << ((h >> 44) & 63)) | (1::UBIGINT << ((h >> 50) & 63))
    ) AS bits,
    count(*) AS ids
FROM (SELECT md5_number_lower(event_id::VARCHAR) AS h FROM {ids})
GROUP BY word

-- name: count
SELECT count(*) FROM runs
