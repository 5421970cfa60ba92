-- The fold: what a run is, as a pure function of its accepted changes. Written here once, and used by the lake's `runs`
-- view and by the read model.
--
-- For each run and field the value is the non-null one of highest rank:
--
--     run.started   -seq    any update outranks it; among several starts the earlier wins
--     stored         0      the fold so far, so that folding new changes onto it equals folding everything
--     any update    +seq    the later in log order wins
--
-- A commit is one thing: a source, author or timestamp of lower rank than the hash belongs to another commit, and is not
-- shown beside it.

-- name: changes
-- Changes as the fold takes them. `{changes}` has the columns of `run_changes`.
SELECT
    * EXCLUDE (event_id, kind, ts, producer, received_at),
    CASE WHEN kind = 'run.started' THEN -seq ELSE seq END AS rank,
    CASE WHEN kind = 'run.started' THEN received_at END AS created_at,
    CASE WHEN kind = 'run.started' THEN seq END AS created_seq,
    received_at AS updated_at
FROM {changes}

-- name: fold
-- One row per run: its fields as last set. `{ranked}` is the query `changes`, or anything with its columns.
-- A row without `created_at` is of a run whose start has not come. `{more}` is what else is folded.
SELECT
    run_event_id AS event_id,
    arg_max(run_id, rank) AS run_id,
    arg_max(parent_run_id, rank) AS parent_run_id,
    arg_max(agent_name, rank) AS agent_name,
    arg_max(job_type, rank) AS job_type,
    arg_max(trigger_type, rank) AS trigger_type,
    arg_max(environment, rank) AS environment,
    arg_max(host, rank) AS host,
    arg_max(product, rank) AS product,
    arg_max(product_family, rank) AS product_family,
    arg_max(platform, rank) AS platform,
    arg_max(website, rank) AS website,
    arg_max(subdomain, rank) AS subdomain,
    arg_max(website_section, rank) AS website_section,
    arg_max(item_name, rank) AS item_name,
    arg_max(insight_id, rank) AS insight_id,
    arg_max(status, rank) AS status,
    arg_max(start_time, rank) AS start_time,
    arg_max(end_time, rank) AS end_time,
    arg_max(duration_ms, rank) AS duration_ms,
    arg_max(heartbeat_until, rank) AS heartbeat_until,
    arg_max(items_discovered, rank) AS items_discovered,
    arg_max(items_succeeded, rank) AS items_succeeded,
    arg_max(items_failed, rank) AS items_failed,
    arg_max(items_skipped, rank) AS items_skipped,
    arg_max(input_summary, rank) AS input_summary,
    arg_max(output_summary, rank) AS output_summary,
    arg_max(error_summary, rank) AS error_summary,
    arg_max(error_details, rank) AS error_details,
    arg_max(source_ref, rank) AS source_ref,
    arg_max(target_ref, rank) AS target_ref,
    arg_max(git_repo, rank) AS git_repo,
    arg_max(git_branch, rank) AS git_branch,
    arg_max(git_run_tag, rank) AS git_run_tag,
    arg_max(commit_hash, rank) AS commit_hash,
    CASE
        WHEN max(rank) FILTER (commit_source IS NOT NULL) >= max(rank) FILTER (commit_hash IS NOT NULL)
            OR max(rank) FILTER (commit_hash IS NOT NULL) IS NULL
        THEN arg_max(commit_source, rank)
    END AS commit_source,
    CASE
        WHEN max(rank) FILTER (commit_author IS NOT NULL) >= max(rank) FILTER (commit_hash IS NOT NULL)
            OR max(rank) FILTER (commit_hash IS NOT NULL) IS NULL
        THEN arg_max(commit_author, rank)
    END AS commit_author,
    CASE
        WHEN max(rank) FILTER (commit_timestamp IS NOT NULL) >= max(rank) FILTER (commit_hash IS NOT NULL)
            OR max(rank) FILTER (commit_hash IS NOT NULL) IS NULL
        THEN arg_max(commit_timestamp, rank)
    END AS commit_timestamp,
    arg_max(model, rank) AS model,
    arg_max(provider, rank) AS provider,
    arg_max(input_tokens, rank) AS input_tokens,
    arg_max(output_tokens, rank) AS output_tokens,
    arg_max(cache_read_tokens, rank) AS cache_read_tokens,
    arg_max(cache_write_tokens, rank) AS cache_write_tokens,
    arg_max(cost_usd, rank) AS cost_usd,
    arg_max(trace_id, rank) AS trace_id,
    arg_max(span_id, rank) AS span_id,
    arg_max(metrics_json, rank) AS metrics_json,
    arg_max(context_json, rank) AS context_json,
    arg_max(created_at, rank) AS created_at,
    max(updated_at) AS updated_at,
    arg_max(created_seq, rank) AS created_seq,
    max(seq) AS seq,
    any_value(worker) AS worker{more}
FROM ({ranked})
GROUP BY run_event_id

-- name: present
-- Runs as they are shown: those whose start came, with what is computed after the fold. `{folded}` is the query `fold`,
-- or a table of its rows.
SELECT
    event_id,
    run_id,
    parent_run_id,
    agent_name,
    job_type,
    trigger_type,
    environment,
    host,
    product,
    product_family,
    platform,
    website,
    subdomain,
    website_section,
    item_name,
    insight_id,
    status,
    start_time,
    end_time,
    {duration_ms} AS duration_ms,
    heartbeat_until,
    items_discovered,
    items_succeeded,
    items_failed,
    items_skipped,
    input_summary,
    output_summary,
    error_summary,
    error_details,
    source_ref,
    target_ref,
    git_repo,
    git_branch,
    git_run_tag,
    commit_hash,
    commit_source,
    commit_author,
    commit_timestamp,
    model,
    provider,
    input_tokens,
    output_tokens,
    cache_read_tokens,
    cache_write_tokens,
    {cost_usd} AS cost_usd,
    trace_id,
    span_id,
    metrics_json,
    context_json,
    created_at,
    updated_at,
    {cost_source} AS cost_source,
    {cost_table_version} AS cost_table_version
FROM {folded}
WHERE created_at IS NOT NULL

-- name: duration_ms
-- Where nobody set it, it is computed from the two times.
coalesce(duration_ms, CASE WHEN end_time >= start_time THEN (epoch_us(end_time) - epoch_us(start_time)) // 1000 END)

-- name: cost_usd
cost_usd

-- name: cost_source
CASE WHEN cost_usd IS NOT NULL THEN 'reported' END

-- name: cost_table_version
NULL::VARCHAR

-- name: priced_cost_usd
-- Where the folded rows are priced (`prices.sql`): what was reported wins.
coalesce(cost_usd, computed_cost_usd)

-- name: priced_cost_source
CASE WHEN cost_usd IS NOT NULL THEN 'reported' WHEN computed_cost_usd IS NOT NULL THEN 'computed' END

-- name: priced_cost_table_version
price_version::VARCHAR
