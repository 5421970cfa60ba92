-- Exact quantiles. `{column}` is a column of the query `{rows}`, and numbers are our own.

-- name: plain
SELECT quantile_cont({column}, {shares}) FROM ({rows})

-- name: sampled
SELECT count({column}), quantile_disc({column}, {shares}) FROM ({sample})

-- name: counts
-- How many there are, how many of them fit into 32 bits, and how many are below some values.
SELECT count({column}), count_if({column} BETWEEN -2147483648 AND 2147483647), {counts} FROM ({rows})

-- name: below
-- Cheaper than a count with a filter, and than a sum.
count_if({column} < {edge})

-- name: ranks
SELECT {wanted}

-- name: ranked
-- One range at a time, so that it is a filter of the scan: several at once are not.
(SELECT quantile_disc({column}, {ranks}) FROM ({rows}) WHERE {column} BETWEEN {low} AND {high})
