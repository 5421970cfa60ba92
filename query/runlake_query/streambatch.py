"""What streams are made of: what somebody watches, and what one commit made visible."""

from __future__ import annotations

from typing import Any, NamedTuple
from uuid import UUID

from runlake_query.filters import STALE_AT


class Filter(NamedTuple):
    """A condition on shown runs, and the values that it binds; `true` passes all, also what has no run."""

    sql: str
    values: dict[str, Any]

    def at(self, time: str) -> Filter:
        """The same at another time: what is stale depends on it."""
        values = {name: time if name.endswith(STALE_AT) else value for name, value in self.values.items()}
        return self._replace(values=values)


class Selection(NamedTuple):
    """What a subscriber watches: the runs that pass a filter (its key), or the events of one run."""

    filter_key: str = ""
    run: UUID | None = None
    run_id: str | None = None
    """Of the watched run, when events that name no run are its own."""
    type: str | None = None


class RunItem(NamedTuple):
    """A run that changed, as it is now. `passes` is in the order of the batch's filters."""

    seq: int
    event_id: UUID
    run_id: str
    body: str
    passes: list[bool]


class EventItem(NamedTuple):
    """A run event, and which filters its run passes: none when it names no run."""

    seq: int
    run: UUID | None
    run_id: str
    type: str
    body: str
    passes: list[bool]


class LifeItem(NamedTuple):
    """A run that became stale, or revived. No position of the log: what passed is its promise."""

    kind: str
    run: UUID
    run_id: str
    body: str
    passes: list[bool]


class Batch(NamedTuple):
    """What one commit made visible of one worker's log."""

    worker: UUID
    filters: list[str]
    """The keys of the filters that were known when this was read."""
    runs: list[RunItem]
    events: list[EventItem]
    whole: bool = True
    """False: nobody watched when this was read, so that it lacks the events."""

    def covers(self, selection: Selection) -> bool:
        """Whether this was read with the selection in mind."""
        return self.whole and (not selection.filter_key or selection.filter_key in self.filters)
