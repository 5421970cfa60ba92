-- Rollups: measures of the runs that match, by dimensions and by bucket of their start. No bucket begins before year 1.

-- name: runs
SELECT * FROM {shown}

-- name: sample
-- Some of the runs, block by block: what `shown` is, with fewer rows.
SELECT * EXCLUDE (duration_ms, shown_duration_ms), shown_duration_ms AS duration_ms
FROM runs TABLESAMPLE system(4%)
WHERE {started}

-- name: has_loose_events
-- Without any, the join for them would be in vain, and it costs more than all else.
SELECT EXISTS (FROM loose_events)

-- name: runs_with_loose_events
-- Counting the events that belong to a run by its run_id alone, too.
SELECT shown.* EXCLUDE (events), shown.events + coalesce(loose_of_run.events, 0) AS events
FROM {shown} AS shown
LEFT JOIN loose_of_run ON loose_of_run.event_id = shown.event_id

-- name: base
-- The runs that match, each with its bucket. Statuses and fields keep their names.
SELECT *, {bucket} AS bucket{stale} FROM ({runs}) WHERE {where}

-- name: slots
-- The bucket of each slot of a few minutes that has runs: to say for each run what time it is in a zone takes 0.2 µs (1.7 million
-- runs by day: 790 ms of processor time; so: 106). A slot in which a bucket ends has none, and leaves it to its runs.
-- (Not in a subquery: from below one with these no unused column is removed.)
WITH moments AS MATERIALIZED (SELECT DISTINCT {slot} AS slot FROM ({runs}) WHERE {where}),
slots AS MATERIALIZED (
    SELECT slot, CASE WHEN first_bucket = last_bucket THEN first_bucket END AS slot_bucket
    FROM (SELECT slot, {first_bucket} AS first_bucket, {last_bucket} AS last_bucket FROM moments)
)

-- name: in_slots
-- The runs that match, each with its bucket, by `slots`.
SELECT slotted.*, coalesce(slots.slot_bucket, {bucket}) AS bucket{stale}
FROM (SELECT *, {slot} AS run_slot FROM ({runs}) WHERE {where}) AS slotted
LEFT JOIN slots ON slots.slot = slotted.run_slot

-- name: slot
-- Counted from the year 1, so that none is cut off towards zero that matters.
((epoch_us(start_time) + 62135596800000000) // {slot_us})

-- name: first_of_slot
make_timestamptz(slot * {slot_us} - 62135596800000000)

-- name: last_of_slot
make_timestamptz((slot + 1) * {slot_us} - 62135596800000001)

-- name: short_bucket
-- Minutes and hours are counted from their local start; the hour that comes twice when clocks go back is two buckets.
greatest(
    {time} - ({time} AT TIME ZONE $tz - date_trunc($bucket, {time} AT TIME ZONE $tz)),
    '0001-01-01 00:00:00+00'::TIMESTAMPTZ
)

-- name: long_bucket
-- Days, weeks and months begin at local midnight, so that a day may have 23 or 25 hours.
greatest(date_trunc($bucket, {time} AT TIME ZONE $tz) AT TIME ZONE $tz, '0001-01-01 00:00:00+00'::TIMESTAMPTZ)

-- name: short_buckets
-- The buckets of moments in the range, close enough that none is missed: a zone may shift by a quarter of an hour.
SELECT DISTINCT {bucket_of_moment} AS bucket
FROM (
    SELECT unnest(generate_series(
        $start_time_from::TIMESTAMPTZ, $start_time_to::TIMESTAMPTZ - INTERVAL 1 MICROSECOND, {step}
    )) AS moment
    UNION ALL
    SELECT $start_time_to::TIMESTAMPTZ - INTERVAL 1 MICROSECOND
)

-- name: long_buckets
SELECT DISTINCT greatest(local_start AT TIME ZONE $tz, '0001-01-01 00:00:00+00'::TIMESTAMPTZ) AS bucket
FROM (
    SELECT unnest(generate_series(
        date_trunc($bucket, $start_time_from::TIMESTAMPTZ AT TIME ZONE $tz),
        ($start_time_to::TIMESTAMPTZ - INTERVAL 1 MICROSECOND) AT TIME ZONE $tz,
        {step}
    )) AS local_start
)

-- name: groups
-- What is known of each group, of all runs when there are no keys: one pass over the runs.
{slots}SELECT {keys}{parts} FROM ({base}) {group_by}

-- name: rows_of_groups
WITH groups AS MATERIALIZED ({groups}){of_all} {rows}

-- name: of_all
-- The quantiles of a column over all runs that match. Beside the groups, so that all cores have work to do until the end.
, all_{column}(quantiles) AS MATERIALIZED ({quantiles})

-- name: of_groups
SELECT {keys}{measures} FROM groups

-- name: filled
-- Every group with every bucket of the range; where there are no runs, measures are those of no rows.
SELECT {frame_keys}, {filled_measures}
FROM (
    SELECT * FROM (SELECT * FROM ({buckets}) UNION SELECT bucket FROM groups) {cross_groups}
) AS frame
CROSS JOIN (SELECT {nothing} FROM groups WHERE false) AS nothing
LEFT JOIN ({grouped}) AS grouped ON {same_keys}

-- name: cross_groups
 CROSS JOIN (SELECT DISTINCT {dimensions} FROM groups)

-- name: count_groups
SELECT count(*) FROM (SELECT DISTINCT {dimensions} FROM ({base}))

-- name: totals
WITH groups AS MATERIALIZED ({groups}){of_all} SELECT 0 AS place, {row} AS row FROM ({totals})

-- name: rows_and_totals
-- The totals first, then the rows in their order.
WITH groups AS MATERIALIZED ({groups}){of_all}
SELECT 0 AS place, {totals_row} AS row FROM ({totals})
UNION ALL
SELECT row_number() OVER (ORDER BY {order}) AS place, {row} AS row
FROM (SELECT * FROM ({rows}) ORDER BY {order} LIMIT $limit)
ORDER BY place
