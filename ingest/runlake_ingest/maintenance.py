"""When the lake is looked after: on the flusher's thread, one step between two flushes, so that a worker's writes never
meet. What a step does is in `runlake.lake.maintenance`.

A cycle begins every `interval_s`. It asks the catalog what is due and does it step by step, for at most `_CYCLE_S` of
work; what is left waits for the next cycle. A segment that is sealed meanwhile waits for the step at hand and for no
other; so flushes are late by one step at most, and acks, which wait for the journal alone, not at all. A step that
takes longer than `_STEP_S` is interrupted, and does not come again in the same cycle.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from runlake.errors import LakeUnavailable
from runlake.lake.attach import catalog_bytes
from runlake.lake.maintenance import Done, Step, Survey
from runlake.lake.place import LakePlace
from runlake.logs import Log
from runlake_ingest.lakewriter import LakeWriter
from runlake_ingest.retention import Retention

_CYCLE_S = 2.0
_STEP_S = 10.0
_ORPHANS_EVERY_S = 6 * 3_600.0


class Upkeep(Struct, frozen=True):
    """What maintenance has done since the worker started, and how the lake stood when it last looked."""

    cycles: int = 0
    failures: int = 0
    removed_runs: int = 0
    removed_refused: int = 0
    rewritten_files: int = 0
    flushes_moved: int = 0
    merged_files: int = 0
    expired_snapshots: int = 0
    removed_files: int = 0
    removed_orphans: int = 0
    failing: int = 0
    elected: int = 0
    last_cycle_seconds: float = 0.0
    lake_files: int = 0
    lake_bytes: int = 0
    replaced_files: int = 0
    snapshots: int = 0
    catalog_bytes: int = 0


_COUNTED = {
    "inline": "flushes_moved", "merge": "merged_files", "expire": "expired_snapshots", "remove": "removed_files",
    "orphans": "removed_orphans", "retain": "removed_runs", "forget": "removed_runs", "refused": "removed_refused",
    "rewrite": "rewritten_files",
}  # fmt: skip


_ONCE = frozenset(("orphans", "forget", "refused"))


class Election(Protocol):
    """Which of several workers looks after the lake."""

    def win(self) -> bool:
        """Whether this worker is elected, until `release`. Raises LakeUnavailable."""

    def release(self) -> None:
        """Let another one be. Raises nothing of the lake's."""


class NoElection:
    """For a worker that has its lake to itself."""

    def win(self) -> bool:
        return True

    def release(self) -> None:
        pass


class Maintenance:
    """The flusher's thread asks `due_in_s` and calls `work`; `upkeep` and `interrupt` are for any thread.

    `interval_s` 0 is never.
    """

    def __init__(
        self,
        lake: LakeWriter,
        place: LakePlace,
        interval_s: float,
        log: Log,
        clock: Callable[[], float] = time.monotonic,
        retention: Retention | None = None,
        election: Election | None = None,
    ) -> None:
        self._lake = lake
        self._place = place
        self._interval_s = interval_s
        self._log = log
        self._clock = clock
        self._retention = retention or Retention()
        self._election = election or NoElection()
        self.upkeep = Upkeep()
        self._next = clock() + interval_s
        self._orphans_at = self._next
        self._steps: deque[Step] = deque()
        self._in_cycle = False
        self._spent = 0.0
        self._did: dict[str, int] = {}
        self._tried: set[tuple[str, str, int]] = set()
        self._failed = ""
        self._reason = ""

    def due_in_s(self) -> float | None:
        """How long until there is something to do: 0 within a cycle, None when maintenance is off."""
        if not self._interval_s:
            return None
        return 0.0 if self._in_cycle else max(0.0, self._next - self._clock())

    def work(self) -> None:
        """Do one step of the cycle, and begin or end the cycle where it is time. Raises nothing of the lake's."""
        begun = self._clock()
        if not self._in_cycle and not self._begin():
            return
        step = self._next_step()
        if step is not None:
            self._do(step)
        self._spent += self._clock() - begun
        if step is None or self._spent >= _CYCLE_S:
            self._end(more=step is not None)

    def interrupt(self) -> None:
        """Give up the step at hand: the worker stops."""
        self._lake.interrupt_maintenance()

    def _begin(self) -> bool:
        """Begin a cycle; False when it is another worker's."""
        self._spent = 0.0
        self._did, self._failed = {}, ""
        self._tried.clear()
        self._steps.clear()
        if not self._is_elected():
            return False
        self._in_cycle = True
        if self._clock() >= self._orphans_at:
            self._orphans_at = self._clock() + _ORPHANS_EVERY_S
            self._steps.append(Step("orphans", 0))
        try:
            self._steps += self._retention.steps(self._lake, self._clock())
        except LakeUnavailable as error:
            self._failure(str(error))
        return True

    def _is_elected(self) -> bool:
        """Who is not elected follows the rules that whoever is has made."""
        elected = False
        try:
            elected = self._election.win()
            if not elected:
                self._retention.learn(self._lake)
        except LakeUnavailable as error:
            self._failure(str(error))
        if not elected:
            self._next = self._clock() + self._interval_s
        self.upkeep = replace(self.upkeep, elected=int(elected))
        return elected

    def _next_step(self) -> Step | None:
        """The next step of this cycle; None when nothing is left to do."""
        while True:
            if not self._steps:
                self._steps += self._look()
            if not self._steps:
                return None
            step = self._steps.popleft()
            if _key(step) not in self._tried:
                return step

    def _look(self) -> list[Step]:
        """What is due, without what has been tried in vain."""
        try:
            survey, steps = self._lake.due()
            self._note(survey)
        except LakeUnavailable as error:
            self._failure(str(error))
            return []
        return [step for step in steps if _key(step) not in self._tried]

    def _do(self, step: Step) -> None:
        timer = threading.Timer(_STEP_S, self._lake.interrupt_maintenance)
        timer.daemon = True
        timer.start()
        begun = self._clock()
        try:
            done = self._lake.maintain(step)
        except LakeUnavailable as error:
            self._tried.add(_key(step))
            self._failure(str(error))
            return
        finally:
            timer.cancel()
        self._log.debug("maintained", step=step.name, table=step.table, count=done.count, ms=self._ms(begun))
        self._count(done)

    def _count(self, done: Done) -> None:
        name = _COUNTED[done.step.name]
        self._retention.did(done)
        if not done.count or done.step.name in _ONCE:
            self._tried.add(_key(done.step))
        elif done.step.name == "retain":  # there may be more
            self._steps.append(done.step)
        if done.count:
            self._did[name] = self._did.get(name, 0) + done.count
            self.upkeep = replace(self.upkeep, **{name: getattr(self.upkeep, name) + done.count})

    def _note(self, survey: Survey) -> None:
        self.upkeep = replace(
            self.upkeep,
            lake_files=len(survey.files),
            lake_bytes=survey.bytes,
            replaced_files=survey.replaced_files,
            snapshots=survey.snapshots,
            catalog_bytes=catalog_bytes(self._place),
        )

    def _failure(self, reason: str) -> None:
        self._failed = reason
        self.upkeep = replace(self.upkeep, failures=self.upkeep.failures + 1)
        if reason != self._reason:
            self._reason = reason
            self._log.warning("maintenance_failed", reason=reason)

    def _end(self, *, more: bool) -> None:
        self._in_cycle = False
        self._election.release()
        self._next = self._clock() + self._interval_s
        self.upkeep = replace(
            self.upkeep,
            cycles=self.upkeep.cycles + 1,
            failing=int(bool(self._failed)),
            last_cycle_seconds=self._spent,
        )
        if self._did:
            facts = {"files": self.upkeep.lake_files, "bytes": self.upkeep.lake_bytes, "ms": round(self._spent * 1000)}
            self._log.info("maintenance", **self._did, **facts, more=more)
        if not self._failed and self._reason:
            self._reason = ""
            self._log.info("maintenance_works_again")

    def _ms(self, begun: float) -> float:
        return round((self._clock() - begun) * 1000, 1)


def _key(step: Step) -> tuple[str, str, int]:
    return step.name, step.table, step.below
