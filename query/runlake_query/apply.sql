-- Applying a span of one worker's log to the read model. All of it runs in one transaction, so that the position and the
-- rows agree. What is new of a span is in temporary tables, which are emptied within the transaction: what is never
-- committed leaves no garbage behind.
--
-- The feed's statements are prepared once: to plan a wide one costs more than to run it. They take their rows as JSON
-- arrays, bounded spans of them. The lake's are planned for each span, which may be of a million rows.

-- name: bench
-- The temporary tables of one cursor. `{run_columns}` are those of a change.
CREATE OR REPLACE TEMP TABLE new_changes (
    worker UUID, seq BIGINT, received_at TIMESTAMPTZ, producer VARCHAR, kind VARCHAR, event_id UUID, run_event_id UUID,
    ts TIMESTAMPTZ, {run_columns}
);
CREATE OR REPLACE TEMP TABLE new_events (
    worker UUID, seq BIGINT, event_id UUID, run_id VARCHAR, run_event_id UUID, ts TIMESTAMPTZ, type VARCHAR, payload JSON,
    trace_id VARCHAR, span_id VARCHAR, parent_span_id VARCHAR
);
CREATE OR REPLACE TEMP TABLE new_deliveries (
    first_seq BIGINT, producer VARCHAR, received_at TIMESTAMPTZ, first_number BIGINT, received BIGINT, accepted BIGINT,
    duplicate BIGINT, rejected BIGINT, done BOOLEAN
);
CREATE OR REPLACE TEMP TABLE touched (
    event_id UUID, events BIGINT, first_event_at TIMESTAMPTZ, last_event_at TIMESTAMPTZ, changed BOOLEAN, place BIGINT
);
CREATE OR REPLACE TEMP TABLE merged AS SELECT * FROM runs LIMIT 0;
CREATE OR REPLACE TEMP TABLE summed_counts AS SELECT * FROM run_counts LIMIT 0;
CREATE OR REPLACE TEMP TABLE summed AS SELECT * FROM producers LIMIT 0;
CREATE OR REPLACE TEMP TABLE merged_ranges AS SELECT * FROM producer_ranges LIMIT 0

-- name: rows_of
-- The objects of the JSON array `{json}` as rows. They are read as texts (`{texts}`) and then cast (`{columns}`): from_json
-- alone would make a NULL of what does not fit.
SELECT {columns}
FROM (SELECT unnest(line, max_depth := 2) FROM (SELECT unnest(from_json({json}::VARCHAR, '[{texts}]')) AS line))

-- name: lines_as_changes
-- The feed's changes (`{rows}`) with the columns of `new_changes`.
SELECT
    {worker}::UUID AS worker,
    * REPLACE (coalesce(run_event_id, event_id) AS run_event_id, coalesce(ts, start_time) AS ts)
FROM ({rows})

-- name: clear
DELETE FROM {table}

-- name: feed_events
INSERT INTO new_events BY NAME
SELECT {worker}::UUID AS worker, * EXCLUDE (kind, received_at, producer, prev_hash, event_hash) FROM ({rows})

-- name: feed_deliveries
-- Until the lake has them, the books of the feed stand beside those of the lake.
INSERT INTO open_deliveries BY NAME
SELECT {worker}::UUID AS worker, {segment}::BIGINT AS segment, * EXCLUDE (kind, first_seq, batch) FROM ({rows})

-- name: feed_touch
-- The runs that the span is about, and where they are stored now: one scan of one column finds them all, of those row
-- groups that may hold one.
INSERT INTO touched BY NAME
SELECT
    new.event_id,
    coalesce(new.events, 0) AS events,
    new.first_event_at,
    new.last_event_at,
    coalesce(new.changed, false) AS changed,
    runs.rowid AS place
FROM ({rows}) AS new
LEFT JOIN runs ON runs.event_id = new.event_id
RETURNING changed, place IS NOT NULL

-- name: copy_changes
COPY (
    SELECT * FROM {lake}.run_changes WHERE worker = $worker::UUID AND seq > $after AND seq <= $upto
) TO {file} (FORMAT parquet)

-- name: copy_events
COPY (
    SELECT worker, seq, event_id, run_id, run_event_id, ts, type, payload, trace_id, span_id, parent_span_id
    FROM {lake}.events
    WHERE worker = $worker::UUID AND seq > $after AND seq <= $upto
) TO {file} (FORMAT parquet)

-- name: stage_copied
INSERT INTO {table} BY NAME FROM read_parquet({file})

-- name: drop_runs
-- Runs by their ids.
DELETE FROM runs WHERE event_id IN ({runs})

-- name: stage_changes_of
-- Of these runs, what the lake has confirmed.
INSERT INTO new_changes BY NAME
SELECT changes.*
FROM {lake}.run_changes AS changes
JOIN positions ON positions.worker = changes.worker AND changes.seq <= positions.lake_seq
WHERE changes.run_event_id IN ({runs})

-- name: stage_events_of
INSERT INTO new_events BY NAME
SELECT
    e.worker, e.seq, e.event_id, e.run_id, e.run_event_id, e.ts, e.type, e.payload, e.trace_id, e.span_id,
    e.parent_span_id
FROM {lake}.events AS e
JOIN positions ON positions.worker = e.worker AND e.seq <= positions.lake_seq
WHERE e.run_event_id IN ({runs})

-- name: stage_deliveries
-- Batches from the books' position on. A `first_seq` beyond the span marks those that had nothing to accept at its end:
-- they are not done yet.
INSERT INTO new_deliveries BY NAME
SELECT
    first_seq, producer, received_at, first_number, received, accepted, duplicate, rejected, first_seq <= $upto AS done
FROM {lake}.deliveries
WHERE worker = $worker::UUID AND first_seq > $after

-- name: read_books
-- The same batches as a JSON array, `$most` of them and one more at most; and how many they are.
SELECT to_json(list(batch))::VARCHAR, count(*)
FROM (
    SELECT first_seq, producer, received_at, first_number, received, accepted, duplicate, rejected
    FROM {lake}.deliveries
    WHERE worker = $worker::UUID AND first_seq > $after
    LIMIT $most + 1
) AS batch

-- name: stage_books
INSERT INTO new_deliveries BY NAME
SELECT *, first_seq <= {upto}::BIGINT AS done FROM ({rows})

-- name: lake_positions
-- How far each worker has flushed.
SELECT worker::VARCHAR, max(last_seq), max(segment) FROM {lake}.flushes GROUP BY worker

-- name: stored_position
SELECT seq, lake_seq, segment, feed_segment FROM positions WHERE worker = $worker::UUID

-- name: count_new
SELECT
    (SELECT count(*) FROM new_changes),
    (SELECT count(commit_hash) FROM new_changes),
    (SELECT count(*) FROM new_events),
    (SELECT count(*) FROM new_events WHERE run_event_id IS NULL)

-- name: count_deliveries
SELECT count(*) FILTER (done), count(*) FILTER (NOT done) FROM new_deliveries

-- name: touch
-- The runs that the new rows are about, and where they are stored now: one scan of one column finds them all.
INSERT INTO touched
SELECT new.*, runs.rowid AS place
FROM (
    SELECT
        run_event_id AS event_id,
        count(*) FILTER (NOT changed) AS events,
        min(ts) FILTER (NOT changed) AS first_event_at,
        max(ts) FILTER (NOT changed) AS last_event_at,
        bool_or(changed) AS changed
    FROM (
        SELECT run_event_id, ts, true AS changed FROM new_changes
        UNION ALL
        SELECT run_event_id, ts, false AS changed FROM new_events WHERE run_event_id IS NOT NULL
    )
    GROUP BY run_event_id
) AS new
LEFT JOIN runs ON runs.event_id = new.event_id

-- name: count_touched
SELECT
    count(*) FILTER (changed AND place IS NOT NULL),
    count(*) FILTER (NOT changed AND place IS NOT NULL),
    count(*) FILTER (changed OR place IS NULL)
FROM touched

-- name: merge_runs
-- The changed runs as folded, with what is shown of them and with their event counts; and runs of which only events have
-- come. `{fold}` is the fold of `{changes}`, of what is stored of the same runs, and of the counts of their events.
INSERT INTO merged BY NAME
SELECT
    *,
    {duration_ms} AS shown_duration_ms,
    {cost_source} AS cost_source,
    {cost_table_version} AS cost_table_version
FROM ({fold})

-- name: stored_runs
-- The runs of the new changes as folded so far, in the form that the fold takes.
SELECT
    event_id AS run_event_id,
    * EXCLUDE (event_id, shown_duration_ms, cost_usd, cost_source, cost_table_version, priced_by),
    CASE WHEN cost_source = 'reported' THEN cost_usd END AS cost_usd,
    0 AS rank
FROM runs
WHERE rowid IN (SELECT place FROM touched WHERE changed AND place IS NOT NULL)

-- name: keep_others
-- The fields that no change sets stay as they are stored.
SELECT folded.*, {others}
FROM ({fold}) AS folded
LEFT JOIN ({stored}) AS stored ON stored.run_event_id = folded.event_id

-- name: counts
SELECT event_id AS run_event_id, events, NULL::TIMESTAMPTZ AS first_change_at, first_event_at, last_event_at
FROM touched
WHERE changed OR place IS NULL

-- name: more_folded
-- What the read model folds beside the run fields.
,
sum(events)::BIGINT AS events,
min(least(first_change_at, updated_at)) AS first_change_at,
min(first_event_at) AS first_event_at,
max(last_event_at) AS last_event_at

-- name: associate
-- The commits that changes (`{rows}`) say of their runs.
INSERT INTO associations BY NAME
SELECT
    lower(commit_hash) AS sha, nullif(commit_hash, lower(commit_hash)) AS said, run_event_id, commit_source, commit_author,
    commit_timestamp, ts, worker, seq
FROM {rows}
WHERE commit_hash IS NOT NULL

-- name: drop_stored
DELETE FROM runs WHERE rowid IN (SELECT place FROM touched WHERE changed AND place IS NOT NULL)

-- name: insert_merged
INSERT INTO runs BY NAME SELECT * FROM merged

-- name: forget_unstarted
-- What became of merged runs: …
DELETE FROM unstarted WHERE event_id IN (SELECT event_id FROM merged)

-- name: add_unstarted
-- … their start has come, or it has not.
INSERT INTO unstarted SELECT event_id FROM merged WHERE created_at IS NULL

-- name: recount_unstarted
DELETE FROM unstarted;
INSERT INTO unstarted SELECT event_id FROM runs WHERE created_at IS NULL

-- name: count_fields
SELECT {counts} FROM new_changes

-- name: use_field
INSERT INTO used_fields VALUES ($name)

-- name: add_event_counts
UPDATE runs
SET
    events = runs.events + touched.events,
    first_event_at = least(runs.first_event_at, touched.first_event_at),
    last_event_at = greatest(runs.last_event_at, touched.last_event_at)
FROM touched
WHERE runs.rowid = touched.place AND NOT touched.changed

-- name: insert_all_events
-- From the feed all of them: what is older than the window has no other place until the lake has it.
INSERT INTO events BY NAME SELECT * FROM new_events

-- name: insert_recent_events
INSERT INTO events BY NAME SELECT * FROM new_events WHERE ts >= (SELECT events_since FROM meta)

-- name: forget_flushed_events
DELETE FROM events
WHERE worker = $worker::UUID AND seq > $after AND seq <= $upto AND ts < (SELECT events_since FROM meta)

-- name: new_loose_events
SELECT run_id, count(*) AS events, min(ts) AS first_event_at, max(ts) AS last_event_at
FROM new_events
WHERE run_event_id IS NULL
GROUP BY run_id

-- name: add_loose_events
-- `{rows}` are counts of events by the `run_id` that they name.
UPDATE loose_events
SET
    events = loose_events.events + new.events,
    first_event_at = least(loose_events.first_event_at, new.first_event_at),
    last_event_at = greatest(loose_events.last_event_at, new.last_event_at)
FROM ({rows}) AS new
WHERE loose_events.run_id = new.run_id

-- name: begin_loose_events
INSERT INTO loose_events BY NAME
SELECT new.run_id, new.events, new.first_event_at, new.last_event_at
FROM ({rows}) AS new
ANTI JOIN loose_events ON loose_events.run_id = new.run_id

-- name: sum_deliveries
INSERT INTO summed BY NAME
SELECT
    {worker}::UUID AS worker,
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
    WHERE done
    UNION ALL BY NAME
    SELECT * EXCLUDE (worker)
    FROM producers
    WHERE worker = {worker}::UUID AND producer IN (SELECT producer FROM new_deliveries WHERE done)
)
GROUP BY producer

-- name: merge_ranges
INSERT INTO merged_ranges BY NAME
SELECT {worker}::UUID AS worker, producer, min(first_number) AS first_number, max(last_number) AS last_number
FROM ({islands})
GROUP BY producer, island

-- name: new_ranges
SELECT {worker}::UUID AS worker, producer, first_number, first_number + received - 1 AS last_number
FROM new_deliveries
WHERE done AND first_number IS NOT NULL AND received > 0
UNION ALL
SELECT worker, producer, first_number, last_number
FROM producer_ranges
WHERE worker = {worker}::UUID AND producer IN (SELECT producer FROM summed)

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
DELETE FROM producers WHERE worker = {worker}::UUID AND producer IN (SELECT producer FROM summed);
INSERT INTO producers BY NAME SELECT * FROM summed;
DELETE FROM producer_ranges WHERE worker = {worker}::UUID AND producer IN (SELECT producer FROM summed);
INSERT INTO producer_ranges BY NAME SELECT * FROM merged_ranges

-- name: close_segments
-- What the lake now holds takes the place of what the feed had said of the same segments: …
DELETE FROM open_deliveries WHERE worker = $worker::UUID AND segment <= $segment

-- name: keep_open
-- … and what is not done yet stays open.
INSERT INTO open_deliveries BY NAME
SELECT $worker::UUID AS worker, $segment::BIGINT AS segment, * EXCLUDE (first_seq, done)
FROM new_deliveries
WHERE NOT done

-- name: advance
UPDATE positions
SET seq = {seq}::BIGINT, lake_seq = {lake_seq}::BIGINT, segment = {segment}::BIGINT, feed_segment = {feed_segment}::BIGINT
WHERE worker = {worker}::UUID

-- name: begin_position
INSERT INTO positions VALUES ($worker::UUID, $seq, $lake_seq, $segment, $feed_segment)

-- name: events_since
SELECT epoch_us(events_since) FROM meta

-- name: forget_events
DELETE FROM events
USING positions AS p
WHERE ts < $since::TIMESTAMPTZ AND p.worker = events.worker AND events.seq <= p.lake_seq

-- name: remember_events
-- Events of a window that was made larger, as far as the lake's are reflected.
INSERT INTO events BY NAME
SELECT
    e.worker, e.seq, e.event_id, e.run_id, e.run_event_id, e.ts, e.type, e.payload, e.trace_id, e.span_id,
    e.parent_span_id
FROM {lake}.events AS e
JOIN positions AS p ON p.worker = e.worker AND e.seq <= p.lake_seq
WHERE e.ts >= $since::TIMESTAMPTZ AND e.ts < (SELECT events_since FROM meta)

-- name: set_events_since
UPDATE meta SET events_since = $since::TIMESTAMPTZ
