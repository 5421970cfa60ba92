"""What the contract's tests have in common: bodies to send, and the shape of a refusal."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from support.api import Reply

START = "2026-01-28T10:30:00Z"


def new_run(**fields: Any) -> dict[str, Any]:
    """The body of a POST, with an event_id and a run_id of its own."""
    key = str(uuid4())
    run = {"event_id": key, "run_id": f"run {key}", "agent_name": "agent", "job_type": "job", "start_time": START}
    return {**run, **fields}


def problem(reply: Reply, status: int) -> dict[str, Any]:
    """The body of a refusal, once its shape is right."""
    assert reply.status == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = reply.json
    assert body.keys() - {"errors"} == {"type", "title", "status", "detail"}
    assert body["status"] == status
    assert isinstance(body["detail"], str)
    assert all(error.keys() == {"field", "message"} for error in body.get("errors", []))
    return body
