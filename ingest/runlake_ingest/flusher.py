"""The thread that brings sealed segments to the lake, in order, and then removes them.

Between two of them it looks after the lake (`maintenance.py`)."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

from runlake.errors import LakeUnavailable
from runlake.logs import Log
from runlake_ingest.crashpoints import CrashPoints
from runlake_ingest.journal import Segment
from runlake_ingest.lakewriter import LakeWriter
from runlake_ingest.maintenance import Maintenance

_FIRST_RETRY_SECONDS = 0.1
_LAST_RETRY_SECONDS = 5.0
_SLOW_S = 2.0


def flush_segment(lake: LakeWriter, segment: Segment, crash: CrashPoints, log: Log) -> frozenset[int]:
    """Store one segment and remove it; returns the ids of messages that the lake refused. Raises LakeUnavailable, after
    which the segment is still there."""
    began = time.monotonic()
    refused = lake.flush(segment)
    segment.path.unlink()
    crash.passing("flush.after_remove")
    log.debug(
        "flushed",
        segment=segment.number,
        last_seq=segment.last_seq,
        messages=segment.messages,
        bytes=segment.size,
        ms=round((time.monotonic() - began) * 1000, 1),
    )
    return refused


class FlusherThread:
    """Flushes what it is given; while the lake cannot be written, it tries again with growing pauses, and says so once.

    The queue needs no bound of its own: what waits in it are names of files, and the journal's size is bounded.
    `on_flushed` is called on the thread, with the ids that the lake refused and how many seconds it took; `on_failure`
    once, with what ended it.
    """

    def __init__(
        self,
        lake: LakeWriter,
        crash: CrashPoints,
        on_flushed: Callable[[Segment, frozenset[int], float], None],
        on_failure: Callable[[BaseException], None],
        log: Log,
        maintenance: Maintenance,
    ) -> None:
        self._lake = lake
        self._maintenance = maintenance
        self._crash = crash
        self._on_flushed, self._on_failure = on_flushed, on_failure
        self._log = log
        self._work: queue.Queue[tuple[Segment, float] | None] = queue.Queue()  # with when it came
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="flusher", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def flush(self, segment: Segment) -> None:
        self._work.put((segment, time.monotonic()))

    def stop(self, timeout: float) -> None:
        """End after the segment at hand; what is left stays in the journal."""
        self._stopping.set()
        self._work.put(None)
        self._maintenance.interrupt()
        self._thread.join(timeout)

    def _run(self) -> None:
        try:
            while True:
                try:
                    item = self._work.get(timeout=self._maintenance.due_in_s())
                except queue.Empty:
                    self._maintenance.work()
                    continue
                if item is None:
                    return
                segment, since = item
                begun = time.monotonic()
                refused = self._flush(segment, since)
                if refused is None:
                    return
                self._on_flushed(segment, refused, time.monotonic() - begun)
                if self._maintenance.due_in_s() == 0:
                    self._maintenance.work()
        except BaseException as error:  # noqa: BLE001 (whatever it is, the receiver must know)
            self._on_failure(error)

    def _flush(self, segment: Segment, since: float) -> frozenset[int] | None:
        """The ids that the lake refused; None when asked to stop before it took the segment."""
        pause = _FIRST_RETRY_SECONDS
        away_since: float | None = None
        while not self._stopping.is_set():
            try:
                refused = flush_segment(self._lake, segment, self._crash, self._log)
            except LakeUnavailable as error:
                if away_since is None:
                    away_since = time.monotonic()
                    self._log.warning("lake_unavailable", reason=str(error))
                self._stopping.wait(pause)
                pause = min(pause * 2, _LAST_RETRY_SECONDS)
                self._reopen()
                continue
            now = time.monotonic()
            if away_since is not None:
                self._log.info("lake_available", after_s=round(now - away_since, 1))
            elif now - since >= _SLOW_S:
                self._log.warning("lake_slow", segment=segment.number, seconds=round(now - since, 1))
            return refused
        return None

    def _reopen(self) -> None:
        try:
            self._lake.open()
        except LakeUnavailable as error:
            self._log.debug("lake_unavailable", reason=str(error))
