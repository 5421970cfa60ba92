"""From the follower to those who watch: what has just been applied, to the recent runs and to the streams.

It is read once, in the transaction that applies it, and handed on when that is committed.
"""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

import duckdb

from runlake.sqlfile import load_queries
from runlake_query.apply import LEAP
from runlake_query.events import EVENT
from runlake_query.knownruns import KnownRuns
from runlake_query.plans import Plans
from runlake_query.positions import Positions
from runlake_query.promises import Promise, Promises
from runlake_query.recent import Recent, RecentRun
from runlake_query.runs import RUN
from runlake_query.streambatch import Batch, EventItem, RunItem
from runlake_query.subscribers import Subscribers

_SQL = load_queries("runlake_query", "live.sql")
_MAX_ITEMS = 20_000
"""More than this at once is a catch-up: recent runs start afresh, and streams say that something was left out."""


class _Pending(NamedTuple):
    runs: list[RecentRun]
    batch: Batch | None
    too_many: bool
    promises: list[Promise]
    spoken: list[tuple[UUID, int]]


class Live:
    """Of the follower's thread; what it feeds is read by others."""

    def __init__(
        self,
        recent: Recent,
        subscribers: Subscribers,
        known: KnownRuns | None = None,
        promises: Promises | None = None,
    ) -> None:
        self._recent = recent
        self._known = known
        self._promises = promises or Promises()
        self._subscribers = subscribers
        self._pending: _Pending | None = None
        self._plans: tuple[duckdb.DuckDBPyConnection, Plans] | None = None

    def applying(self, cursor: duckdb.DuckDBPyConnection, worker: UUID, events: int, runs: int) -> None:
        """Read what the commit will make visible."""
        if runs + events > _MAX_ITEMS:
            if self._known is not None:
                self._known.add_table(cursor, "touched")
            self._pending = _Pending([], None, too_many=True, promises=[], spoken=[])
            return
        plans = self._plans_of(cursor)
        watched = self._subscribers.any()
        filters = self._subscribers.filters()
        conditions = [f"coalesce({condition.sql}, false)" for _, condition in filters]
        values = {name: value for _, condition in filters for name, value in condition.values.items()}
        changed: list[RecentRun] = []
        run_items: list[RunItem] = []
        promises: list[Promise] = []
        if runs:
            rows = plans.rows(_SQL["runs"].format(run=RUN, conditions=", ".join(["true", *conditions])), values)
            for event_id, run_id, start_us, created_us, created_seq, seq, body, *rest in rows:
                agent_name, job_type, until_us, last_event_us, _, *passes = rest
                key = UUID(event_id)
                if until_us is not None:
                    promises.append(Promise(key, run_id, agent_name, job_type, until_us, last_event_us))
                changed.append(RecentRun(key, run_id, start_us, (created_us, created_seq, event_id), body.encode()))
                run_items.append(RunItem(seq, key, run_id, body, passes))
            touched = [UUID(event_id) for (event_id,) in plans.rows(_SQL["touched"])]
            if self._known is not None:
                self._known.add(touched)
            self._recent.changing(touched)
        event_items: list[EventItem] = []
        if events and watched:
            matches: dict[str, list[bool]] = {}
            if conditions:
                found = plans.rows(_SQL["matches"].format(conditions=", ".join(conditions)), values)
                matches = {event_id: list(passes) for event_id, *passes in found}
            none = [False] * len(conditions)
            for seq, run_event_id, run_id, kind, body in plans.rows(_SQL["events"].format(event=EVENT)):
                run = UUID(run_event_id) if run_event_id else None
                event_items.append(EventItem(seq, run, run_id, kind, body, matches.get(run_event_id, none)))
        batch = Batch(worker, [key for key, _ in filters], run_items, event_items, whole=watched)
        spoken: list[tuple[UUID, int]] = []
        if events and self._promises.any:
            spoken = [(UUID(key), at_us) for key, at_us in plans.rows(_SQL["spoken"])]
        self._pending = _Pending(changed, batch, too_many=False, promises=promises, spoken=spoken)

    def applied(self, cursor: duckdb.DuckDBPyConnection, positions: Positions) -> None:
        """What was being applied is committed, and the read model reflects `positions`."""
        pending, self._pending = self._pending, None
        if self._known is not None:
            self._known.committed()
        if pending is None:
            self._recent.reflects(positions)
        elif pending.too_many or pending.batch is None:
            self.restarted(cursor, positions)
        else:
            self._recent.changed(pending.runs, positions)
            self._promises.changed(pending.promises, (run.event_id for run in pending.runs))
            self._promises.spoke(pending.spoken)
            self._subscribers.publish(pending.batch, positions)

    def repricing(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """Runs as they are kept here have old costs."""
        self._forget_recent(cursor)

    def restarted(self, cursor: duckdb.DuckDBPyConnection, positions: Positions, why: str = LEAP) -> None:
        """The read model was built, or has taken a leap: what is known here of its runs is not all any more. `why` is
        told to who listens."""
        self._pending = None
        if self._known is not None:
            self._known.fill(cursor)
        rows = cursor.execute(_SQL["promises"]).fetchall()
        self._promises.restart(Promise(UUID(event_id), *rest) for event_id, *rest in rows)
        self._forget_recent(cursor)
        self._recent.reflects(positions)
        self._subscribers.skipped(positions, why)

    def _plans_of(self, cursor: duckdb.DuckDBPyConnection) -> Plans:
        if self._plans is None or self._plans[0] is not cursor:
            self._plans = cursor, Plans(cursor)
        return self._plans[1]

    def _forget_recent(self, cursor: duckdb.DuckDBPyConnection) -> None:
        (created_us,) = cursor.execute(_SQL["latest_created"]).fetchone() or (0,)
        self._recent.restart((created_us, 2**63, ""))
