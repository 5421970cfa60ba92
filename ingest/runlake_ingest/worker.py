"""One run of the ingest worker, from recovery to a clean stop: here the rooms are wired together."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

import zmq
from msgspec.structs import replace

from runlake import wire
from runlake.errors import LakeUnavailable, SettingsError
from runlake.ids import Uuid7Source
from runlake.keyfolder import KeyFolder
from runlake.lake.duck import need_psycopg
from runlake.lake.durability import make_folder
from runlake.lake.maintenance import Limits as MaintenanceLimits
from runlake.logs import Log
from runlake.pulse import Pulse
from runlake.servicemanager import ServiceManager
from runlake.settings import Settings, variable
from runlake_ingest import sockets
from runlake_ingest.crashpoints import CrashPoints
from runlake_ingest.dedupe import Window
from runlake_ingest.expiry import Expiry
from runlake_ingest.flusher import FlusherThread, flush_segment
from runlake_ingest.folder import WorkerFolder
from runlake_ingest.forwarder import Forwarder
from runlake_ingest.gate import Gate
from runlake_ingest.journal import Segment
from runlake_ingest.journalthread import JournalThread
from runlake_ingest.lakewriter import LakeWriter
from runlake_ingest.lookup import LookupThread
from runlake_ingest.maintenance import Maintenance
from runlake_ingest.metricspage import MetricsPage
from runlake_ingest.notices import Failed, Flushed, LookedUp, Notices, Sealed
from runlake_ingest.receiver import TICK_S, Limits, Position, Receiver
from runlake_ingest.recovery import recover
from runlake_ingest.retention import Retention
from runlake_ingest.windowfill import window_from_lake

if TYPE_CHECKING:
    from runlake_ingest.cluster import Cluster

_DAY_S = 86_400
_DRAIN_SECONDS = 10.0
_LAST_FLUSH_SECONDS = 30.0
_FORWARD_SECONDS = 5.0
_FIRST_RETRY_SECONDS = 0.1
_LAST_RETRY_SECONDS = 2.0


class Worker:
    """Make one, `run` it once, and make a new one to start again.

    Raises AlreadyRunning when the folder has a worker; `run` raises that when another process has its lease,
    SettingsError when an address is taken, LakeError when the lake cannot be used, OSError when the journal cannot be
    written, and whatever else ended one of the threads.
    """

    def __init__(self, settings: Settings, log: Log, manager: ServiceManager, crash: CrashPoints | None = None) -> None:
        self._settings = settings
        self._log = log
        self._manager = manager
        self._crash = crash or CrashPoints()
        self._notices = Notices()
        self._stopping = False
        keys = settings.server_keys
        make_folder(settings.data)
        self._folder = WorkerFolder(settings.ingest_folder, Uuid7Source())
        if self._folder.killed_before:
            log.warning("killed_before", pid=self._folder.killed_before)
        self._member = wire.Member(worker=self._folder.worker, endpoint=settings.ingest)
        self._cluster = self._in_cluster()
        keep = MaintenanceLimits(settings.maintenance_keep_s, settings.maintenance_merge_mb * 1024 * 1024)
        if self._cluster is None:
            self._lake = LakeWriter(settings.lake, self._crash, log, keep)
        else:
            self._lake = LakeWriter(self._cluster.lake, self._crash, log, keep, self._cluster.confirm)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._gate = Gate(self._context, KeyFolder(settings.keys), keys, log)

    def stop(self) -> None:
        """Ask `run` to end cleanly. From any thread, and from a signal handler."""
        self._stopping = True
        self._notices.wake()

    def run(self) -> None:
        """Recover, serve until `stop`, and end: stop taking, drain, flush, close."""
        try:
            started = self._when_lake_is_there(self._start)
            if started is not None:
                self._serve(*started)
        finally:
            self._gate.close()
            self._context.destroy(linger=0)
            self._lake.close()
            if self._cluster is not None:
                self._cluster.close()
            self._folder.close()
            self._notices.close()

    def _in_cluster(self) -> Cluster | None:
        """The lease and the list of workers, where the catalog is one that several workers can write."""
        if not self._settings.lake.is_clustered:
            return None
        if "," in self._member.endpoint:
            raise SettingsError(
                f"{variable('ingest')}: {self._member.endpoint!r} cannot be used by a worker; allowed is the one"
                " address at which producers reach this one"
            )
        need_psycopg()
        from runlake_ingest.cluster import Cluster  # noqa: PLC0415 (an extra)

        return Cluster(
            self._settings.lake, self._member, self._folder.path, self._notices.wake, self._failed("membership"),
            self._crash, self._log,
        )  # fmt: skip

    def _failed(self, thread: str) -> Callable[[BaseException], None]:
        return lambda error: self._notices.put(Failed(thread, error))

    def _when_lake_is_there(self, start: Callable[[], tuple[UUID, Window, Position, Expiry]]) -> (
        tuple[UUID, Window, Position, Expiry] | None
    ):  # fmt: skip
        """Try until the lake can be used; None when asked to stop meanwhile."""
        pause = _FIRST_RETRY_SECONDS
        while not self._stopping:
            try:
                return start()
            except LakeUnavailable as error:
                if pause == _FIRST_RETRY_SECONDS:
                    self._log.warning("lake_unavailable", reason=str(error))
                    self._manager.status(f"Waiting for the lake: {error}")
            self._manager.alive()
            time.sleep(pause)
            pause = min(pause * 2, _LAST_RETRY_SECONDS)
        return None

    def _start(self) -> tuple[UUID, Window, Position, Expiry]:
        """Open the lake, bring to it what the journal holds, and rebuild the dedupe window from it."""
        began = time.monotonic()
        cluster = self._cluster
        if cluster is not None:
            cluster.confirm()
        lake = self._lake.open()
        if cluster is not None:
            cluster.fence()
        journal, aside = self._folder.journal, self._folder.aside
        segments = recover(journal, aside, lake, lambda worker: self._lake.flushed(worker)[0], self._log)
        if cluster is not None:
            cluster.refuse_foreign(segments)
        for done, segment in enumerate(segments):
            self._log.info("recovering", segment=segment.number, messages=segment.messages, left=len(segments) - done)
            self._manager.status(f"Bringing the journal to the lake: {len(segments) - done} segments left")
            self._manager.alive()
            flush_segment(self._lake, segment, self._crash, self._log)
        if cluster is not None:
            cluster.begin()  # before the lake is asked: a change that ends from here on is seen
        position = Position(*self._lake.flushed(self._folder.worker))
        if position == (0, 0):  # a folder that was restored: its runs go on, and changes fold by `seq`
            position = Position(0, self._lake.last_of_any())
        with closing(self._lake.reader()) as reader:
            window = window_from_lake(reader, self._settings.window_ids, *position, self._keep_alive)
        self._log.info(
            "recovered",
            segments=len(segments),
            position=position.seq,
            window=len(window),
            horizon=datetime.fromtimestamp(window.horizon, UTC),
            ms=round((time.monotonic() - began) * 1000),
        )
        return lake, window, position, Expiry(*self._lake.refused_rules())

    def _serve(self, lake: UUID, window: Window, start: Position, expiry: Expiry) -> None:
        settings, log, put = self._settings, self._log, self._notices.put
        worker, cluster, failed = self._folder.worker, self._cluster, self._failed
        told = {} if cluster is None else settings.client_variables
        forwarder = Forwarder(self._member.endpoint, told.get(variable("server_key")), told.get(variable("client_key")))
        journal = JournalThread(
            self._folder.journal, lake, worker, start.seq, self._crash, put, lambda segment: put(Sealed(segment)),
            failed("journal"), lambda seconds: log.warning("disk_slow", seconds=round(seconds, 1)),
        )  # fmt: skip
        page = MetricsPage(settings.metrics, settings.metrics_tokens)

        def flushed(segment: Segment, refused: frozenset[int], seconds: float) -> None:
            page.flushed(seconds)
            put(Flushed(segment, refused))

        retention = Retention(
            settings.retention_days * _DAY_S, settings.quarantine_days * _DAY_S, expiry,
            lambda: self._lake.flushed(worker)[1], clustered=cluster is not None,
        )  # fmt: skip
        maintenance = Maintenance(
            self._lake,
            settings.lake,
            settings.maintenance_interval_ms / 1000,
            log,
            retention=retention,
            election=None if cluster is None else cluster.election,
        )
        flusher = FlusherThread(self._lake, self._crash, flushed, failed("flusher"), log, maintenance)
        lookup = LookupThread(self._lake.reader, lambda known: put(LookedUp(known)), failed("lookup"), log)
        limits = Limits(
            settings.flush_interval_ms / 1000,
            settings.flush_messages,
            settings.journal_max_mb * 1024 * 1024,
            settings.credit,
        )
        gate = self._gate
        router = sockets.bind_router(self._context, settings, gate.keys)
        pull = sockets.bind_pull(self._context, settings, gate.keys)
        publisher = sockets.bind_feed(self._context, settings, gate.keys)
        gate.start((router, pull, publisher), failed("gate"))
        receiver = Receiver(
            lake,
            worker,
            window,
            start,
            limits,
            router,
            pull,
            publisher,
            self._notices,
            journal,
            flusher,
            lookup,
            self._crash,
            log,
            expiry,
            forwarder.forward,
            may_acknowledge=_always if cluster is None else cluster.sight.may_acknowledge,
        )
        receiver.follow(wire.Workers(version=0, members=[self._member]))
        threads = (journal, flusher, lookup)
        for thread in threads:
            thread.start()
        page.start(
            lambda: replace(receiver.counters, forward_dropped=forwarder.dropped),
            lambda: replace(receiver.gauges(), lease_held=int(cluster is None or cluster.lease_held)),
            lambda: maintenance.upkeep,
            lambda: gate.refused,
        )
        if cluster is not None:
            follow = cluster.follow(receiver, self._lake.reader, settings.window_ids, self._is_going_on).step
        else:
            follow = _nothing
        log.info(
            "ready",
            worker=worker,
            lake=lake,
            position=start.seq,
            ingest=settings.ingest_bind,
            push=settings.push_bind,
            feed=settings.feed_bind,
            metrics=page.address,
        )
        self._manager.ready(f"Taking in messages at {settings.ingest_bind}")
        pulse = Pulse(log, TICK_S)
        try:
            while not self._stopping:
                pulse.beat()
                follow()
                receiver.step()
                self._manager.alive()
            self._finish(receiver)
            forwarder.close(_FORWARD_SECONDS)
        finally:
            if cluster is not None:
                cluster.stop(_LAST_FLUSH_SECONDS)
            for thread in threads:
                thread.stop(_LAST_FLUSH_SECONDS)
            page.stop()
        gate.close()
        for socket in (router, pull, publisher):
            socket.close(linger=sockets.LINGER_MS)
        self._context.term()
        log.info("stopped", position=receiver.position(), counters=receiver.counters)

    def _keep_alive(self) -> None:
        """Now and then during a long step of the start."""
        self._manager.alive()
        if self._cluster is not None:
            self._cluster.keep()

    def _is_going_on(self) -> bool:
        """A turn of a wait: whether to wait on."""
        self._manager.alive()
        return not self._stopping

    def _finish(self, receiver: Receiver) -> None:
        """Stop taking, drain, flush. What the lake does not take in time stays in the journal."""
        self._log.info("stopping")
        self._manager.stopping("Bringing the journal to the lake")
        _until(receiver.drained, receiver, _DRAIN_SECONDS)
        receiver.seal()
        if not _until(receiver.flushed, receiver, _LAST_FLUSH_SECONDS):
            self._log.warning("journal_kept", reason="the lake did not take it in time", seconds=_LAST_FLUSH_SECONDS)


def _until(condition: Callable[[], bool], receiver: Receiver, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        receiver.step(taking=False)
    return True


def _always() -> bool:
    """Whether a worker without a lease may acknowledge."""
    return True


def _nothing() -> None:
    """What a worker without a list of workers does about it."""
