"""Positions in the log: how far each worker's numbering is reflected, as `<worker>:<seq>[,<worker>:<seq>…]`."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

Positions = Mapping[UUID, int]
"""The last `seq` of each worker that is reflected."""


def format_positions(positions: Positions) -> str:
    """One text for one set of positions, workers in the order of their ids; empty when there is none."""
    return ",".join(f"{worker}:{positions[worker]}" for worker in sorted(positions))


def parse_positions(text: str) -> dict[UUID, int]:
    """Read what `format_positions` wrote. Raises ValueError."""
    positions: dict[UUID, int] = {}
    for part in text.split(","):
        worker, separator, seq = part.strip().partition(":")
        if not separator or not seq.isascii() or not seq.isdigit() or len(seq) > 19:
            raise ValueError(f"{part!r} is no position; a position is <worker>:<seq>")
        key = UUID(worker)
        positions[key] = max(positions.get(key, 0), int(seq))
    return positions


def reaches(reflected: Positions, wanted: Positions) -> bool:
    """Whether everything at or before `wanted` is reflected."""
    return all(reflected.get(worker, 0) >= seq for worker, seq in wanted.items())
