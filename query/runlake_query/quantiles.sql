-- Exact quantiles. `{column}` is a column of the query `{rows}`, and numbers are our own.

-- name: plain
SELECT quantile_cont({column}, {shares}) FROM ({rows})

-- name: sampled
-- How many there are in the sample, whether any of all does not fit into 32 bits, and which values are at some shares. The
-- two comparisons are filters of the scan, which the least and the most of each row group answer.
SELECT
    count({column}),
    EXISTS (SELECT 1 FROM ({rows}) WHERE {column} < -2147483648) OR EXISTS (SELECT 1 FROM ({rows}) WHERE {column} > 2147483647),
    quantile_disc({column}, {edges})
FROM ({sample})

-- name: counts
-- How many there are, and how many are below some values.
SELECT count({column}){below} FROM ({rows})

-- name: below
-- Cheaper than a count with a filter, and than a sum.
, count_if({column} < {edge})

-- name: within
SELECT [{quantiles}] FROM (SELECT {ranges})

-- name: between
-- Between the two nearest values in proportion, as DuckDB does it, to the last bit: a number without quotes would be a decimal first.
range_{range}[{below}] * '{near}'::DOUBLE + range_{range}[{above}] * '{far}'::DOUBLE

-- name: ordered
-- One range at a time, so that it is a filter of the scan: several at once are not.
(SELECT quantile_disc({column}, {ranks}) FROM ({rows}) WHERE {within}) AS range_{range}
