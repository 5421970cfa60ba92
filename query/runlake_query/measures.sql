-- The measures of a rollup over shown runs; adding one is adding it here. An aggregate stands in braces and is a count, sum,
-- min, max or quantile_cont (of one part): then the totals come of the groups. What a measure is for a bucket without runs is
-- what it gives for no rows: sums are 0 then, and all else is NULL. Runs without the value that is measured count for
-- nothing. One whose name ends in `_time` is a time.

-- name: runs
{count(*)}
-- name: running
{count(*) FILTER (status = 'running')}
-- name: stale
{count(*) FILTER (stale)}
-- name: success
{count(*) FILTER (status = 'success')}
-- name: failure
{count(*) FILTER (status = 'failure')}
-- name: partial
{count(*) FILTER (status = 'partial')}
-- name: timeout
{count(*) FILTER (status = 'timeout')}
-- name: cancelled
{count(*) FILTER (status = 'cancelled')}
-- name: success_rate
{count(*) FILTER (status = 'success')} / nullif({count(*) FILTER (status != 'running')}, 0)
-- name: avg_duration_ms
{sum(duration_ms)} / nullif({count(duration_ms)}, 0)
-- name: p50_duration_ms
{quantile_cont(duration_ms, 0.5)}
-- name: p90_duration_ms
{quantile_cont(duration_ms, 0.9)}
-- name: p95_duration_ms
{quantile_cont(duration_ms, 0.95)}
-- name: p99_duration_ms
{quantile_cont(duration_ms, 0.99)}
-- name: max_duration_ms
{max(duration_ms)}
-- name: items_discovered
coalesce({sum(items_discovered)}, 0)
-- name: items_succeeded
coalesce({sum(items_succeeded)}, 0)
-- name: items_failed
coalesce({sum(items_failed)}, 0)
-- name: items_skipped
coalesce({sum(items_skipped)}, 0)
-- name: input_tokens
coalesce({sum(input_tokens)}, 0)
-- name: output_tokens
coalesce({sum(output_tokens)}, 0)
-- name: cache_read_tokens
coalesce({sum(cache_read_tokens)}, 0)
-- name: cache_write_tokens
coalesce({sum(cache_write_tokens)}, 0)
-- name: cost_usd
coalesce({sum(cost_usd)}, 0)
-- name: events
coalesce({sum(events)}, 0)
-- name: first_start_time
{min(start_time)}
-- name: last_start_time
{max(start_time)}
