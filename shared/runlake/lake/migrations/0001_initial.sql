-- The first lake. Every table is append-only; `(worker, seq)` is a position in the log.

-- Which lake this is: journals and read models are stamped with it.
CREATE TABLE identity (lake UUID NOT NULL, created_at TIMESTAMPTZ NOT NULL);

CREATE TABLE schema_migrations (version INTEGER NOT NULL, applied_at TIMESTAMPTZ NOT NULL);

-- One row per accepted run.started, run.updated and commit.associated, with the run fields that it set.
CREATE TABLE run_changes (
    worker UUID NOT NULL,
    seq BIGINT NOT NULL,
    received_at TIMESTAMPTZ NOT NULL,
    producer VARCHAR NOT NULL,
    kind VARCHAR NOT NULL,
    event_id UUID NOT NULL,
    run_event_id UUID NOT NULL,
    ts TIMESTAMPTZ NOT NULL,
    run_id VARCHAR,
    parent_run_id VARCHAR,
    agent_name VARCHAR,
    job_type VARCHAR,
    trigger_type VARCHAR,
    environment VARCHAR,
    host VARCHAR,
    product VARCHAR,
    product_family VARCHAR,
    platform VARCHAR,
    website VARCHAR,
    subdomain VARCHAR,
    website_section VARCHAR,
    item_name VARCHAR,
    insight_id VARCHAR,
    status VARCHAR,
    start_time TIMESTAMPTZ,
    end_time TIMESTAMPTZ,
    duration_ms BIGINT,
    heartbeat_until TIMESTAMPTZ,
    items_discovered BIGINT,
    items_succeeded BIGINT,
    items_failed BIGINT,
    items_skipped BIGINT,
    input_summary VARCHAR,
    output_summary VARCHAR,
    error_summary VARCHAR,
    error_details VARCHAR,
    source_ref VARCHAR,
    target_ref VARCHAR,
    git_repo VARCHAR,
    git_branch VARCHAR,
    git_run_tag VARCHAR,
    commit_hash VARCHAR,
    commit_source VARCHAR,
    commit_author VARCHAR,
    commit_timestamp TIMESTAMPTZ,
    model VARCHAR,
    provider VARCHAR,
    input_tokens BIGINT,
    output_tokens BIGINT,
    cache_read_tokens BIGINT,
    cache_write_tokens BIGINT,
    cost_usd DECIMAL(18,9),
    trace_id VARCHAR,
    span_id VARCHAR,
    metrics_json JSON,
    context_json JSON
);

-- One row per accepted run.event.
CREATE TABLE events (
    worker UUID NOT NULL,
    seq BIGINT NOT NULL,
    received_at TIMESTAMPTZ NOT NULL,
    producer VARCHAR NOT NULL,
    event_id UUID NOT NULL,
    run_id VARCHAR NOT NULL,
    run_event_id UUID,
    ts TIMESTAMPTZ NOT NULL,
    type VARCHAR NOT NULL,
    payload JSON,
    trace_id VARCHAR,
    span_id VARCHAR,
    parent_span_id VARCHAR,
    prev_hash VARCHAR,
    event_hash VARCHAR
);

-- One row per batch: received = accepted + duplicate + rejected. `first_seq` is the position of its first accepted
-- message (or what that would have been); `first_number` is the producer's own number of its first message, NULL for
-- bare pushes, which have none.
CREATE TABLE deliveries (
    worker UUID NOT NULL,
    first_seq BIGINT NOT NULL,
    received_at TIMESTAMPTZ NOT NULL,
    producer VARCHAR NOT NULL,
    batch BIGINT,
    first_number BIGINT,
    received BIGINT NOT NULL,
    accepted BIGINT NOT NULL,
    duplicate BIGINT NOT NULL,
    rejected BIGINT NOT NULL
);

-- One row per refused message, or per refused batch that could not be taken apart (`messages` says for how many it
-- stands).
CREATE TABLE quarantine (
    worker UUID NOT NULL,
    received_at TIMESTAMPTZ NOT NULL,
    producer VARCHAR NOT NULL,
    batch BIGINT,
    number BIGINT,
    messages BIGINT NOT NULL,
    field VARCHAR,
    reason VARCHAR NOT NULL,
    raw BLOB NOT NULL
);

-- One row per flushed journal segment, written in the same transaction as its rows: a worker's last row is its flushed
-- position.
CREATE TABLE flushes (
    worker UUID NOT NULL,
    segment BIGINT NOT NULL,
    first_seq BIGINT NOT NULL,
    last_seq BIGINT NOT NULL,
    flushed_at TIMESTAMPTZ NOT NULL
);
