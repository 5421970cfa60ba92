"""Numbered messages for tests of the SDK."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from runlake.messages import Message, RunEvent


def event(number: int = 0, **payload: Any) -> RunEvent:
    """A run event with a number in its payload."""
    return RunEvent(event_id=uuid4(), run_id="run", ts=datetime.now(UTC), type="step", payload={"n": number, **payload})


def numbers(messages: Iterable[Message]) -> list[int]:
    """The numbers of such events."""
    return [message.payload["n"] for message in messages if isinstance(message, RunEvent) and message.payload]
