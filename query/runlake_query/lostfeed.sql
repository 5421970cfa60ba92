-- What the feed told of a worker and the lake will never have. `$after` < seq ≤ `$upto` of `$worker` are its positions;
-- `{lake}` is a copy of the lake's catalog.

-- name: runs
-- The runs that were changed so, or of which events came so. A run has the position of its last change, which may be
-- another worker's: then it is folded to what it was.
CREATE OR REPLACE TEMP TABLE lost_runs AS
SELECT event_id FROM runs WHERE seq > $after AND seq <= $upto
UNION
SELECT run_event_id FROM events WHERE worker = $worker::UUID AND seq > $after AND run_event_id IS NOT NULL

-- name: loose
-- The names of runs that events named so.
CREATE OR REPLACE TEMP TABLE lost_names AS
SELECT DISTINCT run_id FROM events WHERE worker = $worker::UUID AND seq > $after AND run_event_id IS NULL

-- name: drop_events
DELETE FROM events WHERE worker = $worker::UUID AND seq > $after

-- name: drop_associations
DELETE FROM associations WHERE worker = $worker::UUID AND seq > $after

-- name: drop_loose_events
DELETE FROM loose_events WHERE run_id IN (SELECT run_id FROM lost_names)

-- name: count_loose_events
INSERT INTO loose_events BY NAME
SELECT e.run_id, count(*) AS events, min(e.ts) AS first_event_at, max(e.ts) AS last_event_at
FROM {lake}.events AS e
JOIN positions ON positions.worker = e.worker AND e.seq <= positions.lake_seq
WHERE e.run_event_id IS NULL AND e.run_id IN (SELECT run_id FROM lost_names)
GROUP BY e.run_id

-- name: drop_deliveries
DELETE FROM open_deliveries WHERE worker = $worker::UUID AND segment > $segment
