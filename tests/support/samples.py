"""Small valid messages for tests that care about their number, identity and time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from runlake.messages import RunEvent, RunStarted, RunUpdated

START = datetime(2026, 1, 28, 10, 30, tzinfo=UTC)
"""A time in the past that tests count from."""


def event(number: int = 0, run_id: str = "run", ts: datetime | None = None, **payload: Any) -> RunEvent:
    """A run event that carries a number, by default of this moment."""
    return RunEvent(
        event_id=uuid4(), run_id=run_id, ts=ts or datetime.now(UTC), type="step", payload={"number": number, **payload}
    )


def events(count: int, run_id: str = "run", first: int = 0, ts: datetime | None = None) -> list[RunEvent]:
    """Run events numbered from `first`."""
    return [event(number, run_id, ts) for number in range(first, first + count)]


def started(run_id: str = "run", start_time: datetime | None = None, **fields: Any) -> RunStarted:
    return RunStarted(
        event_id=uuid4(), run_id=run_id, agent_name="agent", job_type="job",
        start_time=start_time or datetime.now(UTC), **fields,
    )  # fmt: skip


def updated(run: UUID, ts: datetime | None = None, **fields: Any) -> RunUpdated:
    return RunUpdated(event_id=uuid4(), run_event_id=run, ts=ts or datetime.now(UTC), **fields)
