"""The background thread of an emitter: it owns the socket, and everything that waits does so here.

One turn of its loop: open a link if there is none and the backoff is over; send what waits, as far as the credit goes;
form new batches; wait for answers. It is not woken by `emit`, which must not make a system call: every `interval_s` it
takes what is queued, and in between it looks whether that fills a batch, after every answer and at least every 20 ms.

A link is given up when its connection is lost or not made in time, when no answer came for `ack_timeout_s` while
batches were in flight, and when the worker says that it does not understand. The next one starts from the oldest
unacknowledged batch.

A worker that is paused (its disk is full, its lake is away) does not read, but its libzmq does, and keeps what each
link sent, also of those that are given up. So the wait for an answer doubles each time that it was in vain: a worker
that is gone or stopped shows in the connection and its heartbeats, not here. And who was not understood waits
`REFUSED_WAIT_S`: each refusal costs the worker a row of quarantine.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from math import ceil
from random import Random
from threading import Event
from time import monotonic, sleep

import zmq
from msgspec import Struct

from runlake import wire
from runlake.backoff import Backoff, Patience
from runlake.errors import WireError
from runlake.intake import QUEUE_FULL, UNDELIVERED, Intake, Marker
from runlake.link import CONNECT_TIMEOUT_MS, DESCRIPTORS_NEEDED, Link, LinkState, enough_descriptors
from runlake.notices import Notices
from runlake.outbox import Outbox, SealedBatch
from runlake.stats import RejectedMessage

FIRST_CREDIT = 4
"""Batches in flight before a worker's first answer says how many it allows."""
REFUSED_WAIT_S = 60.0
"""Before the next link to a worker that does not understand: it, or the agent, has to be replaced first."""
_MAX_REJECTIONS = 16
_LONGEST_WAIT_S = 0.02
_ARRAY_HEAD_BYTES = 3


class SenderOptions(Struct, frozen=True, kw_only=True):
    """How a sender behaves; times in seconds."""

    endpoint: str
    interval_s: float
    ack_timeout_s: float
    max_in_flight: int


class Sender:
    """Moves messages from an intake to a worker. `run` is the thread's body; the counts are written by it alone."""

    def __init__(self, options: SenderOptions, producer: str, intake: Intake, notices: Notices) -> None:
        self.sent = 0
        self.acknowledged = 0
        self.accepted = 0
        self.duplicates = 0
        self.rejected = 0
        self.last_rejections: tuple[RejectedMessage, ...] = ()
        self.connections = 0
        self.protocol_errors = 0
        self.connected = False
        self.finished = False
        """Whether the thread has ended, or is about to without looking at the queue again."""
        self._options = options
        self._intake = intake
        self._notices = notices
        self._outbox = Outbox(producer)
        self._backoff = Backoff(Random())
        self._patience = Patience(options.ack_timeout_s)
        self._markers: deque[Marker] = deque()
        self._ended: deque[Event] = deque()
        self._stop_at: float | None = None
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._link: Link | None = None
        self._credit = min(FIRST_CREDIT, options.max_in_flight)
        self._retry_at = 0.0
        self._link_deadline = 0.0
        self._progress_at = 0.0
        self._next_tick = 0.0
        self._drain = False
        self._seen_full = 0

    def stop(self, deadline: float) -> None:
        """Ask the thread to end when all is acknowledged, and at `deadline` (monotonic) at the latest."""
        self._stop_at = deadline

    def wait_ended(self, timeout_s: float) -> bool:
        """Wait until the thread is done. Every caller has its own event, so that a signal handler may wait too."""
        ended = Event()
        self._ended.append(ended)
        return self.finished or ended.wait(timeout_s) or self.finished

    def run(self) -> None:
        """Work until stopped. Never raises."""
        try:
            while not self._is_over():
                try:
                    self._turn()
                except Exception as error:  # noqa: BLE001 (counted, told, and tried again: the agent must not notice)
                    self.protocol_errors += 1
                    self._notices.say("sender", f"RunLake's sender had to start over: {type(error).__name__}: {error}")
                    self._lose_link(monotonic())
        finally:
            self._end()

    def _is_over(self) -> bool:
        stop_at = self._stop_at
        if stop_at is None:
            return False
        return monotonic() >= stop_at or (not self._intake.queue and self._is_settled())

    def _is_settled(self) -> bool:
        return self._outbox.settled_through == self._outbox.sealed

    def _turn(self) -> None:
        now = monotonic()
        if now >= self._next_tick:
            self._next_tick = now + self._options.interval_s
            self._drain = True
            self._tell()
        if self._link is None and now >= self._retry_at:
            self._open_link(now)
        link = self._link
        if link is None:
            self._pass_markers()
            sleep(max(0.0, min(self._next_tick - now, self._retry_at - now, _LONGEST_WAIT_S)))
            return
        if link.state is LinkState.OPEN:
            self._send(link, now)
        self._pass_markers()
        link.wait(max(0, ceil(min(self._next_tick - monotonic(), _LONGEST_WAIT_S) * 1000)))
        self._listen(link)
        self._watch(link)

    # The link

    def _open_link(self, now: float) -> None:
        if not enough_descriptors():
            self._notices.say(
                "descriptors",
                f"RunLake does not connect while fewer than {DESCRIPTORS_NEEDED} more files can be opened (ulimit -n)",
            )
            self._retry_at = now + self._backoff.delay_s()
            return
        try:
            if self._context is None:
                self._context = zmq.Context()
            self._link = Link(self._context, self._options.endpoint)
        except zmq.ZMQError as error:
            endpoint = self._options.endpoint
            self._notices.say("endpoint", f"RunLake cannot connect to the endpoint {endpoint!r}: {error}")
            self._retry_at = now + self._backoff.delay_s()
            return
        self._link_deadline = now + CONNECT_TIMEOUT_MS / 1000

    def _watch(self, link: Link) -> None:
        """Give up a link that is lost, does not come about, or does not answer."""
        if link is not self._link:
            return
        now = monotonic()
        if link.state is LinkState.OPEN and not self.connected:
            self.connected = True
            self.connections += 1
        match link.state:
            case LinkState.LOST:
                self._lose_link(now)
            case LinkState.CONNECTING if now >= self._link_deadline:
                self._lose_link(now)
            case LinkState.OPEN if self._outbox.in_flight and now >= self._progress_at + self._patience.wait_s:
                waited = self._patience.wait_s
                self._patience.lengthen()
                self._notices.say("timeout", f"RunLake's worker did not answer for {waited:g} s; sending again")
                self._lose_link(now)

    def _lose_link(self, now: float, at_least_s: float = 0.0) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None
        self.connected = False
        self._outbox.rewind()
        self._retry_at = now + at_least_s + self._backoff.delay_s()

    # Out

    def _send(self, link: Link, now: float) -> None:
        while self._outbox.in_flight < self._credit:
            batch = self._outbox.next_waiting() or self._seal()
            if batch is None or not link.send(batch.frames):
                return
            if not self._outbox.in_flight:
                self._progress_at = now
            self._outbox.mark_sent()
            self.sent = max(self.sent, batch.first + batch.count - 1)

    def _seal(self) -> SealedBatch | None:
        """Form the next batch of what is queued, if it is due."""
        queue = self._intake.queue
        if not self._drain and len(queue) < wire.MAX_BATCH_MESSAGES:
            return None
        messages: list[bytes] = []
        size = _ARRAY_HEAD_BYTES
        while queue and len(messages) < wire.MAX_BATCH_MESSAGES:
            item = queue[0]  # it stays the first: this thread alone takes from the queue
            if isinstance(item, Marker):
                item.target = self._outbox.sealed + len(messages)
                self._markers.append(item)
            elif messages and size + len(item) > wire.MAX_BATCH_BYTES:
                break
            else:
                messages.append(item)
                size += len(item)
                self._intake.taken(len(item))
            queue.popleft()
        self._drain = self._drain and bool(queue)
        if messages:
            self._outbox.seal(messages)
        return self._outbox.next_waiting()

    # In

    def _listen(self, link: Link) -> None:
        while (frames := link.receive()) is not None:
            try:
                if len(frames) != 1:
                    raise WireError(f"An answer has {len(frames)} frames")
                reply = wire.decode_reply(frames[0])
            except WireError as error:
                self._complain(str(error))
                continue
            match reply:
                case wire.Ack():
                    self._take_ack(reply)
                case wire.Refused(batch=int(number)):
                    self._take_refusal(number, reply.reason)
                case wire.Refused():
                    self._complain(reply.reason)
                    self._lose_link(monotonic(), REFUSED_WAIT_S)
                    return

    def _take_ack(self, ack: wire.Ack) -> None:
        self._credit = max(1, min(self._options.max_in_flight, ack.credit))
        batch = self._settle(ack.batch)
        if batch is None:
            return
        self.accepted += ack.accepted
        self.duplicates += len(ack.duplicate)
        self.rejected += len(ack.rejected)
        self._remember(
            RejectedMessage(number=batch.first + rejection.index, reason=rejection.reason, field=rejection.field)
            for rejection in ack.rejected[-_MAX_REJECTIONS:]
        )

    def _take_refusal(self, number: int, reason: str) -> None:
        batch = self._settle(number)
        if batch is None:
            return
        self.rejected += batch.count
        self._remember((RejectedMessage(number=batch.first, reason=reason),))

    def _settle(self, number: int) -> SealedBatch | None:
        batch = self._outbox.settle(number)
        if batch is not None:
            self.acknowledged += batch.count
            self._progress_at = monotonic()
            self._backoff.reset()
            self._patience.reset()
        return batch

    def _remember(self, rejections: Iterable[RejectedMessage]) -> None:
        new = tuple(rejections)
        if new:
            self.last_rejections = (*self.last_rejections, *new)[-_MAX_REJECTIONS:]
            last = new[-1]
            self._notices.say("rejected", f"RunLake's worker refused message {last.number}: {last.reason}")

    def _complain(self, reason: str) -> None:
        self.protocol_errors += 1
        self._notices.say("protocol", f"RunLake's worker and this SDK do not understand each other: {reason}")

    # Those who wait

    def _pass_markers(self) -> None:
        """Free the flushes whose messages are all settled."""
        queue = self._intake.queue
        if queue and isinstance(queue[0], Marker):  # nothing before it is left to send
            marker = queue[0]
            marker.target = self._outbox.sealed
            self._markers.append(marker)
            queue.popleft()
        while self._markers and self._outbox.settled_through >= self._markers[0].target:
            marker = self._markers.popleft()
            marker.reached = True
            marker.done.set()

    def _tell(self) -> None:
        full = self._intake.dropped[QUEUE_FULL].value
        if full > self._seen_full:
            self._seen_full = full
            self._notices.say("full", f"RunLake's queue is full: {full} messages were dropped so far")
        self._notices.write()

    def _end(self) -> None:
        if self._link is not None:
            self._link.close()
        self.connected = False
        self.finished = True
        unsent = 0
        while self._intake.queue:
            item = self._intake.queue.popleft()
            if isinstance(item, Marker):
                item.target = self._outbox.sealed + unsent
                self._markers.append(item)
            else:
                unsent += 1
        lost = self._outbox.unsettled + unsent
        for _ in range(lost):
            self._intake.dropped[UNDELIVERED].add()
        for marker in self._markers:
            marker.reached = self._outbox.settled_through >= marker.target
            marker.done.set()
        if lost:
            self._notices.say("undelivered", f"RunLake's emitter was closed with {lost} messages undelivered")
        self._notices.write()
        for ended in self._ended:
            ended.set()
        if self._context is not None:
            self._context.term()
