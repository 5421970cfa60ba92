"""The follower: one thread that keeps the read model in step with the lake.

Each round: has the catalog changed? Then copy it, attach the copy, and apply for each worker what lies between the
position of the read model and that of the copy, in spans that bound memory and can be resumed. The copy is lent to
readers before its rows are applied, so that a copy is never behind the read model that a reader sees.

What goes wrong is told by `Progress`, logged once when it changes, and tried again; only a read model that is damaged
itself ends the process, marked so that the next start builds it anew.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

import duckdb

from runlake.errors import LakeError, LakeUnavailable
from runlake.lake.attach import CatalogWatch
from runlake.lake.schema import check_version, lake_id
from runlake.logs import Log
from runlake_query.apply import LakeSource, apply_span, lake_positions, move_window
from runlake_query.copies import Copies, Copy
from runlake_query.folder import Folder
from runlake_query.model import ReadModel, read_positions
from runlake_query.progress import Progress

_MAX_BACKOFF_S = 5.0
"""The longest pause after an error."""
_MAX_PATIENCE_S = 0.25
"""The longest pause while there is no lake yet, or it is away."""


class Follower:
    """Owns the writing side of the read model. `start` and `stop` it once."""

    def __init__(
        self,
        *,
        catalog: Path,
        folder: Folder,
        model: ReadModel,
        copies: Copies,
        progress: Progress,
        log: Log,
        refresh_s: float,
        window: timedelta,
        utcnow: Callable[[], datetime],
        on_damage: Callable[[], None],
        span_messages: int = 1_000_000,
    ) -> None:
        self._catalog = catalog
        self._folder = folder
        self._model = model
        self._cursor = model.cursor()
        self._copies = copies
        self._progress = progress
        self._log = log
        self._refresh_s = refresh_s
        self._window = window
        self._utcnow = utcnow
        self._on_damage = on_damage
        self._span_messages = span_messages
        self._watch = CatalogWatch(catalog)
        self._inode: tuple[int, int] | None = None
        self._seen: int | None = None
        self._reason = ""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="follower")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Finish the span at work, and end. Idempotent."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        delay = self._refresh_s
        while not self._stopping.wait(delay if self._reason or self._seen is not None else 0):
            try:
                self._round()
            except LakeError as error:
                delay = self._missed(str(error), delay, failed=not isinstance(error, LakeUnavailable))
            except duckdb.FatalException as error:
                self._damaged(error)
                return
            except Exception as error:  # noqa: BLE001 (told, logged, counted, and tried again)
                if _is_damage(error):
                    self._damaged(error)
                    return
                delay = self._missed(f"{type(error).__name__}: {error}", delay, failed=True)
            else:
                delay = self._refresh_s
        self._watch.close()

    def _missed(self, reason: str, delay: float, *, failed: bool) -> float:
        """Tell what went wrong, once; returns how long to wait before the next try."""
        self._seen = None
        self._progress.behind(reason, failed=failed)
        if reason != self._reason:
            (self._log.error if failed else self._log.warning)("lake_not_followed", reason=reason)
            self._reason = reason
        return min(_MAX_BACKOFF_S if failed else _MAX_PATIENCE_S, delay * 2)

    def _damaged(self, error: Exception) -> None:
        self._progress.behind("The read model is damaged.", failed=True, restart=True)
        self._log.error("read_model_damaged", reason=str(error))
        self._folder.rebuild_mark.touch()
        self._watch.close()
        self._on_damage()

    def _round(self) -> None:
        looked_at = self._progress.looked_at()
        self._notice_replaced_catalog()
        version = self._watch.version()
        if version != self._seen:
            self._catch_up()
            self._seen = version
        if self._stopping.is_set():
            return
        first = not self._progress.state.caught_up
        self._progress.in_step(looked_at)
        if first:
            self._log.info("caught_up", positions={str(key): seq for key, seq in self._progress.positions.items()})
        elif self._reason:
            self._log.info("following_again")
        self._reason = ""
        self._copies.sweep()

    def _notice_replaced_catalog(self) -> None:
        """A file that was replaced (restored from a backup, say) is another one under the same name."""
        try:
            status = self._catalog.stat()
        except FileNotFoundError:
            self._watch.close()
            self._inode = None
            raise LakeUnavailable(f"There is no catalog at {self._catalog} yet: the ingest worker makes it.") from None
        inode = (status.st_dev, status.st_ino)
        if inode != self._inode:
            self._watch.close()
            self._inode, self._seen = inode, None

    def _catch_up(self) -> None:
        copy = self._copies.make(self._watch)
        try:
            lake = self._identify(copy)
            flushed = lake_positions(self._cursor, copy.name)
        except BaseException:
            self._copies.discard(copy)
            raise
        self._adopt(lake, {worker: seq for worker, (seq, _) in flushed.items()})
        self._copies.publish(copy, {worker: seq for worker, (seq, _) in flushed.items()})
        move_window(self._cursor, self._utcnow() - self._window, copy.name)
        self._progress.applied(read_positions(self._cursor))
        for worker in sorted(flushed):
            self._apply(copy, worker, *flushed[worker])

    def _identify(self, copy: Copy) -> UUID:
        try:
            check_version(self._cursor, copy.name)
            return lake_id(self._cursor, copy.name)
        except duckdb.CatalogException:
            raise LakeUnavailable(f"The catalog {self._catalog} has no lake in it yet.") from None

    def _adopt(self, lake: UUID, flushed: dict[UUID, int]) -> None:
        """Make sure that the read model is of this lake, and not ahead of it as after the restore of a backup."""
        if self._model.lake is None:
            self._model.belong_to(self._cursor, lake)
            return
        ahead = [worker for worker, seq in read_positions(self._cursor).items() if seq > flushed.get(worker, 0)]
        if self._model.lake == lake and not ahead:
            return
        reason = "The read model was ahead of the lake." if ahead else "The read model was of another lake."
        self._log.warning("read_model_emptied", reason=reason, lake=str(lake), was=str(self._model.lake))
        self._progress.behind(f"{reason} It is being built anew.", restart=True)
        self._model.empty(self._cursor, lake, self._utcnow() - self._window)

    def _apply(self, copy: Copy, worker: UUID, last_seq: int, last_segment: int) -> None:
        at, segment = self._model.segments(self._cursor).get(worker, (0, 0))
        if (at, segment) == (last_seq, last_segment):
            return
        source = LakeSource(copy.name)
        while not self._stopping.is_set():
            upto = min(last_seq, at + self._span_messages)
            whole = upto == last_seq
            apply_span(self._cursor, source, worker, upto, last_segment if whole else segment)
            self._progress.applied(read_positions(self._cursor))
            at = upto
            if whole:
                return
            self._log.info("catching_up", worker=str(worker), applied=at, flushed=last_seq)


def _is_damage(error: Exception) -> bool:
    """Whether DuckDB found its own file damaged; errors of Parquet files and catalogs are the lake's."""
    text = str(error).lower()
    signs = ("corrupt database file", "database has been invalidated")
    return isinstance(error, duckdb.Error) and any(sign in text for sign in signs)
