"""Tells the streams when a run becomes stale, and when it revives. On the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec

from runlake.logs import Log
from runlake.sqlfile import load_queries
from runlake_query.problems import Problem
from runlake_query.promises import Promise, Promises
from runlake_query.reader import Reader, Snapshot
from runlake_query.streambatch import Filter, LifeItem
from runlake_query.subscribers import Subscribers

_SQL = load_queries("runlake_query", "live.sql")
_TICK_S = 0.25


class StaleWatch:
    """Looks at the promises again and again. `now` is the clock of `StaleClock`; `start` and `stop` it once."""

    def __init__(
        self,
        promises: Promises,
        now: Callable[[], datetime],
        reader: Reader,
        subscribers: Subscribers,
        log: Log,
        tick_s: float = _TICK_S,
    ) -> None:
        self._promises = promises
        self._now = now
        self._reader = reader
        self._subscribers = subscribers
        self._log = log
        self._tick_s = tick_s
        self._stale: dict[UUID, Promise] = {}
        self._task: asyncio.Task[None] | None = None

    @property
    def stale(self) -> int:
        """How many runs are stale."""
        return len(self._stale)

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="stale runs")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def look(self) -> None:
        """Compare with the last look, and tell the difference."""
        stale = self._promises.broken(int(self._now().timestamp() * 1_000_000))
        begun = [promise for key, promise in stale.items() if key not in self._stale]
        ended = [promise for key, promise in self._stale.items() if key not in stale]
        if (begun or ended) and self._subscribers.any():
            filters = self._subscribers.filters()
            shown = await self._reader.read(
                lambda snapshot: _shown(snapshot, [promise.event_id for promise in (*begun, *ended)], filters)
            )
            keys = [key for key, _ in filters]
            items = [_item("stale", promise, shown) for promise in begun]
            items += [_item("revived", promise, shown) for promise in ended]
            self._subscribers.tell(keys, items)
        self._stale = stale  # after it was told: what could not be read is told the next time

    async def _run(self) -> None:
        failed = False
        while True:
            await asyncio.sleep(self._tick_s)
            try:
                await self.look()
                failed = False
            except Problem:  # the readers are busy
                continue
            except Exception as error:  # noqa: BLE001 (logged once, and tried again)
                if not failed:
                    self._log.error("stale_runs_not_told", error=f"{type(error).__name__}: {error}")
                failed = True


def _shown(
    snapshot: Snapshot, event_ids: list[UUID], filters: list[tuple[str, Filter]]
) -> dict[str, tuple[str, list[bool]]]:
    """Of each run its status, and which filters it passes."""
    conditions = [f"coalesce({condition.sql}, false)" for _, condition in filters]
    values: dict[str, Any] = {name: value for _, condition in filters for name, value in condition.values.items()}
    values["event_ids"] = [str(event_id) for event_id in event_ids]
    rows = snapshot.rows(_SQL["shown"].format(conditions=", ".join(["true", *conditions])), values)
    return {event_id: (status, passes) for event_id, status, _, *passes in rows}


def _item(kind: str, promise: Promise, shown: dict[str, tuple[str, list[bool]]]) -> LifeItem:
    status, passes = shown.get(str(promise.event_id), (None, []))
    body = {
        "event_id": str(promise.event_id),
        "run_id": promise.run_id,
        "agent_name": promise.agent_name,
        "job_type": promise.job_type,
        "status": status,
        "since": datetime.fromtimestamp(promise.until_us / 1_000_000, UTC),
    }
    return LifeItem(kind, promise.event_id, promise.run_id, msgspec.json.encode(body).decode(), passes)
