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
-- A row without `created_at` is of a run whose start has not come. `{fields}` are the run fields, each by one of the two
-- rules below; `{more}` is what else is folded.
SELECT
    run_event_id AS event_id,
    {fields},
    arg_max(created_at, rank) AS created_at,
    max(updated_at) AS updated_at,
    arg_max(created_seq, rank) AS created_seq,
    max(seq) AS seq,
    any_value(worker) AS worker{more}
FROM ({ranked})
GROUP BY run_event_id

-- name: fold_field
arg_max({name}, rank) AS {name}

-- name: fold_of_commit
-- What is said of a commit, beside its hash.
CASE
        WHEN max(rank) FILTER ({name} IS NOT NULL) >= max(rank) FILTER (commit_hash IS NOT NULL)
            OR max(rank) FILTER (commit_hash IS NOT NULL) IS NULL
        THEN arg_max({name}, rank)
    END AS {name}

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
