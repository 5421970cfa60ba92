-- What a run cost, by its model, its start and its tokens. Written here once, and used by the lake's `runs` view and by the
-- read model.

-- name: in_force
-- The rows of the list in force, with until when each holds. `{prices}` is a table of lists.
SELECT *, lead(valid_from) OVER (PARTITION BY model ORDER BY valid_from) AS valid_until
FROM {prices}
WHERE list = (SELECT arg_max(list, (version, list)) FROM {prices})

-- name: priced
-- The rows of `{rows}`, which have the columns of folded runs, by the prices `{in_force}` with `computed_cost_usd` and the `price_version` that it is by;
-- both NULL where the cost was reported, nothing is known of tokens, or no price is.
--
-- The price is that of the model's own name; else of the longest listed name that makes it with a date, a number of three
-- digits or more, or `latest` behind a `-` or `@`. Of that name, it is the one of the latest `valid_from` not after the start.
SELECT
    run.* EXCLUDE (listed_model),
    {cost} AS computed_cost_usd,
    CASE WHEN ({cost}) IS NOT NULL THEN price.version END AS price_version
FROM (
    SELECT
        *,
        CASE WHEN {needed} THEN (
            SELECT arg_max(listed.model, length(listed.model))
            FROM {in_force} AS listed
            WHERE
                starts_with(folded.model, listed.model)
                AND (
                    folded.model = listed.model
                    OR regexp_full_match(
                        substr(folded.model, length(listed.model) + 1),
                        '[-@](latest|[0-9][0-9][0-9]+|[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9])'
                    )
                )
        ) END AS listed_model
    FROM {rows} AS folded
) AS run
LEFT JOIN {in_force} AS price
    ON run.listed_model = price.model
    AND run.start_time >= price.valid_from
    AND (price.valid_until IS NULL OR run.start_time < price.valid_until)

-- name: needed
-- Whether a cost is to be computed, on the columns of a folded run.
cost_usd IS NULL AND model IS NOT NULL AND start_time IS NOT NULL
AND coalesce(input_tokens, output_tokens, cache_read_tokens, cache_write_tokens) IS NOT NULL

-- name: cost
-- Exact: in billionths of a dollar, rounded once, half up. NULL where tokens of a kind have no price, and from 10^9 dollars on.
TRY_CAST(
    TRY_CAST((({terms}) + 500000) // 1000000 AS DECIMAL(28,0)) * 0.000000001::DECIMAL(10,9) AS DECIMAL(18,9)
)

-- name: term
-- Tokens of a kind, times their price in billionths of a dollar per million.
CASE
    WHEN price.model IS NULL THEN NULL
    WHEN coalesce(run.{kind}_tokens, 0) = 0 THEN 0::HUGEINT
    ELSE run.{kind}_tokens::HUGEINT * (price.{kind}::DECIMAL(28,9) * 1000000000::DECIMAL(10,0))::HUGEINT
END

-- name: versions
-- The list in force: its id, version and source, and when it was written.
SELECT list::VARCHAR, version, source, epoch_us(written_at)
FROM {prices}
ORDER BY version DESC, list DESC
LIMIT 1

-- name: write
INSERT INTO {prices} BY NAME
SELECT
    $list::UUID AS list,
    $version::INTEGER AS version,
    $source AS source,
    $written_at::TIMESTAMPTZ AS written_at,
    unnest(from_json($rows::JSON, $structure), max_depth := 2)
