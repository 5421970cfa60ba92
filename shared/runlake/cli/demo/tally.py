"""What an agent counted of its own work: the other side of the books."""

from __future__ import annotations

from msgspec import Struct


class Tally(Struct, kw_only=True):
    """One agent's counts. `undelivered` is what its emitter could not hand to the worker in time, or had to drop."""

    agent: str
    runs: int = 0
    events: int = 0
    failures: int = 0
    commits: list[str] = []
    undelivered: int = 0
