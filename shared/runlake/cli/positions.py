"""Positions as people and the API write them: `<worker>:<seq>[,…]`, as `RunLake-Position` says it."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from runlake.cli.failure import USAGE, CommandFailed

Positions = dict[str, int]
"""How far, by worker."""


def read_positions(text: str) -> Positions:
    """Raises CommandFailed."""
    found: Positions = {}
    for part in filter(None, text.split(",")):
        worker, _, seq = part.strip().partition(":")
        try:
            found[str(UUID(worker))] = int(seq)
        except ValueError:
            raise CommandFailed(
                f"{part!r} is no position; a position is <worker>:<seq>, as `RunLake-Position` says it.", USAGE
            ) from None
    return found


def positions_text(positions: Mapping[str, int]) -> str:
    return ",".join(f"{worker}:{seq}" for worker, seq in positions.items())
