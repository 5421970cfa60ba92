-- The books: what each producer sent, and what was refused.

-- name: producers
-- One row per producer and worker, the latest seen first. A producer numbers its messages 1, 2, 3 … for each worker;
-- gaps are the numbers up to the highest that came which did not come.
WITH
sums AS (
    SELECT
        producer,
        worker,
        sum(received)::BIGINT AS received,
        sum(accepted)::BIGINT AS accepted,
        sum(duplicate)::BIGINT AS duplicate,
        sum(rejected)::BIGINT AS rejected,
        min(first_seen) AS first_seen,
        max(last_seen) AS last_seen
    FROM (
        SELECT * FROM producers
        UNION ALL BY NAME
        SELECT * EXCLUDE (segment, first_number, received_at), received_at AS first_seen, received_at AS last_seen
        FROM open_deliveries
    )
    GROUP BY producer, worker
),
covered AS (
    SELECT producer, worker, max(last_number) - sum(last_number - first_number + 1) AS gaps
    FROM (
        SELECT producer, worker, min(first_number) AS first_number, max(last_number) AS last_number
        FROM ({islands})
        GROUP BY producer, worker, island
    )
    GROUP BY producer, worker
)
SELECT
    json_object(
        'producer', producer, 'worker', worker, 'received', received, 'accepted', accepted, 'duplicate', duplicate,
        'rejected', rejected, 'gaps', coalesce(gaps, 0)::BIGINT, 'first_seen', rfc3339(first_seen),
        'last_seen', rfc3339(last_seen)
    )
FROM sums
LEFT JOIN covered USING (producer, worker)
ORDER BY last_seen DESC, producer, worker
LIMIT $limit OFFSET $offset

-- name: all_ranges
SELECT worker, producer, first_number, last_number FROM producer_ranges
UNION ALL
SELECT worker, producer, first_number, first_number + received - 1
FROM open_deliveries
WHERE first_number IS NOT NULL AND received > 0

-- name: count_producers
SELECT count(*)
FROM (SELECT worker, producer FROM producers UNION SELECT worker, producer FROM open_deliveries)

-- name: quarantine
-- Refused messages, the latest first. Rows that tell nothing apart are in no order that could matter.
SELECT {refused}, epoch_us(received_at)
FROM (
    FROM {lake}.quarantine
    WHERE received_at <= make_timestamptz($until)
    ORDER BY received_at DESC, worker, producer, batch, number, reason, raw
    LIMIT $limit OFFSET $skip
)
ORDER BY received_at DESC, worker, producer, batch, number, reason, raw

-- name: refused
-- A refused message as the API shows it.
json_object(
    'id', {id}, 'received_at', rfc3339(received_at), 'worker', worker, 'producer', producer, 'batch', batch,
    'number', number, 'messages', messages, 'field', field, 'reason', reason, 'raw', to_base64(raw)
)

-- name: refused_id
-- What a refused message is called: a digest of all that is known of it, so that it is the same wherever it is asked for.
md5(concat_ws(
    chr(31), worker::VARCHAR, epoch_us(received_at)::VARCHAR, producer, coalesce(batch::VARCHAR, '-'),
    coalesce(number::VARCHAR, '-'), messages::VARCHAR, reason, md5(to_base64(raw))
))

-- name: refused_one
SELECT {refused}, raw FROM {lake}.quarantine WHERE {id} = $id ORDER BY received_at LIMIT 1

-- name: count_quarantine
SELECT count(*), coalesce(sum(messages), 0)::BIGINT FROM {lake}.quarantine
