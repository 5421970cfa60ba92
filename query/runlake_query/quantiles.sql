-- Exact quantiles. `{column}` is a column of the query `{rows}`, and numbers are our own.

-- name: plain
SELECT quantile_cont({column}, {shares}) FROM ({rows})

-- name: sampled
SELECT count({column}), quantile_disc({column}, {shares}) FROM ({sample})

-- name: counts
SELECT min({column}), max({column}), count({column}), {counts} FROM ({rows})

-- name: below
-- Cheaper than a count with a filter.
sum(({column} < {edge})::INTEGER)::BIGINT

-- name: ranks
SELECT {wanted} FROM ({rows}) WHERE {ranges}

-- name: range
{column} BETWEEN {low} AND {high}

-- name: ranked
quantile_disc({column}, {ranks}) FILTER ({column} BETWEEN {low} AND {high})
