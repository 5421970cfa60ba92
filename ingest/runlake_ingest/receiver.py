"""The receiver: one thread that owns the sockets, the dedupe window and the numbering.

    sockets → read_batch → (wait for a look-up) → accept → journal thread → acks
                                                             seals → flusher thread → lake

The journal, flusher and look-up threads do the slow work and tell the receiver through `Notices`. While the disk writes
one group, the receiver makes the next one: a group is whatever arrived meanwhile. It stops reading its sockets while
the group in the making is full, while the journal is at its limit, and while too much waits for look-ups: then ZeroMQ's
and TCP's own buffers fill, and producers keep what they have. So every queue is bounded.
"""

from __future__ import annotations

import collections
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

import zmq

from runlake import feed, wire
from runlake.errors import WireError
from runlake.logs import Log
from runlake.messages import Message
from runlake_ingest.counters import Counters, Gauges
from runlake_ingest.crashpoints import CrashPoints
from runlake_ingest.dedupe import Window
from runlake_ingest.expiry import Expiry
from runlake_ingest.flusher import FlusherThread
from runlake_ingest.intake import PUSH_PRODUCER, Acceptance, Bad, BatchIn, LateId, read_batch
from runlake_ingest.journal import Segment
from runlake_ingest.journalthread import GroupDone, GroupIn, JournalThread
from runlake_ingest.lookup import LookupThread
from runlake_ingest.notices import Failed, Flushed, LookedUp, Notices, Sealed
from runlake_ingest.ownership import ownership
from runlake_ingest.waiting import Arrival, Waiting

_GROUP_BYTES = 8 * 1024 * 1024
_GROUP_BATCHES = 256
_WAITING_BYTES = 64 * 1024 * 1024
TICK_S = 0.05
"""How long a turn waits for something to do."""
_SEGMENT_BYTES = 64 * 1024 * 1024
"""What DuckDB takes in at once takes four times as much memory."""
_RAW_OF_REFUSED = 4_096
_MAX_FLUSH_WAITERS = 1_000
_REFUSALS_SAID_EVERY_S = 10.0
_SEALED_AHEAD = 1
"""While this many sealed segments wait for the lake, the open one grows up to its message limit."""


class Position(NamedTuple):
    """Where a worker begins: its last flushed segment and the last position in it."""

    segment: int
    seq: int


class Limits(NamedTuple):
    """When a segment is sealed, when the receiver pauses, and what producers may have in flight."""

    flush_interval_s: float
    flush_messages: int
    journal_bytes: int
    credit: int


class _Making:
    """The group in the making: accepted, numbered, and not yet with the journal."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.replies: list[tuple[bytes, bytes]] = []
        self.size = 0
        self.batches = 0

    @property
    def full(self) -> bool:
        return self.size >= _GROUP_BYTES or self.batches >= _GROUP_BATCHES


class Receiver:
    """Serves until asked to stop. Not thread-safe, but for `counters` and `gauges`, which others may read."""

    def __init__(
        self,
        lake: UUID,
        worker: UUID,
        window: Window,
        start: Position,
        limits: Limits,
        router: zmq.Socket[bytes],
        pull: zmq.Socket[bytes],
        publisher: zmq.Socket[bytes],
        notices: Notices,
        journal: JournalThread,
        flusher: FlusherThread,
        lookup: LookupThread,
        crash: CrashPoints,
        log: Log,
        expiry: Expiry | None = None,
        forward: Callable[[wire.Workers, Sequence[Message]], None] = lambda workers, messages: None,
        may_acknowledge: Callable[[], bool] = lambda: True,
    ) -> None:
        self._lake, self._worker, self._name = lake, worker, str(worker)
        self._window = window
        self._limits = limits
        self._router, self._pull, self._publisher = router, pull, publisher
        self._notices = notices
        self._journal, self._flusher, self._lookup = journal, flusher, lookup
        self._crash = crash
        self._log = log
        self._forward = forward
        self._may_acknowledge = may_acknowledge
        self._workers = wire.Workers(version=0, members=[])
        self._owned = ownership(worker, self._workers)
        self._since = start.seq
        self.counters = Counters()

        self._acceptance = Acceptance(worker, window, start.seq, limits.credit, expiry)
        self._waiting = Waiting(window)
        self._looking_up = False
        self._making = _Making()
        self._in_journal: collections.deque[_Making] = collections.deque()
        self._unacknowledged: collections.deque[tuple[GroupDone, _Making]] = collections.deque()  # on disk
        self._next_beat = 0.0
        self._durable = self._flushed = start.seq
        self._journal_bytes = 0

        self._segment = start.segment + 1  # the open one
        self._segment_first = start.seq
        self._segment_since: float | None = None  # when its first line was accepted
        self._sealed = 0  # how many are sealed and not flushed
        self._flushed_segment = start.segment
        self._flush_waiters: list[tuple[int, bytes]] = []
        self._paused = False
        self._pull_first = False
        self._segment_bytes = 0
        self._refusals_unsaid = 0
        self._say_refusals_at = 0.0

        self._reading = zmq.Poller()
        self._pausing = zmq.Poller()
        self._reading.register(router, zmq.POLLIN)
        self._reading.register(pull, zmq.POLLIN)
        for poller in (self._reading, self._pausing):
            poller.register(notices.descriptor, zmq.POLLIN)

    # The loop

    def step(self, taking: bool = True) -> None:
        """One turn: wait for something, take it in, hand on. With `taking` false, the sockets are left alone."""
        self._acceptance.follow_rules()
        reading = taking and self._may_read()
        if taking:
            self._say_paused(not reading)
        ready = dict((self._reading if reading else self._pausing).poll(round(TICK_S * 1000)))
        for notice in self._notices.take():
            self._note(notice)
        self._acknowledge()
        if reading:
            self._pull_first = not self._pull_first  # a flood on one socket leaves every other turn to the other
            if self._pull_first and self._pull in ready:
                self._take_pushes()
            if self._router in ready:
                self._take_requests()
            if not self._pull_first and self._pull in ready:
                self._take_pushes()
        self._ask_lake()
        self._hand_on()
        self._beat()

    def drained(self) -> bool:
        """Whether everything accepted is durable and acknowledged, and nothing waits for the lake."""
        nothing_waits = not self._making.lines and not len(self._waiting) and not self._unacknowledged
        return self._journal.idle and nothing_waits

    def seal(self) -> None:
        """Seal the open segment, unless something accepted has yet to be handed to it."""
        if self._segment_since is not None and not self._making.lines:
            self._journal.seal()
            self._segment += 1
            self._segment_first = self._acceptance.last_seq
            self._segment_since = None
            self._segment_bytes = 0
            self._sealed += 1

    def flushed(self) -> bool:
        """Whether every sealed segment is in the lake."""
        return self._sealed == 0

    def follow(self, workers: wire.Workers) -> None:
        """Take what is this worker's own by this list of workers, and tell it to who asks."""
        self._workers = workers
        self._owned = ownership(self._worker, workers)

    def number_on(self, window: Window, last_seq: int) -> None:
        """Go on behind this position, by this window. Only while all that was accepted is in the lake."""
        assert self.drained() and self.flushed() and self._segment_since is None
        self._window = window
        self._waiting = Waiting(window)
        self._acceptance.number_on(window, last_seq)
        self._journal.number_on(last_seq)
        self._durable = self._flushed = self._segment_first = self._since = last_seq

    def position(self) -> wire.Position:
        return wire.Position(
            lake=self._lake,
            worker=self._worker,
            accepted=self._acceptance.last_seq,
            durable=self._durable,
            flushed=self._flushed,
        )

    def gauges(self) -> Gauges:
        """How things stand; from any thread, and then of one moment only roughly."""
        return Gauges(
            accepted_seq=self._acceptance.last_seq,
            durable_seq=self._durable,
            flushed_seq=self._flushed,
            journal_bytes=self._journal_bytes,
            groups_at_journal=len(self._in_journal),
            sealed_segments=self._sealed,
            waiting_batches=len(self._waiting),
            window_ids=len(self._window),
            list_version=self._workers.version,
            members=max(1, len(self._workers.members)),
        )

    def _may_read(self) -> bool:
        return (
            not self._making.full
            and not self._unacknowledged
            and self._journal_bytes < self._limits.journal_bytes
            and self._waiting.size < _WAITING_BYTES
        )

    def _say_paused(self, paused: bool) -> None:
        """Say once when the sockets are left alone for a reason that people should know; a full group is none."""
        paused = paused and not self._making.full and not self._unacknowledged
        if paused and not self._paused:
            self.counters.pauses += 1
            self._log.warning("paused", journal_bytes=self._journal_bytes, waiting_bytes=self._waiting.size)
        elif self._paused and not paused:
            self._log.info("resumed", journal_bytes=self._journal_bytes)
        self._paused = paused

    # What arrives

    def _take_requests(self) -> None:
        while not self._making.full:
            try:
                peer, *frames = self._router.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._take_request(peer, frames)

    def _take_request(self, peer: bytes, frames: list[bytes]) -> None:
        try:
            if not frames:
                raise WireError("A request has a header")
            request = wire.decode_request(frames[0])
        except WireError as error:
            self._refuse(peer, frames, str(error))
            return
        wanted, batch = (2, request.batch) if isinstance(request, wire.Batch) else (1, None)
        if len(frames) != wanted:
            self._refuse(peer, frames, f"This request has {wanted} frames, not {len(frames)}", batch)
            return
        match request:
            case wire.Batch():
                read = read_batch(request, frames[1], datetime.now(UTC), self._name, self._since)
                if self._owned is None or self._owned.takes(request, read):
                    self._take(peer, read)
                else:
                    self.counters.not_mine += read.count
                    self._reply(peer, wire.encode_frame(wire.NotMine(workers=self._workers, batch=request.batch)))
            case wire.PositionRequest():
                self._reply(peer, wire.encode_frame(self.position()))
            case wire.FlushRequest():
                self._flush_asked(peer)
            case wire.WorkersRequest():
                self._reply(peer, wire.encode_frame(self._workers))

    def _refuse(self, peer: bytes, frames: list[bytes], reason: str, batch: int | None = None) -> None:
        """What is not of this protocol is kept raw in quarantine, and its sender is told."""
        self.counters.refused_requests += 1
        self._say_refusal(reason, len(frames))
        refusal = wire.encode_frame(wire.Refused(reason=reason, batch=batch))
        self._accept(None, _unreadable("(unreadable)", reason, frames), {})
        self._making.replies.append((peer, refusal))

    def _say_refusal(self, reason: str, frames: int) -> None:
        """Log the first, and then how many more, now and then: garbage must not fill the log."""
        self._refusals_unsaid += 1
        now = time.monotonic()
        if now >= self._say_refusals_at:
            self._log.warning("request_refused", reason=reason, frames=frames, count=self._refusals_unsaid)
            self._refusals_unsaid = 0
            self._say_refusals_at = now + _REFUSALS_SAID_EVERY_S

    def _take_pushes(self) -> None:
        while not self._making.full:
            try:
                frames = self._pull.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            if len(frames) == 1:
                self._take_push(read_batch(None, frames[0], datetime.now(UTC)))
            else:
                self._take(None, _unreadable(PUSH_PRODUCER, f"A push has one frame, not {len(frames)}", frames))

    def _take_push(self, batch: BatchIn) -> None:
        if self._owned is not None:
            batch, others = self._owned.split(batch)
            if others:
                self.counters.forwarded += len(others)
                self._forward(self._workers, others)
                if not batch.items:
                    return
        self._take(None, batch)

    def _take(self, peer: bytes | None, batch: BatchIn) -> None:
        if self._waiting.must_wait(batch):
            self._waiting.add(Arrival(peer, batch))
        else:
            self._accept(peer, batch, {})

    def _accept(self, peer: bytes | None, batch: BatchIn, looked_up: dict[LateId, bool]) -> None:
        accepted = self._acceptance.accept(batch, looked_up, self._segment, datetime.now(UTC))
        making = self._making
        making.lines += accepted.lines
        size = sum(map(len, accepted.lines))
        making.size += size
        self._segment_bytes += size
        making.batches += 1
        if peer is not None:
            making.replies.append((peer, wire.encode_frame(accepted.ack)))
        if self._segment_since is None:
            self._segment_since = time.monotonic()
        counters, ack = self.counters, accepted.ack
        counters.batches += 1
        counters.received += batch.count
        counters.accepted += ack.accepted
        counters.duplicate += len(ack.duplicate)
        counters.rejected += batch.count - ack.accepted - len(ack.duplicate)

    # Late messages

    def _ask_lake(self) -> None:
        if self._looking_up or not len(self._waiting):
            return
        question = self._waiting.question()
        self._looking_up = True
        self._window.hold()
        self.counters.late += len(question)
        if question:
            self._lookup.ask(question)
        else:
            self._notices.put(LookedUp({}))

    def _looked_up(self, known: dict[LateId, bool]) -> None:
        for arrival in self._waiting.resolved(known):
            self._accept(arrival.peer, arrival.batch, known)
        self._looking_up = False
        self._window.release()
        self._ask_lake()

    # What is handed on

    def _hand_on(self) -> None:
        making = self._making
        if making.lines and (self._journal.idle or (making.full and self._journal.has_room)):
            self._journal.write(GroupIn(self._segment, making.lines, self._acceptance.last_seq))
            self._in_journal.append(making)
            self._making = _Making()
        if self._seal_due():
            self.seal()

    def _seal_due(self) -> bool:
        if self._segment_since is None:
            return False
        if self._flush_waiters and self._flush_waiters[-1][0] >= self._segment:
            return True
        if self._acceptance.last_seq - self._segment_first >= self._limits.flush_messages:
            return True
        if self._segment_bytes >= _SEGMENT_BYTES:
            return True
        old = time.monotonic() - self._segment_since >= self._limits.flush_interval_s
        return old and self._sealed < _SEALED_AHEAD

    def _flush_asked(self, peer: bytes) -> None:
        last = self._segment if self._segment_since is not None else self._segment - 1
        if last <= self._flushed_segment:
            self._reply(peer, wire.encode_frame(self.position()))
        elif len(self._flush_waiters) >= _MAX_FLUSH_WAITERS:
            self._reply(peer, wire.encode_frame(wire.Refused(reason="Too many wait for a flush already")))
        else:
            self._flush_waiters.append((last, peer))

    # What the other threads did

    def _note(self, notice: object) -> None:
        match notice:
            case GroupDone():
                self._group_done(notice)
            case Sealed():
                self._flusher.flush(notice.segment)
            case Flushed():
                self._segment_flushed(notice.segment)
                self._window.withdraw(notice.refused)
            case LookedUp():
                self._looked_up(notice.known)
            case Failed():
                raise notice.error

    def _group_done(self, group: GroupDone) -> None:
        self._journal.returned()
        self._journal_bytes += group.size
        self.counters.groups += 1
        self._unacknowledged.append((group, self._in_journal.popleft()))

    def _acknowledge(self) -> None:
        """Say of what is on disk that it is, unless this process may not be this worker any more."""
        if not self._may_acknowledge():
            return
        while self._unacknowledged:
            group, made = self._unacknowledged.popleft()
            first_seq, self._durable = self._durable + 1, group.last_seq
            self._crash.passing("ack.before")
            for peer, reply in made.replies:
                self._reply(peer, reply)
            self._crash.passing("ack.after")
            self._publish(group.segment, first_seq, made.lines)

    def _publish(self, segment: int, first_seq: int, lines: list[bytes]) -> None:
        group = feed.FeedGroup(
            lake=self._lake,
            worker=self._worker,
            segment=segment,
            first_seq=first_seq,
            last_seq=self._durable,
            flushed=self._flushed,
        )
        self._publisher.send_multipart(feed.encode_group(group, b"".join(lines)), zmq.NOBLOCK)

    def _beat(self) -> None:
        now = time.monotonic()
        if now >= self._next_beat:
            self._next_beat = now + feed.HEARTBEAT_S
            self._publisher.send_multipart(feed.encode_beat(self.position()), zmq.NOBLOCK)

    def _segment_flushed(self, segment: Segment) -> None:
        self._sealed -= 1
        self._journal_bytes -= segment.size
        self._flushed, self._flushed_segment = segment.last_seq, segment.number
        self._window.flushed(segment.number, segment.last_seq)
        self.counters.segments += 1
        while self._flush_waiters and self._flush_waiters[0][0] <= segment.number:
            self._reply(self._flush_waiters.pop(0)[1], wire.encode_frame(self.position()))

    def _reply(self, peer: bytes, frame: bytes) -> None:
        try:
            self._router.send_multipart((peer, frame), zmq.NOBLOCK)
        except zmq.ZMQError:  # gone, or not reading: it will ask or send again
            self.counters.lost_acks += 1


def _unreadable(producer: str, reason: str, frames: list[bytes]) -> BatchIn:
    """Frames that are no batch, as one refused message. Their number and size have no limit; what is kept of them has
    one, for a producer that cannot be understood may send them again and again."""
    size = sum(map(len, frames))
    raw = b"".join(frame[:_RAW_OF_REFUSED] for frame in frames[:_RAW_OF_REFUSED])[:_RAW_OF_REFUSED]
    if size > len(raw):
        reason = f"{reason} (the first {len(raw):,} of {size:,} bytes are kept)"
    return BatchIn(producer, None, None, 1, [Bad(reason, None, raw)], len(raw))
