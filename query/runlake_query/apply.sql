-- Applying a span of one worker's log to the read model. All of it runs in one transaction, so that the position and the
-- rows agree. Sources fill three temporary tables of new rows; what follows does not know where they came from.

-- name: stage_changes
CREATE OR REPLACE TEMP TABLE new_changes AS
SELECT * FROM {lake}.run_changes WHERE worker = $worker::UUID AND seq > $after AND seq <= $upto

-- name: stage_events
CREATE OR REPLACE TEMP TABLE new_events AS
SELECT worker, seq, event_id, run_id, run_event_id, ts, type, payload, trace_id, span_id, parent_span_id
FROM {lake}.events
WHERE worker = $worker::UUID AND seq > $after AND seq <= $upto

-- name: stage_deliveries
-- Batches from the position on; `first_seq` beyond the span marks those that had nothing to accept at its end.
CREATE OR REPLACE TEMP TABLE new_deliveries AS
SELECT first_seq, producer, received_at, first_number, received, accepted, duplicate, rejected
FROM {lake}.deliveries
WHERE worker = $worker::UUID AND first_seq > $after

-- name: lake_positions
-- How far each worker has flushed.
SELECT worker::VARCHAR, max(last_seq), max(segment) FROM {lake}.flushes GROUP BY worker

-- name: stored_position
SELECT seq, segment FROM positions WHERE worker = $worker::UUID

-- name: count_new
SELECT
    (SELECT count(*) FROM new_changes),
    (SELECT count(*) FROM new_events),
    (SELECT count(*) FROM new_events WHERE run_event_id IS NULL),
    (SELECT count(*) FROM new_deliveries WHERE first_seq <= $upto)

-- name: stored_runs
-- The runs of the new changes as folded so far, in the form that the fold takes.
SELECT
    event_id AS run_event_id,
    * EXCLUDE (
        event_id, shown_duration_ms, cost_source, cost_table_version, events, first_event_at, last_event_at
    ),
    0 AS rank
FROM runs
WHERE event_id IN (SELECT run_event_id FROM new_changes)

-- name: fold_changes
CREATE OR REPLACE TEMP TABLE folded AS {fold}

-- name: merge_runs
-- The folded runs with what is shown of them, and with their event counts.
CREATE OR REPLACE TEMP TABLE merged AS
SELECT
    folded.*,
    presented.duration_ms AS shown_duration_ms,
    presented.cost_source,
    presented.cost_table_version,
    coalesce(runs.events, 0) AS events,
    runs.first_event_at,
    runs.last_event_at
FROM folded
LEFT JOIN ({present}) AS presented ON presented.event_id = folded.event_id
LEFT JOIN runs ON runs.event_id = folded.event_id

-- name: replace_runs
DELETE FROM runs WHERE event_id IN (SELECT event_id FROM merged);
INSERT INTO runs BY NAME SELECT * FROM merged

-- name: count_events
CREATE OR REPLACE TEMP TABLE counted AS
SELECT run_event_id, count(*) AS events, min(ts) AS first_event_at, max(ts) AS last_event_at
FROM new_events
WHERE run_event_id IS NOT NULL
GROUP BY run_event_id

-- name: make_missing_runs
-- Events may come before anything else is said about their run.
INSERT INTO runs BY NAME
SELECT run_event_id AS event_id, 0 AS events
FROM counted
WHERE run_event_id NOT IN (SELECT event_id FROM runs WHERE event_id IN (SELECT run_event_id FROM counted))

-- name: add_event_counts
UPDATE runs
SET
    events = runs.events + counted.events,
    first_event_at = least(runs.first_event_at, counted.first_event_at),
    last_event_at = greatest(runs.last_event_at, counted.last_event_at)
FROM counted
WHERE runs.event_id = counted.run_event_id

-- name: insert_events
INSERT INTO events BY NAME
SELECT * FROM new_events WHERE ts >= (SELECT events_since FROM meta)

-- name: count_loose_events
CREATE OR REPLACE TEMP TABLE loosened AS
SELECT
    run_id,
    sum(events)::BIGINT AS events,
    min(first_event_at) AS first_event_at,
    max(last_event_at) AS last_event_at
FROM (
    SELECT run_id, 1 AS events, ts AS first_event_at, ts AS last_event_at FROM new_events WHERE run_event_id IS NULL
    UNION ALL BY NAME
    SELECT * FROM loose_events WHERE run_id IN (SELECT run_id FROM new_events WHERE run_event_id IS NULL)
)
GROUP BY run_id

-- name: replace_loose_events
DELETE FROM loose_events WHERE run_id IN (SELECT run_id FROM loosened);
INSERT INTO loose_events BY NAME SELECT * FROM loosened

-- name: sum_deliveries
CREATE OR REPLACE TEMP TABLE summed AS
SELECT
    $worker::UUID AS worker,
    producer,
    sum(received)::BIGINT AS received,
    sum(accepted)::BIGINT AS accepted,
    sum(duplicate)::BIGINT AS duplicate,
    sum(rejected)::BIGINT AS rejected,
    min(first_seen) AS first_seen,
    max(last_seen) AS last_seen
FROM (
    SELECT producer, received, accepted, duplicate, rejected, received_at AS first_seen, received_at AS last_seen
    FROM new_deliveries
    WHERE first_seq <= $upto
    UNION ALL BY NAME
    SELECT * EXCLUDE (worker)
    FROM producers
    WHERE worker = $worker::UUID AND producer IN (SELECT producer FROM new_deliveries WHERE first_seq <= $upto)
)
GROUP BY producer

-- name: merge_ranges
CREATE OR REPLACE TEMP TABLE merged_ranges AS
SELECT $worker::UUID AS worker, producer, min(first_number) AS first_number, max(last_number) AS last_number
FROM ({islands})
GROUP BY producer, island

-- name: new_ranges
SELECT $worker::UUID AS worker, producer, first_number, first_number + received - 1 AS last_number
FROM new_deliveries
WHERE first_seq <= $upto AND first_number IS NOT NULL AND received > 0
UNION ALL
SELECT worker, producer, first_number, last_number
FROM producer_ranges
WHERE worker = $worker::UUID AND producer IN (SELECT producer FROM summed)

-- name: islands
-- Ranges with a number of the island that each belongs to: ranges that overlap or touch are one island.
SELECT
    *,
    sum(starts) OVER (
        PARTITION BY worker, producer ORDER BY first_number, last_number ROWS UNBOUNDED PRECEDING
    ) AS island
FROM (
    SELECT
        *,
        CASE
            WHEN first_number <= 1 + max(last_number) OVER (
                PARTITION BY worker, producer
                ORDER BY first_number, last_number
                ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
            ) THEN 0
            ELSE 1
        END AS starts
    FROM ({ranges})
)

-- name: replace_producers
DELETE FROM producers WHERE worker = $worker::UUID AND producer IN (SELECT producer FROM summed);
INSERT INTO producers BY NAME SELECT * FROM summed;
DELETE FROM producer_ranges WHERE worker = $worker::UUID AND producer IN (SELECT producer FROM summed);
INSERT INTO producer_ranges BY NAME SELECT * FROM merged_ranges

-- name: replace_open_deliveries
DELETE FROM open_deliveries WHERE worker = $worker::UUID;
INSERT INTO open_deliveries BY NAME
SELECT $worker::UUID AS worker, * EXCLUDE (first_seq) FROM new_deliveries WHERE first_seq > $upto

-- name: advance
DELETE FROM positions WHERE worker = $worker::UUID;
INSERT INTO positions VALUES ($worker::UUID, $upto, $segment)

-- name: release
-- Gives the memory of a large span back.
DROP TABLE IF EXISTS temp.folded;
DROP TABLE IF EXISTS temp.merged;
DROP TABLE IF EXISTS temp.counted;
DROP TABLE IF EXISTS temp.new_changes;
DROP TABLE IF EXISTS temp.new_events

-- name: events_since
SELECT epoch_us(events_since) FROM meta

-- name: forget_events
DELETE FROM events WHERE ts < $since::TIMESTAMPTZ

-- name: remember_events
-- Events of a window that was made larger, up to the positions reflected.
INSERT INTO events BY NAME
SELECT
    e.worker, e.seq, e.event_id, e.run_id, e.run_event_id, e.ts, e.type, e.payload, e.trace_id, e.span_id,
    e.parent_span_id
FROM {lake}.events AS e
JOIN positions AS p ON p.worker = e.worker AND e.seq <= p.seq
WHERE e.ts >= $since::TIMESTAMPTZ AND e.ts < (SELECT events_since FROM meta)

-- name: set_events_since
UPDATE meta SET events_since = $since::TIMESTAMPTZ
