-- A list or a rollup as one SELECT over the documented view `runs`, to be read, changed and run by people.

-- name: runs
SELECT *
FROM runs
WHERE {where}
ORDER BY {order}
LIMIT {limit}

-- name: rollup
SELECT {columns}
FROM runs
WHERE {where}
GROUP BY {keys}
ORDER BY {order}
LIMIT {limit}

-- name: totals
SELECT {columns}
FROM runs
WHERE {where}

-- name: short_bucket
{time} - ({time} AT TIME ZONE {zone} - date_trunc({bucket}, {time} AT TIME ZONE {zone}))

-- name: long_bucket
date_trunc({bucket}, {time} AT TIME ZONE {zone}) AT TIME ZONE {zone}
