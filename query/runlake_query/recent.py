"""Recent runs as they go out: a GET of one costs no SQL.

What is kept was read back from the read model when it was applied, and is never computed twice. A run that is being
applied leaves before the commit and comes back after it, so that no answer from here is older than one from SQL. Which
run a `run_id` means is known here only for runs whose start came while this process looked: a later start than any of
those would have come by here too. That a name is the event_id of a run, and no older run's `run_id`, SQL must have said
once: then it holds until a run of that `run_id` starts.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import NamedTuple
from uuid import UUID

from runlake_query.positions import Positions, reaches

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
MAX_RUNS = 20_000
MAX_BYTES = 64 * 1024 * 1024

Created = tuple[int, int, str]
"""When a run was created (microseconds since 1970), at which position, and its event_id: the order of creation."""


class RecentRun(NamedTuple):
    """A run as `GET /api/v1/runs/{run_id}` sends it."""

    event_id: UUID
    run_id: str
    start_us: int
    created: Created
    body: bytes


class Recent:
    """Written by the follower's thread, read by any. Bounded in number and in bytes: the least recently changed go."""

    def __init__(self, max_runs: int = MAX_RUNS, max_bytes: int = MAX_BYTES) -> None:
        self._max_runs = max_runs
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._runs: OrderedDict[UUID, RecentRun] = OrderedDict()
        self._latest: dict[str, RecentRun] = {}
        self._confirmed: set[UUID] = set()
        """Runs of which SQL has said that their event_id, as a name, means them."""
        self._floor: Created | None = None
        """No run created at or before this decides what a `run_id` means. None: nothing is known yet."""
        self._size = 0
        self._positions: Positions = {}
        self._settled: Positions | None = None
        """What was reflected when something was forgotten last; None until anything is reflected at all."""
        self.hits = 0

    def get(self, name: str | UUID) -> tuple[RecentRun, Positions] | None:
        """The run that a `run_id` or an event_id means, and what it reflects; None when that is not known here."""
        with self._lock:
            run = self._runs.get(name) if isinstance(name, UUID) else self._named(name)
            if run is None:
                return None
            self.hits += 1
            return run, self._positions

    def bodies(self, event_ids: Iterable[UUID], positions: Positions) -> dict[UUID, bytes]:
        """Those of these runs that are known here, as they are at exactly these positions; none at others."""
        with self._lock:
            if positions != self._positions:
                return {}
            runs = ((event_id, self._runs.get(event_id)) for event_id in event_ids)
            return {event_id: run.body for event_id, run in runs if run is not None}

    def confirmed(self, name: str, event_id: UUID, positions: Positions) -> None:
        """SQL has found, reflecting `positions`, that this name means this run. What came since is known here, unless
        something was forgotten since."""
        with self._lock:
            known = self._settled is not None and reaches(positions, self._settled)
            if known and event_id in self._runs and name == str(event_id) and name not in self._latest:
                self._confirmed.add(event_id)

    def changing(self, event_ids: Iterable[UUID]) -> None:
        """These runs are about to change: until `changed`, they are not answered from here."""
        with self._lock:
            for event_id in event_ids:
                self._drop(event_id)

    def changed(self, runs: Iterable[RecentRun], positions: Positions) -> None:
        """These runs are as committed, and everything reflects `positions`."""
        with self._lock:
            self._reflects(positions)
            for run in runs:
                self._keep(run)
            while self._runs and (len(self._runs) > self._max_runs or self._size > self._max_bytes):
                self._forget(next(iter(self._runs)))
                self._settled = self._positions

    def reflects(self, positions: Mapping[UUID, int]) -> None:
        """Something was applied that changed no run."""
        with self._lock:
            self._reflects(positions)

    def restart(self, floor: Created) -> None:
        """Forget everything. From here on, starts created after `floor` come by."""
        with self._lock:
            self._runs.clear()
            self._latest.clear()
            self._confirmed.clear()
            self._size = 0
            self._floor = floor
            self._settled = None

    def _reflects(self, positions: Mapping[UUID, int]) -> None:
        self._positions = dict(positions)
        if self._settled is None:
            self._settled = self._positions

    def _named(self, name: str) -> RecentRun | None:
        latest = self._latest.get(name)
        if latest is not None:
            return self._runs.get(latest.event_id)
        run = self._runs.get(UUID(name)) if _UUID.fullmatch(name) else None
        return run if run is not None and run.event_id in self._confirmed and str(run.event_id) == name else None

    def _keep(self, run: RecentRun) -> None:
        self._drop(run.event_id)
        self._runs[run.event_id] = run
        self._size += len(run.body)
        latest = self._latest.get(run.run_id)
        if latest is not None and latest.created > run.created:
            return
        if self._floor is not None and run.created > self._floor:
            self._latest[run.run_id] = run
            if _UUID.fullmatch(run.run_id):  # which has now become a run_id, if it was an event_id alone
                self._confirmed.discard(UUID(run.run_id))

    def _drop(self, event_id: UUID) -> None:
        """A run goes for now; what its `run_id` means does not change."""
        old = self._runs.pop(event_id, None)
        if old is not None:
            self._size -= len(old.body)

    def _forget(self, event_id: UUID) -> None:
        """A run goes for good. What was created before it may not take its name."""
        old = self._runs[event_id]
        self._drop(event_id)
        self._confirmed.discard(event_id)
        latest = self._latest.get(old.run_id)
        if latest is not None and latest.event_id == event_id:
            del self._latest[old.run_id]
            self._floor = max(self._floor or old.created, latest.created)
