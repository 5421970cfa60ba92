"""The background thread of an emitter: it owns the socket, and everything that waits does so here.

One turn of its loop: open a link if there is none and the backoff is over; send what waits, as far as the credit goes;
form new batches; wait for answers. It is not woken by `emit`, which must not make a system call: every `interval_s` it
takes what is queued, and in between it looks whether that fills a batch, after every answer and at least every 20 ms.

A link is given up when its connection is lost or not made in time, when no answer came for `ack_timeout_s` while
batches were in flight, and when the worker says that it does not understand. The next one starts from the oldest
unacknowledged batch.

Behind its own messages it delivers the spools that other processes left behind (`adoption.py`).

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
from runlake.adoption import FIRST_BATCH, Adoption
from runlake.backoff import Backoff, Patience
from runlake.errors import WireError
from runlake.intake import DISPLACED, QUEUE_FULL, SPOOL_FULL, UNDELIVERED, Intake
from runlake.link import CONNECT_TIMEOUT_MS, DESCRIPTORS_NEEDED, Link, LinkState, enough_descriptors
from runlake.notices import Notices
from runlake.outbox import SealedBatch
from runlake.spoolreader import Reader
from runlake.spoolsegment import Segment
from runlake.stats import RejectedMessage
from runlake.stream import Stream
from runlake.stretch import Stretch
from runlake.waiter import Waiter

FIRST_CREDIT = 4
"""Batches in flight before a worker's first answer says how many it allows."""
REFUSED_WAIT_S = 60.0
"""Before the next link to a worker that does not understand: it, or the agent, has to be replaced first."""
_MAX_REJECTIONS = 16
_LONGEST_WAIT_S = 0.02
_ADOPTED_IN_FLIGHT = 2
"""Batches of others in flight: they come behind."""
_MEASURE_EVERY_S = 60.0


class SenderOptions(Struct, frozen=True, kw_only=True):
    """How a sender behaves; times in seconds."""

    endpoint: str
    interval_s: float
    ack_timeout_s: float
    max_in_flight: int
    drop_oldest: bool = False


class Sender:
    """Moves messages from an intake to a worker. `run` is the thread's body; the counts are written by it alone."""

    def __init__(
        self,
        options: SenderOptions,
        producer: str,
        start: Stretch,
        intake: Intake,
        notices: Notices,
        adoption: Adoption | None = None,
    ) -> None:
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
        self.displaced = 0
        """Messages that were given up for newer ones."""
        self.ended_at = 0
        """The position after all that was emitted before it ended."""
        self.left = 0
        """Messages that were left in the spool when it ended."""
        self._options = options
        self._intake = intake
        self._notices = notices
        self._own = Stream(producer, Reader(start, 1, self._let_go))
        self.adoption = adoption
        self._backoff = Backoff(Random())
        self._patience = Patience(options.ack_timeout_s)
        self._waiters: deque[Waiter] = deque()
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
        self._sent_batch = 0
        self._measure_at = 0.0
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

    def wait_for(self, waiter: Waiter) -> None:
        """Have the waiter told when all before its target is acknowledged. From any thread."""
        self._waiters.append(waiter)

    def abandon(self) -> None:
        """Let go of what is the parent's. Called in a forked child, where this sender has no thread."""
        self._own.reader.let_go()
        if self.adoption is not None:
            self.adoption.abandon()

    def _is_over(self) -> bool:
        stop_at = self._stop_at
        return stop_at is not None and (monotonic() >= stop_at or self._own.is_settled)

    def _turn(self) -> None:
        now = monotonic()
        if now >= self._next_tick:
            self._next_tick = now + self._options.interval_s
            self._drain = True
            self._keep_house(now)
        if self._link is None and now >= self._retry_at:
            self._open_link(now)
        link = self._link
        if link is None:
            self._free_waiters()
            sleep(max(0.0, min(self._next_tick - now, self._retry_at - now, _LONGEST_WAIT_S)))
            return
        if link.state is LinkState.OPEN:
            self._send(link, now)
        self._free_waiters()
        link.wait(max(0, ceil(min(self._next_tick - monotonic(), _LONGEST_WAIT_S) * 1000)))
        self._listen(link)
        self._watch(link)

    def _keep_house(self, now: float) -> None:
        self._tell()
        if now >= self._measure_at:
            self._measure_others()
        if self._intake.wants_room and self._options.drop_oldest:
            given_up = self._own.reader.give_up_oldest()
            self.displaced += given_up
            for _ in range(given_up):
                self._intake.dropped[DISPLACED].add()
            self._own.trim()
        if self._intake.wants_room and self._own.is_settled:
            self._intake.begin_anew()
        self._intake.prepare(self._measure_others)
        if self.adoption is not None and self.connected and self._stop_at is None:
            self.adoption.advance(now)

    def _measure_others(self) -> None:
        spool = self._intake.spool
        if spool is not None and self.adoption is not None:
            spool.others_bytes = self.adoption.others_bytes(spool.folder)
        self._measure_at = monotonic() + _MEASURE_EVERY_S

    def _let_go(self, stretch: Stretch) -> None:
        if isinstance(stretch, Segment) and self._intake.spool is not None:
            self._intake.spool.forget(stretch)
            self._intake.room_was_made()

    # The link

    def _open_link(self, now: float) -> None:
        if not enough_descriptors():
            self._notices.say(
                "descriptors",
                f"RunLake does not connect while fewer than {DESCRIPTORS_NEEDED} more files can be opened (ulimit -n)",
            )
            self._retry_at = now + self._backoff.delay_s()
            return
        if "," in self._options.endpoint:
            self._notices.say(
                "endpoint",
                f"RunLake delivers to one worker; several endpoints ({self._options.endpoint}) are not supported yet."
                " What is emitted waits; set RUNLAKE_INGEST to one of them",
            )
            self._retry_at = now + REFUSED_WAIT_S
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
            case LinkState.OPEN if self._in_flight and now >= self._progress_at + self._patience.wait_s:
                waited = self._patience.wait_s
                self._patience.lengthen()
                self._notices.say("timeout", f"RunLake's worker did not answer for {waited:g} s; sending again")
                self._lose_link(now)

    def _lose_link(self, now: float, at_least_s: float = 0.0) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None
        self.connected = False
        for stream in self._streams:
            stream.outbox.rewind()
        self._retry_at = now + at_least_s + self._backoff.delay_s()

    # Out

    def _send(self, link: Link, now: float) -> None:
        while self._in_flight < self._credit:
            stream, batch = self._own, self._seal()
            if batch is None and self.adoption is not None and self.adoption.stream is not None:
                stream = self.adoption.stream
                if stream.outbox.in_flight < _ADOPTED_IN_FLIGHT:
                    batch = self.adoption.next_batch()
            if batch is None or not link.send(batch.frames):
                return
            if not self._in_flight:
                self._progress_at = now
            stream.outbox.mark_sent()
            if stream is self._own:
                self._own_sent(batch)

    def _own_sent(self, batch: SealedBatch) -> None:
        if batch.number > self._sent_batch:  # else it was sent before
            self._sent_batch = batch.number
            self.sent += batch.count

    def _seal(self) -> SealedBatch | None:
        """The next batch of this process's own; formed of what waits, if it is due."""
        batch = self._own.outbox.next_waiting()
        if batch is None and (self._drain or self._own.reader.fills_a_batch):
            batch = self._own.next_batch()
            self._drain = self._drain and self._own.reader.pending
        return batch

    @property
    def _streams(self) -> tuple[Stream, ...]:
        adopted = self.adoption.stream if self.adoption is not None else None
        return (self._own,) if adopted is None else (self._own, adopted)

    @property
    def _in_flight(self) -> int:
        return sum(stream.outbox.in_flight for stream in self._streams)

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
        if batch.number < FIRST_BATCH:
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
        if batch.number < FIRST_BATCH:
            self.rejected += batch.count
        self._remember((RejectedMessage(number=batch.first, reason=reason),))

    def _settle(self, number: int) -> SealedBatch | None:
        batch: SealedBatch | None = None
        if number < FIRST_BATCH:
            batch = self._own.settle(number)
            if batch is not None:
                self.acknowledged += batch.count
        elif self.adoption is not None:
            batch = self.adoption.settle(number)
            if batch is not None:
                self.adoption.advance(monotonic())
        if batch is not None:
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

    def _free_waiters(self) -> None:
        """Tell those whose messages are all settled."""
        waiting = len(self._waiters)  # before looking: who comes now may wait for something newer
        if not waiting:
            return
        everything, settled = self._own.is_settled, self._own.settled
        for _ in range(waiting):
            waiter = self._waiters.popleft()
            if waiter.gave_up:
                continue
            if everything or settled >= waiter.target:
                waiter.tell(True)
            else:
                self._waiters.append(waiter)

    def _tell(self) -> None:
        full = self._intake.dropped[QUEUE_FULL].value + self._intake.dropped[SPOOL_FULL].value
        full += self._intake.dropped[DISPLACED].value
        if full > self._seen_full:
            self._seen_full = full
            where = "spool" if self._intake.spool is not None else "queue"
            self._notices.say("full", f"RunLake's {where} is full: {full} messages were dropped so far")
        self._notices.write()

    # The end

    def _end(self) -> None:
        if self._link is not None:
            self._link.close()
        self.connected = False
        self.finished = True
        if self.adoption is not None:
            self.adoption.close()
        try:
            self._leave_rest()
        except Exception as error:  # noqa: BLE001 (told: what is in the spool stays there)
            self._notices.say("sender", f"RunLake's spool could not be closed: {type(error).__name__}: {error}")
        self._notices.write()
        waiters, self._waiters = self._waiters, deque()
        settled = self._own.settled
        for waiter in waiters:
            waiter.tell(not self.left and settled >= waiter.target)
        for ended in self._ended:
            ended.set()
        if self._context is not None:
            self._context.term()

    def _leave_rest(self) -> None:
        """Count what is not delivered: in memory it is lost, in the spool it is left to another process."""
        own, intake = self._own, self._intake
        home = intake.spool.detach() if intake.spool is not None else None  # who emits later finds another folder
        intake.seal()
        self.ended_at = intake.end
        settled = own.settled
        lost = own.outbox.unsettled_volatile(own.reader.given_up_to)
        self.left = own.outbox.unsettled - lost
        while (taken := own.reader.take(10_000, 1 << 20)) is not None:
            if taken.volatile:
                lost += len(taken.messages)
            else:
                self.left += len(taken.messages)
        for _ in range(lost):
            intake.dropped[UNDELIVERED].add()
        if lost:
            self._notices.say("undelivered", f"RunLake's emitter was closed with {lost} messages undelivered")
        own.reader.leave(settled, self.left == 0)
        if intake.spool is not None:
            intake.spool.first = own.reader.number
            intake.spool.release(home)
