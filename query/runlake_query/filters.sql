-- Conditions on `shown` runs. `{column}` is one of our own dimensions, `{value}` the name of a bound parameter.

-- name: any_of
{column} IN ({value})

-- name: start_time_from
start_time >= {value}::TIMESTAMPTZ

-- name: start_time_to
start_time < {value}::TIMESTAMPTZ

-- name: created_after
created_at > {value}::TIMESTAMPTZ

-- name: created_before
created_at < {value}::TIMESTAMPTZ

-- name: min_duration_ms
duration_ms >= {value}

-- name: max_duration_ms
duration_ms <= {value}

-- name: q
contains(
    lower(concat_ws(
        chr(10), run_id, agent_name, job_type, product, product_family, platform, website, subdomain, website_section,
        item_name, insight_id, input_summary, output_summary, error_summary
    )),
    lower({value})
)

-- name: root
(parent_run_id IS NULL) = {value}

-- name: stale
{is_stale} = {value}

-- name: is_stale
-- A running run whose promised sign of life has not come by {at}: nothing has an event of a later time, either.
coalesce(
    status = 'running' AND heartbeat_until < {at}::TIMESTAMPTZ AND coalesce(last_event_at <= heartbeat_until, true), false
)
