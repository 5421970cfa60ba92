"""Run ids that follow from a key of the caller's own: the same work has the same name, on every host and every day.

The rule: UUIDv5 (RFC 9562, section 5.5) in RUN_NAMESPACE of the text `agent_name`, NUL, `job_type`, NUL, `key`, in
UTF-8. RUN_NAMESPACE is the UUIDv5 of `tag:runlake,2026:run` (RFC 4151) in the namespace for URLs.
"""

from __future__ import annotations

from uuid import UUID, uuid5

RUN_NAMESPACE = UUID("252986f4-32de-52bf-88c6-e75a427a0f66")


def run_id_for(agent_name: str, job_type: str, key: str) -> str:
    """The `run_id` that `track_run(agent_name, job_type, key=key)` gives its run. The run's `event_id` is new each
    time: a second attempt is a run of its own under the same name, and the latest attempt is what the name finds."""
    text = "\0".join((str(agent_name), str(job_type), str(key)))
    return str(uuid5(RUN_NAMESPACE, text.encode("utf-8", "replace").decode("utf-8")))
