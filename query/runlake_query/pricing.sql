-- What runs cost, by the price list in force. Rows of `runs` and `merged` that were reported a cost, or need none, have no
-- `priced_by`; what was computed is never folded as if it had been reported (`stored_runs` of `apply.sql`).

-- name: look_at_merged
-- How many merged runs have a cost to be computed; and whether any of them, or of the stored runs, has not started.
SELECT count(*) FILTER ({needed}), (SELECT count(*) FROM unstarted) + count(*) FILTER (created_at IS NULL) FROM merged

-- name: price_merged
UPDATE merged
SET
    cost_usd = priced.computed_cost_usd,
    cost_source = CASE WHEN priced.computed_cost_usd IS NOT NULL THEN 'computed' END,
    cost_table_version = priced.price_version::VARCHAR,
    priced_by = coalesce((SELECT any_value(list) FROM prices), '00000000-0000-0000-0000-000000000000'::UUID)
FROM ({priced}) AS priced
WHERE merged.event_id = priced.event_id

-- name: unpriced_rows
(
    SELECT
        event_id, model, start_time, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, cost_usd
    FROM merged
    WHERE {needed}
)

-- name: reprice
-- A bounded step: runs that were priced by another list.
UPDATE runs
SET
    cost_usd = priced.computed_cost_usd,
    cost_source = CASE WHEN priced.computed_cost_usd IS NOT NULL THEN 'computed' END,
    cost_table_version = priced.price_version::VARCHAR,
    priced_by = (SELECT any_value(list) FROM prices)
FROM ({priced}) AS priced
WHERE runs.rowid = priced.place

-- name: rows_to_reprice
(
    SELECT
        rowid AS place, model, start_time, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens,
        NULL::DECIMAL(18,9) AS cost_usd
    FROM runs
    WHERE priced_by <> (SELECT any_value(list) FROM prices)
    LIMIT {step}
)

-- name: count_to_reprice
SELECT count(*) FROM runs WHERE priced_by <> (SELECT any_value(list) FROM prices)

-- name: list
-- The list that the read model has, if any.
SELECT any_value(list)::VARCHAR FROM prices

-- name: list_in_lake
SELECT arg_max(list, (version, list))::VARCHAR FROM {lake}.prices

-- name: has_prices
SELECT count(*) FROM duckdb_tables() WHERE database_name = {lake} AND table_name = 'prices'

-- name: forget
DELETE FROM prices

-- name: take
INSERT INTO prices BY NAME {in_force}

-- name: about
SELECT version, source, rfc3339(written_at) FROM prices LIMIT 1

-- name: prices
SELECT
    json_object(
        'model', model, 'valid_from', rfc3339(valid_from), 'input', input, 'output', output, 'cache_read', cache_read,
        'cache_write', cache_write
    )
FROM prices
ORDER BY model, valid_from
