"""The routes of one refused message, and the shapes of what they take and give."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from runlake_query.quarantine import Quarantine
from runlake_query.reads import AFTER
from runlake_query.routes import Route, answer
from runlake_query.schemas import Refused

_EXAMPLE = {
    "message": {
        "kind": "run.event", "event_id": "01a1f2b0-7c5a-7d11-9c40-3f1de5a0c0e9", "run_id": "nightly-42",
        "ts": "2026-01-28T10:30:05Z", "type": "page", "payload": {"url": "/"},
    }
}  # fmt: skip


class Resubmission(Struct):
    """The message as it should have been, with the fields of the wire; null or absent: as it came."""

    message: dict[str, Any] | None = None


class Resubmitted(Struct):
    """What became of it, and at which position."""

    accepted: int
    duplicate: int
    position: str


def quarantine_routes(quarantine: Quarantine) -> list[Route]:
    """The routes, for the route table."""
    return [
        Route(
            method="GET", path="/api/v1/quarantine/{id}", handler=quarantine.show, parameters=AFTER, tagged=True,
            problems=(404, 503), summary="A message that was refused, with the reason and the bytes that came.",
            answers={200: answer("The message", Refused)},
        ),
        Route(
            method="POST", path="/api/v1/quarantine/{id}/resubmit", handler=quarantine.resubmit, body=Resubmission,
            body_example=_EXAMPLE, problems=(404, 413, 415, 503),
            summary="Send a refused message again: mended, or as it came. It stays in the quarantine until it expires.",
            answers={200: answer("It is stored", Resubmitted)},
        ),
    ]  # fmt: skip
