-- Removing old rows of the quarantine. `{lake}` is the attached lake.

-- name: old
SELECT count(*), coalesce(sum(messages), 0)::BIGINT FROM {lake}.quarantine WHERE received_at < $before::TIMESTAMPTZ

-- name: expire
DELETE FROM {lake}.quarantine WHERE received_at < $before::TIMESTAMPTZ
