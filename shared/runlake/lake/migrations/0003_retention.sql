-- What was removed of the log, and what is not taken in any more. All three are only added to.

-- Before when messages are refused as expired: the latest row is in force.
CREATE TABLE horizons (horizon TIMESTAMPTZ NOT NULL, set_at TIMESTAMPTZ NOT NULL);

-- Runs that somebody asked to forget: they are removed, and what comes for them is refused.
CREATE TABLE forgets (run_event_id UUID NOT NULL, asked_at TIMESTAMPTZ NOT NULL);

-- One row per removed run and worker: how many messages of its log are gone, the last of them at `last_seq`.
CREATE TABLE removals (
    worker UUID NOT NULL,
    run_event_id UUID NOT NULL,
    last_seq BIGINT NOT NULL,
    messages BIGINT NOT NULL,
    removed_at TIMESTAMPTZ NOT NULL,
    why VARCHAR NOT NULL
);
