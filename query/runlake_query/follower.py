"""The follower: one thread that keeps the read model in step with the lake, and ahead of it by what the feed tells.

What ingest has just journaled comes over the feed and is applied while it follows without a gap. The lake has the same
a little later, confirms it, and fills every gap: messages that were lost, or came while this process was away or slow.
When the gap is filled, what the feed has told meanwhile follows again. The feed decides how soon, and the lake what.

Has the catalog changed? A second thread looks, copies it and attaches the copy, while this one goes on with the feed:
a catalog on another machine may take its time. Then what lies between the read model and the copy is applied, of each
worker (in the order of `logorder.py`), in spans that bound memory and can be resumed. The copy is lent to readers
before its rows are applied, so that it is never behind what they see of the lake.

What goes wrong is told by `Progress`, logged once when it changes, and tried again; only a read model that is damaged
itself ends the process, marked so that the next start builds it anew.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import duckdb
import zmq

from runlake.errors import LakeError, LakeUnavailable
from runlake.feed import FeedGroup
from runlake.lake.attach import open_watch
from runlake.lake.place import LakePlace
from runlake.lake.schema import check_version, lake_id
from runlake.logs import Log
from runlake_query.apply import (
    Applier,
    Changes,
    LakeBooks,
    LakeSource,
    LogMismatch,
    Nobody,
    lake_positions,
    move_window,
    read_books,
)
from runlake_query.checkpoints import Checkpoints
from runlake_query.copies import Copies, Copy
from runlake_query.feedbuffer import FeedBuffer, FeedSpan
from runlake_query.feedlines import UnreadableLines
from runlake_query.feedlink import FeedLink
from runlake_query.feedlog import FeedLog
from runlake_query.folder import Folder
from runlake_query.logorder import Stretch, in_order, read_stretches
from runlake_query.lookout import Lookout
from runlake_query.lostfeed import forget_lost
from runlake_query.model import ReadModel, read_lake_positions, read_positions
from runlake_query.positions import Positions
from runlake_query.pricing import STEP_RUNS, Pricing, list_in_lake
from runlake_query.progress import FEED_SILENCE_S, Progress
from runlake_query.removals import Extent, Removals, removals_in_lake

_MAX_BACKOFF_S = 5.0
"""The longest pause after an error."""
_MAX_PATIENCE_S = 0.25
"""The longest pause while there is no lake yet, or it is away."""
_FETCH_TICK_S = 0.005
"""How often to see whether the copy of the catalog is there."""
_LONG_LOOK_S = 10.0
"""After so long without an answer the catalog counts as away."""
_STOP_S = 5.0
"""How long the end waits for an answer of the catalog."""
_FEED_AGAIN_S = 1.0
"""After how long a feed whose socket failed is listened to again."""
_MAX_WORKERS = 256
"""Of how many workers (of any lake) the feed is held at a time."""


class _Fetched(NamedTuple):
    """A copy of the catalog that is attached and not yet lent, and what it says."""

    version: object
    copy: Copy
    lake: UUID
    flushed: dict[UUID, tuple[int, int]]
    stretches: list[Stretch]
    prices: str | None
    books: dict[UUID, LakeBooks]
    removals: Extent


class _Fetching(NamedTuple):
    looked_at: float
    future: Future[_Fetched | None]


class Follower:
    """Owns the writing side of the read model. `start` and `stop` it once."""

    def __init__(
        self,
        *,
        place: LakePlace,
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
        reprice_runs: int = STEP_RUNS,
        feed: FeedLink | None = None,
        changes: Changes | None = None,
    ) -> None:
        self._place = place
        self._folder = folder
        self._model = model
        self._cursor = model.cursor()
        self._changes = changes or Nobody()
        self._applier = Applier(self._cursor, self._changes)
        self._pricing = Pricing(self._cursor, log, reprice_runs, model.changed)
        self._removals = Removals(self._applier, model.changed)
        self._feed_log = FeedLog(folder.path / "feed.log")
        self._checkpoints = Checkpoints(self._cursor, self._feed_log.clear)
        self._copies = copies
        self._lookout = Lookout(place, folder.path)
        self._progress = progress
        self._log = log
        self._refresh_s = refresh_s
        self._window = window
        self._utcnow = utcnow
        self._on_damage = on_damage
        self._span_messages = span_messages
        self._feed = feed
        self._buffers: dict[tuple[UUID, UUID], FeedBuffer] = {}
        self._gaps: set[UUID] = set()
        self._heard_feed: tuple[bool, list[str]] = (False, [])
        self._feed_at = 0.0
        self._patient_until = 0.0
        self._feed_reason = ""
        self._watch = open_watch(place)
        self._seen: object = None
        self._fetching: _Fetching | None = None
        self._sweeping: Future[None] | None = None
        self._fetcher = ThreadPoolExecutor(1, thread_name_prefix="catalog")
        self.is_stuck = False
        """Once stopped: whether a thread still waits for the catalog. What is open cannot be closed then."""
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
        self._patient_until = time.monotonic() + FEED_SILENCE_S
        try:
            self._apply_log()
            self._follow()
        finally:
            if self._feed is not None:
                self._feed.close()
            self._end_fetching()
            self._fetcher.shutdown(wait=not self.is_stuck)
            if not self.is_stuck:
                self._watch.close()
                self._lookout.close()
            self._feed_log.close()

    def _apply_log(self) -> None:
        """Apply again what the feed had told since the read model was last written. What does not follow is left to the
        lake."""
        applied = 0
        try:
            for span in self._feed_log.spans():
                at = self._applier.stored(span.worker)
                if span.lake == self._model.lake and span.upto >= at.seq:
                    applied += self._applier.apply_feed(span.worker, span.segment, span.upto, span.lines)
        except (UnreadableLines, duckdb.Error, OSError) as error:
            self._log.info("feed_log_ended", reason=str(error))
        if applied:
            self._log.info("feed_log_applied", messages=applied)
        if not self._feed_log.empty:  # and so begins anew: nothing may come after half a record
            self._checkpoints.applied(applied)

    def _follow(self) -> None:
        delay = 0.0
        look_at = 0.0
        while not self._stopping.is_set():
            waited = False
            try:
                repricing = self._pricing.pending and self._progress.state.caught_up
                self._wait(0.0 if repricing else look_at - time.monotonic())
                waited = True
                self._apply_feed()
                self._reprice()
                if time.monotonic() < look_at and self._fetching is None:
                    continue
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
                if not waited:
                    self._stopping.wait(delay)
            else:
                delay = self._pause_s()
            look_at = time.monotonic() + delay

    def _pause_s(self) -> float:
        """How long until the next look at the catalog: not so soon while the feed tells what is new."""
        if self._progress.feed_live and not self._gaps:
            return max(self._refresh_s, _MAX_PATIENCE_S)
        return self._refresh_s

    def _wait(self, seconds: float) -> None:
        """Wait for the feed, for the copy of the catalog, or for the time to look; take in what the feed has."""
        if self._fetching is not None:
            seconds = min(seconds, _FETCH_TICK_S) if seconds > 0 else _FETCH_TICK_S
        seconds = min(max(seconds, 0.0), _MAX_PATIENCE_S)
        if self._feed is None or time.monotonic() < self._feed_at:
            self._stopping.wait(seconds)
        else:
            try:
                self._listen(self._feed, seconds)
            except zmq.ZMQError as error:
                self._feed.close()
                self._feed_at = time.monotonic() + _FEED_AGAIN_S
                self._tell_feed(f"The socket of the feed failed: {error}")
        self._tell_silence()

    def _listen(self, feed: FeedLink, seconds: float) -> None:
        """Take in what the feed has. Raises zmq.ZMQError."""
        feed.open()
        if feed.poll(seconds):
            for message in feed.take():
                match message:
                    case (group, lines):
                        self._heard(group.lake, group.worker, group.last_seq)
                        self._buffer(group, lines)
                    case beat:
                        self._heard(beat.lake, beat.worker, beat.durable)
            if feed.refused:
                self._progress.count(refused=feed.refused)
                feed.refused = 0
        if feed.refusals:
            self._tell_feed(" ".join(sorted(filter(None, feed.refusals.values()))))
            feed.refusals.clear()

    def _tell_feed(self, reason: str) -> None:
        """Say once why the feed cannot be listened to."""
        if reason and reason != self._feed_reason:
            self._feed_reason = reason
            self._log.warning("feed_not_listened_to", reason=reason)

    def _tell_silence(self) -> None:
        """Say when the feed is heard of every worker, and of whom it is not any more."""
        live = self._progress.feed_live
        if not live and not self._heard_feed[0] and time.monotonic() < self._patient_until:
            return
        silent = [str(worker) for worker, heard in self._progress.heard_workers.items() if not heard and not live]
        if (live, silent) != self._heard_feed:
            said, self._heard_feed = self._heard_feed[0], (live, silent)
            if live:
                self._feed_reason = ""
                self._log.info("feed_heard")
            elif said or silent:
                self._log.info("feed_silent", workers=silent)

    def _heard(self, lake: UUID, worker: UUID, durable: int) -> None:
        if lake == self._model.lake:
            self._progress.heard(worker, durable)

    def _buffer(self, group: FeedGroup, lines: bytes) -> None:
        buffer = self._buffer_of(group.lake, group.worker)
        if buffer is not None:
            buffer.add(group, lines)

    def _buffer_of(self, lake: UUID, worker: UUID) -> FeedBuffer | None:
        buffer = self._buffers.get((lake, worker))
        if buffer is None and len(self._buffers) < _MAX_WORKERS:
            buffer = self._buffers[lake, worker] = FeedBuffer(worker)
        return buffer

    def _apply_feed(self) -> None:
        """Apply what follows. Before the read model is in step with the lake nothing does."""
        if self._model.lake is None or not self._progress.state.caught_up:
            return
        for (lake, worker), buffer in self._buffers.items():
            if lake != self._model.lake:
                buffer.clear()
                continue
            at = self._applier.stored(worker) if buffer.busy else None
            while at is not None and not self._stopping.is_set():
                span = buffer.take(at.seq, at.segment)
                if span is None:
                    self._tell_gap(worker, at.seq, waiting=buffer.waiting)
                    break
                try:
                    fed = self._applier.apply_feed(worker, span.segment, span.upto, span.lines)
                except UnreadableLines as error:
                    self._log.error("feed_unreadable", worker=str(worker), after=at.seq, reason=str(error))
                    buffer.clear()
                    self._progress.count(refused=1)
                    break
                self._keep(lake, worker, span)
                self._progress.count(fed=fed)
                self._applied({**self._progress.positions, worker: max(at.seq, span.upto)}, fed)
                at = at._replace(seq=max(at.seq, span.upto))
            self._count(buffer)

    def _keep(self, lake: UUID, worker: UUID, span: FeedSpan) -> None:
        """Keep what was committed for the case of a kill. It is committed, and so told to everyone, whatever becomes of
        this."""
        try:
            self._feed_log.append(lake, worker, span.segment, span.upto, span.lines)
        except OSError as error:
            self._log.warning("feed_log_stopped", reason=str(error), until="the read model is written to its file")

    def _reprice(self) -> None:
        """Bring some runs to the price list in force, if it is another one than theirs."""
        if self._pricing.pending and self._progress.state.caught_up:
            repriced = self._pricing.step(lambda: self._changes.repricing(self._cursor))
            if repriced:
                self._progress.count(repriced=repriced)
                self._checkpoints.applied(repriced)

    def _count(self, buffer: FeedBuffer) -> None:
        if buffer.late or buffer.dropped:
            self._progress.count(late=buffer.late, dropped=buffer.dropped)
            buffer.late = buffer.dropped = 0

    def _applied(self, positions: Positions, messages: int) -> None:
        """Tell everyone of a commit: first those who hold answers, then those who wait for a position."""
        self._changes.applied(self._cursor, positions)
        self._progress.applied(positions)
        self._checkpoints.applied(messages)

    def _tell_gap(self, worker: UUID, seq: int, *, waiting: bool) -> None:
        """Say once that the feed does not follow, and once that it does again."""
        if waiting and worker not in self._gaps:
            self._gaps.add(worker)
            self._progress.count(gaps=1)
            self._log.info("feed_gap", worker=str(worker), after=seq)
        elif not waiting and worker in self._gaps:
            self._gaps.discard(worker)
            self._log.info("feed_followed_again", worker=str(worker), after=seq)

    def _missed(self, reason: str, delay: float, *, failed: bool) -> float:
        """Tell what went wrong, once; returns how long to wait before the next try."""
        self._seen = None
        self._progress.behind(reason, failed=failed)
        if reason != self._reason:
            (self._log.error if failed else self._log.warning)("lake_not_followed", reason=reason)
            self._reason = reason
        return min(_MAX_BACKOFF_S if failed else _MAX_PATIENCE_S, max(delay, self._refresh_s) * 2)

    def _damaged(self, error: Exception) -> None:
        self._progress.behind("The read model is damaged.", failed=True, restart=True)
        self._log.error("read_model_damaged", reason=str(error))
        self._folder.rebuild_mark.touch()
        self._on_damage()

    def _round(self) -> None:
        if self._fetching is None:
            looked_at = self._progress.looked_at()
            self._fetching = _Fetching(
                looked_at, self._fetcher.submit(self._look, self._seen, self._applier.confirmed())
            )
        elif self._fetching.future.done():
            fetching, self._fetching = self._fetching, None
            fetched = fetching.future.result()
            if fetched is not None:
                self._catch_up(fetched)
                self._seen = fetched.version
            if not self._stopping.is_set():
                self._in_step(fetching.looked_at)
        elif self._progress.looked_at() > self._fetching.looked_at + _LONG_LOOK_S and not self._reason:
            self._missed(f"The catalog {self._place.told} does not answer.", 0.0, failed=False)

    def _in_step(self, looked_at: float) -> None:
        first = not self._progress.state.caught_up
        if first:
            self._checkpoints.write()
            self._changes.restarted(self._cursor, self._progress.positions)
        self._progress.in_step(looked_at)
        if first:
            self._log.info("caught_up", positions={str(key): seq for key, seq in self._progress.positions.items()})
        elif self._reason:
            self._log.info("following_again")
        self._reason = ""
        self._sweep()

    def _sweep(self) -> None:
        """Have the second thread drop the copies that nobody reads any more."""
        if self._sweeping is not None:
            if not self._sweeping.done():
                return
            sweeping, self._sweeping = self._sweeping, None
            sweeping.result()
        if self._copies.replaced:
            self._sweeping = self._fetcher.submit(self._copies.sweep)

    def _look(self, seen: object, confirmed: dict[UUID, tuple[int, int]]) -> _Fetched | None:
        """On the second thread: has the catalog changed? Then copy it, see what it holds beyond what is `confirmed`,
        and attach the copy. In the read model's DuckDB no table of it is asked: see `lookout.py`."""
        version = self._watch.version()
        if version == seen:
            return None
        with self._copies.make(self._watch, self._lookout) as (copy, looking):
            lake = self._identify(looking, copy.name)
            flushed = lake_positions(looking, copy.name)
            at = {worker: seq for worker, (seq, _) in confirmed.items()}
            stretches = in_order(read_stretches(looking, copy.name, at), at)
            prices, removals = list_in_lake(looking, copy.name), removals_in_lake(looking, copy.name)
            # What is to be added to the books of each worker, read ahead, so that the feed need not wait meanwhile.
            news = [worker for worker, known in confirmed.items() if flushed.get(worker, known) != known]
            books = [read_books(looking, copy.name, worker, confirmed[worker][0]) for worker in news]
        found = {of_worker.worker: of_worker for of_worker in books if of_worker is not None}
        return _Fetched(version, copy, lake, flushed, stretches, prices, found, removals)

    def _end_fetching(self) -> None:
        fetching, self._fetching = self._fetching, None
        asked: list[Future[Any]] = [] if fetching is None else [fetching.future]
        asked += [] if self._sweeping is None else [self._sweeping]
        self.is_stuck = bool(wait(asked, _STOP_S).not_done)
        if fetching is None or self.is_stuck or fetching.future.exception() is not None:
            return
        fetched = fetching.future.result()
        if fetched is not None:
            self._copies.discard(fetched.copy)

    def _catch_up(self, fetched: _Fetched) -> None:
        _, copy, lake, flushed, stretches, prices, books, removals = fetched
        try:
            if self._adopt(lake, {worker: seq for worker, (seq, _) in flushed.items()}):
                stretches = in_order(read_stretches(self._cursor, copy.name, {}), {})
        except BaseException:
            self._copies.discard(copy)
            raise
        self._copies.publish(copy, {worker: seq for worker, (seq, _) in flushed.items()})
        self._pricing.take(prices, copy.name)
        move_window(self._cursor, self._utcnow() - self._window, copy.name)
        self._progress.applied(read_positions(self._cursor))
        coming = sum(seq - self._applier.stored(key).seq for key, (seq, _) in flushed.items())
        if self._model.fit_threads(self._cursor, coming):
            self._lookout.have_background_threads()
        # What only adds to the books of a worker has no position of its own: it comes last, and is no stretch.
        rest = [Stretch(worker, 0, seq) for worker, (seq, _) in sorted(flushed.items())]
        for stretch in (*stretches, *rest):
            worker = stretch.worker
            self._number_on(lake, stretch, copy.name)
            try:
                self._apply(LakeSource(copy, books.get(worker)), stretch, *flushed[worker])
            except LogMismatch:
                self._empty(lake, "The read model was fed what the lake does not have.")
                raise LakeUnavailable("The read model is being built anew.") from None
        removed = self._removals.apply(removals, copy.name)
        if removed:
            self._log.info("runs_removed", runs=removed)
            self._changes.restarted(self._cursor, self._progress.positions, "runs were removed from the lake")
            self._checkpoints.applied(removed)

    def _identify(self, looking: duckdb.DuckDBPyConnection, name: str) -> UUID:
        try:
            check_version(looking, name)
            return lake_id(looking, name)
        except duckdb.CatalogException:
            raise LakeUnavailable(f"The catalog {self._place.told} has no lake in it yet.") from None

    def _adopt(self, lake: UUID, flushed: dict[UUID, int]) -> bool:
        """Make sure that the read model is of this lake, and that the lake was not set back by restoring a backup;
        returns whether it had to be emptied."""
        if self._model.lake is None:
            self._model.belong_to(self._cursor, lake)
            self._checkpoints.applied(0)
            self._checkpoints.write()
            return False
        ahead = [worker for worker, seq in read_lake_positions(self._cursor).items() if seq > flushed.get(worker, 0)]
        if self._model.lake == lake and not ahead:
            return False
        self._empty(lake, "The read model was ahead of the lake." if ahead else "The read model was of another lake.")
        return True

    def _empty(self, lake: UUID, reason: str) -> None:
        self._progress.behind(f"{reason} It is being built anew.", restart=True)
        self._log.warning("read_model_emptied", reason=reason, lake=str(lake), was=str(self._model.lake))
        self._model.empty(self._cursor, lake, self._utcnow() - self._window)
        self._applier.forget()
        self._removals.forget()
        self._feed_log.clear()
        self._buffers.clear()
        self._changes.restarted(self._cursor, {})

    def _number_on(self, lake: UUID, stretch: Stretch, name: str) -> None:
        """Where a worker's numbers in the lake go on further than they reached, there is no more of what was before:
        what the feed had told beyond that is lost, and leaves the read model."""
        worker, goes_on_at = stretch.worker, stretch.first - 1
        stored = self._applier.stored(worker)
        if goes_on_at <= stored.lake_seq or self._stopping.is_set():
            return
        buffer = self._buffer_of(lake, worker)
        if buffer is not None:
            buffer.begin_at(goes_on_at)
        if stored.seq <= stored.lake_seq:
            return
        runs = forget_lost(self._applier, worker, name)
        self._log.warning(
            "lost_messages_removed", worker=str(worker), after=stored.lake_seq, upto=stored.seq, runs=runs
        )
        self._feed_log.clear()
        self._model.changed()
        positions = read_positions(self._cursor)
        self._changes.restarted(self._cursor, positions)
        self._progress.applied(positions)
        self._checkpoints.applied(runs)

    def _apply(self, source: LakeSource, stretch: Stretch, last_seq: int, last_segment: int) -> None:
        """Apply what of a stretch is not reflected. `last_seq` and `last_segment` are the worker's last in the lake."""
        worker = stretch.worker
        stored = self._applier.stored(worker)
        at = stored.lake_seq
        end = stretch.last
        if end < at or (end == at and (at < last_seq or stored.segment == last_segment)):
            return
        while not self._stopping.is_set():
            # Numbers before the stretch are nobody's: one step goes over them.
            upto = min(end, stretch.first - 1 if at < stretch.first - 1 else at + self._span_messages)
            whole = upto == last_seq
            segment = last_segment if whole else stored.segment
            added = self._applier.apply_lake(source, worker, upto, segment, whole=whole)
            if added:
                self._progress.count(from_lake=added, catch_ups=1)
            self._applied(read_positions(self._cursor), added)
            at = upto
            if at >= end:
                return
            self._log.info("catching_up", worker=str(worker), applied=at, flushed=last_seq)


def _is_damage(error: Exception) -> bool:
    """Whether DuckDB found its own file damaged; errors of Parquet files and catalogs are the lake's."""
    text = str(error).lower()
    signs = ("corrupt database file", "database has been invalidated")
    return isinstance(error, duckdb.Error) and any(sign in text for sign in signs)
