"""The thread that writes the journal, so that the receiver reads the next batches while the disk works.

The receiver hands over groups (at most two are waiting: then it stops reading its sockets) and asks for seals. Done
groups and sealed segments come back in order. The first failure ends the thread: nothing after it is durable.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

from msgspec import Struct

from runlake_ingest.crashpoints import CrashPoints
from runlake_ingest.journal import Segment, SegmentWriter

_WAITING = 2
_SLOW_S = 1.0
_SAY_SLOW_EVERY_S = 10.0


class GroupIn(Struct, frozen=True):
    """Lines to be made durable together, in the segment of this number."""

    segment: int
    lines: list[bytes]
    last_seq: int


class GroupDone(Struct, frozen=True):
    """A group is on disk. `size` is in bytes."""

    segment: int
    last_seq: int
    size: int


class _Seal(Struct, frozen=True):
    pass


class JournalThread:
    """`on_done` and `on_sealed` are called on the thread; `on_failure` once, with what ended it; `on_slow` now and
    then, with how many seconds a group took that took long."""

    def __init__(
        self,
        folder: Path,
        lake: UUID,
        worker: UUID,
        last_seq: int,
        crash: CrashPoints,
        on_done: Callable[[GroupDone], None],
        on_sealed: Callable[[Segment], None],
        on_failure: Callable[[BaseException], None],
        on_slow: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        self._folder, self._lake, self._worker = folder, lake, worker
        self._last_seq = last_seq
        self._crash = crash
        self._on_done, self._on_sealed, self._on_failure = on_done, on_sealed, on_failure
        self._on_slow = on_slow
        self._say_slow_at = 0.0
        self._work: queue.Queue[GroupIn | _Seal | None] = queue.Queue()
        self._groups = 0
        self._writer: SegmentWriter | None = None
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def has_room(self) -> bool:
        """Whether `write` may be called. Asked by the thread that writes."""
        return self._groups < _WAITING

    def write(self, group: GroupIn) -> None:
        self._groups += 1
        self._work.put(group)

    def returned(self) -> None:
        """The receiver has taken note of a done group."""
        self._groups -= 1

    @property
    def idle(self) -> bool:
        return self._groups == 0

    def seal(self) -> None:
        """Seal the segment after what was handed over so far; nothing happens when it has no group."""
        self._work.put(_Seal())

    def number_on(self, last_seq: int) -> None:
        """Go on behind this position; only while it is idle, and the last segment is sealed."""
        self._last_seq = last_seq

    def stop(self, timeout: float) -> None:
        """End after what was handed over so far."""
        self._work.put(None)
        self._thread.join(timeout)

    def _run(self) -> None:
        try:
            while (item := self._work.get()) is not None:
                if isinstance(item, GroupIn):
                    self._on_done(self._write(item))
                elif self._writer is not None:
                    sealed = self._writer.seal()
                    self._writer = None
                    self._on_sealed(sealed)
        except BaseException as error:  # noqa: BLE001 (whatever it is, the receiver must know)
            self._on_failure(error)
        finally:
            if self._writer is not None:
                self._writer.close()

    def _write(self, group: GroupIn) -> GroupDone:
        if self._writer is None:
            self._writer = SegmentWriter(
                self._folder, self._lake, self._worker, group.segment, self._last_seq + 1, self._crash
            )
        begun = time.monotonic()
        size = self._writer.write_group(group.lines, group.last_seq)
        self._tell_if_slow(begun, time.monotonic())
        self._last_seq = group.last_seq
        return GroupDone(group.segment, group.last_seq, size)

    def _tell_if_slow(self, begun: float, now: float) -> None:
        if now - begun >= _SLOW_S and now >= self._say_slow_at:
            self._say_slow_at = now + _SAY_SLOW_EVERY_S
            self._on_slow(now - begun)
