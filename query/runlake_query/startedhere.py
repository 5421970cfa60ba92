"""Runs that this process has started and the read model may not show yet: what is written of them must find them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import NamedTuple
from uuid import UUID

from runlake.messages import RunStarted
from runlake_query.delivery import Delivered
from runlake_query.progress import Progress

_MAX_RUNS = 100_000


class _At(NamedTuple):
    worker: UUID
    seq: int
    run_id: str


class StartedHere:
    """On the event loop. Bounded: what the read model shows is forgotten, and beyond that the oldest."""

    def __init__(self, progress: Progress, max_runs: int = _MAX_RUNS) -> None:
        self._progress = progress
        self._max_runs = max_runs
        self._by_event_id: OrderedDict[UUID, _At] = OrderedDict()
        self._by_run_id: dict[str, _At] = {}

    def note(self, message: RunStarted, outcome: Delivered) -> None:
        """This run was accepted at this position."""
        at = _At(outcome.worker, outcome.seq, message.run_id)
        self._by_event_id[message.event_id] = self._by_run_id[message.run_id] = at
        positions = self._progress.positions
        while self._by_event_id:
            oldest = next(iter(self._by_event_id.values()))
            if positions.get(oldest.worker, 0) < oldest.seq and len(self._by_event_id) <= self._max_runs:
                return
            self._by_event_id.popitem(last=False)
            if self._by_run_id.get(oldest.run_id) is oldest:
                del self._by_run_id[oldest.run_id]

    def positions(self, names: Iterable[UUID | str]) -> dict[UUID, int]:
        """What the read model must reflect to show those of these that were started here. A name is an event_id, or, as
        text, a run_id or an event_id."""
        wanted: dict[UUID, int] = {}
        if not self._by_event_id:
            return wanted
        for name in names:
            found = [self._by_event_id.get(name)] if isinstance(name, UUID) else self._named(name)
            for at in found:
                if at is not None:
                    wanted[at.worker] = max(wanted.get(at.worker, 0), at.seq)
        return wanted

    def _named(self, name: str) -> list[_At | None]:
        try:
            event_id = UUID(name) if len(name) == 36 else None
        except ValueError:
            event_id = None
        return [self._by_run_id.get(name), self._by_event_id.get(event_id) if event_id is not None else None]
