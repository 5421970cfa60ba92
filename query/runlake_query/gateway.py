"""The gateway: this process as one more producer. HTTP writes become messages, and are answered after their ack.

One DEALER connection, on the event loop. What arrives together goes out as one batch; while as many batches as the
worker allows are in flight, the rest waits and makes the next one. Order is kept as the SDK keeps it (`link.py`,
`outbox.py`): a link that is lost or silent is closed, and the next one starts from the oldest unacknowledged batch.

There is no spool. A message that could not be sent in time is taken back, and its sender is told that nothing was
stored. One that was sent and not acknowledged in time may be stored or not: its sender is told so, and the batch stays
in the books, to be sent again when the worker is back, so that the producer's numbering has no gap.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime
from random import Random
from time import monotonic
from uuid import UUID

import zmq
from msgspec import Struct

from runlake import wire
from runlake.backoff import Backoff
from runlake.errors import WireError
from runlake.link import CONNECT_TIMEOUT_MS, DESCRIPTORS_NEEDED, Link, LinkState, enough_descriptors
from runlake.logs import Log
from runlake.outbox import Outbox
from runlake_query.ownwrites import OwnWrites
from runlake_query.positions import Positions
from runlake_query.problems import NotReady

FIRST_CREDIT = 4
ACK_TIMEOUT_S = 10.0
CONNECT_S = 2.0
"""How long a message waits for a worker that is away: it may be starting again."""
_TICK_S = 0.1
_AHEAD = 2
"""Batches in flight: one that the worker makes durable, and one that it has for its next group. What comes meanwhile
makes the next batch: more in flight would be acknowledged no sooner, and cost both sides more."""
_MAX_QUEUED = 20_000
_LONGEST_BACKOFF_S = 0.5


class IngestUnreachable(NotReady):
    """Nothing was sent: try again."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"The ingest worker cannot be reached ({reason}). Nothing was stored; try again.")


class OutcomeUnknown(NotReady):
    """It was sent, and no answer came: try again with the same id."""

    def __init__(self) -> None:
        super().__init__(
            "The ingest worker did not answer in time: the outcome is unknown. Retrying with the same event_id, or with"
            " the same Idempotency-Key, is safe."
        )


class Delivered(Struct, frozen=True):
    """What became of one message. `seq` is its position; of a duplicate, one at or after that of its original."""

    worker: UUID
    seq: int
    received_at: datetime
    duplicate: bool = False
    reason: str = ""
    """Why the worker refused it; empty when it did not."""
    field: str | None = None
    before: int = 0
    """Where the last change of the same run is that was sent from here before it; 0 when none is known."""


class _Parcel:
    """The messages of one `deliver`, and who waits until the last of them is settled."""

    def __init__(self, size: int) -> None:
        self.outcomes: list[Delivered | None] = [None] * size
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.timer: asyncio.TimerHandle | None = None
        self._left = size
        self._error: Exception | None = None

    def settle(self, index: int, outcome: Delivered | None, error: Exception | None = None) -> None:
        """What became of one message; an error is told when the last one is settled."""
        self.outcomes[index] = outcome
        self._error = self._error or error
        self._left -= 1
        if not self._left:
            self.end(self._error)

    def end(self, error: Exception | None) -> None:
        """Wake who waits, unless nobody does any more."""
        if self.future.done():
            return
        if error is None:
            self.future.set_result(None)
        else:
            self.future.set_exception(error)


class _Waiting(Struct):
    """One message and whose it is."""

    encoded: bytes
    parcel: _Parcel
    index: int
    searched: Positions | None
    changes: UUID | None


class Gateway:
    """Everything here runs on the event loop. `start` and `close` it once. Times in seconds."""

    def __init__(
        self,
        endpoint: str,
        producer: str,
        log: Log,
        *,
        timeout_s: float = ACK_TIMEOUT_S,
        connect_s: float = CONNECT_S,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.producer = producer
        self.acknowledged: dict[UUID, int] = {}
        """The last position of each worker that this process was told of by an ack."""
        self.own = OwnWrites()
        self._endpoint = endpoint
        self._log = log
        self._timeout_s = timeout_s
        self._connect_s = connect_s
        self._clock = clock
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._outbox = Outbox(producer)
        self._backoff = Backoff(Random(), longest_s=_LONGEST_BACKOFF_S)
        self._queue: deque[_Waiting] = deque()
        self._sealed: dict[int, list[_Waiting]] = {}
        self._asked: deque[asyncio.Future[wire.Position | None]] = deque()
        self._credit = FIRST_CREDIT
        self._link: Link | None = None
        self._watched: tuple[int, ...] = ()
        self._reason = "it has not been tried yet"
        self._retry_at = 0.0
        self._link_deadline = 0.0
        self._progress_at = 0.0
        self._told = False
        self._turn_due = False
        self._ticking: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        """Whether the worker's socket is there. It may have gone a moment ago."""
        return self._link is not None and self._link.state is LinkState.OPEN

    def start(self) -> None:
        """Connect, and keep the connection from now on."""
        self._ticking = asyncio.get_running_loop().create_task(self._tick(), name="gateway")
        self._turn_soon()

    async def close(self) -> None:
        """End. Who still waits is told that the outcome is unknown."""
        if self._ticking is not None:
            self._ticking.cancel()
            await asyncio.gather(self._ticking, return_exceptions=True)
            self._ticking = None
        self._drop_link()
        for waiting in (*self._queue, *(one for batch in self._sealed.values() for one in batch)):
            waiting.parcel.end(OutcomeUnknown())
        self._queue.clear()
        if self._context is not None:
            self._context.destroy(linger=0)
            self._context = None

    async def deliver(
        self, messages: Sequence[bytes], searched: Positions | None = None, changes: UUID | None = None
    ) -> list[Delivered]:
        """Have the worker take these messages, in order; returns what became of each, once all are durable.

        `searched` goes with starts of runs: up to where the log was searched for their ids. `changes` is the run that
        they change. Raises IngestUnreachable when none was sent, OutcomeUnknown when some were and no answer came in
        time.
        """
        if len(self._queue) + len(messages) > _MAX_QUEUED:
            raise IngestUnreachable("too much waits for it")
        if not messages:
            return []
        parcel = _Parcel(len(messages))
        self._queue.extend(
            _Waiting(message, parcel, index, searched, changes) for index, message in enumerate(messages)
        )
        if self._has_room():  # else an ack makes it, and is a turn of its own
            self._turn_soon()
        parcel.timer = asyncio.get_running_loop().call_later(self._connect_s, self._not_yet, parcel)
        try:
            await parcel.future
            return [outcome for outcome in parcel.outcomes if outcome is not None]
        finally:  # who wrote may be gone: what becomes of these, nobody asks
            parcel.timer.cancel()
            if parcel.future.done() and not parcel.future.cancelled():
                parcel.future.exception()

    async def position(self, timeout_s: float) -> wire.Position | None:
        """How far the worker is, asked now; None when it does not answer in time, and at once when it is away."""
        link = self._link
        if link is None or link.state is LinkState.LOST or not link.send([wire.encode_frame(wire.PositionRequest())]):
            return None
        future: asyncio.Future[wire.Position | None] = asyncio.get_running_loop().create_future()
        self._asked.append(future)
        self._turn_soon()
        timer = asyncio.get_running_loop().call_later(timeout_s, _settle, future, None)
        try:
            return await future
        finally:
            timer.cancel()

    # The loop

    def _turn_soon(self) -> None:
        """Take a turn after whatever else is ready now, so that what arrives together leaves together."""
        if not self._turn_due:
            self._turn_due = True
            asyncio.get_running_loop().call_soon(self._turn)

    async def _tick(self) -> None:
        while True:
            self._turn()
            await asyncio.sleep(_TICK_S)

    def _turn(self) -> None:
        self._turn_due = False
        now = self._clock()
        if self._link is None and now >= self._retry_at:
            self._open(now)
        link = self._link
        if link is None:
            return
        try:
            self._listen(link)
            while link.state is LinkState.OPEN and link is self._link and self._send(link, now):
                self._listen(link)  # the descriptor is edge-triggered: what came during the send would go unnoticed
        except zmq.ZMQError as error:
            self._lose(str(error))
            return
        self._watch(link, now)

    def _open(self, now: float) -> None:
        if not enough_descriptors():
            self._lose(f"fewer than {DESCRIPTORS_NEEDED} more files can be opened here: ulimit -n")
            return
        try:
            if self._context is None:
                self._context = zmq.Context()
            self._link = Link(self._context, self._endpoint)
        except zmq.ZMQError as error:
            self._lose(str(error))
            return
        self._link_deadline = now + CONNECT_TIMEOUT_MS / 1000
        self._watched = self._link.descriptors
        loop = asyncio.get_running_loop()
        for descriptor in self._watched:
            loop.add_reader(descriptor, self._turn_soon)

    def _watch(self, link: Link, now: float) -> None:
        if link is not self._link:
            return
        match link.state:
            case LinkState.LOST:
                self._lose("nothing answers at its address")
            case LinkState.CONNECTING if now >= self._link_deadline:
                self._lose(f"no connection in {CONNECT_TIMEOUT_MS / 1000:g} s")
            case LinkState.OPEN if self._outbox.in_flight and now >= self._progress_at + self._timeout_s:
                self._lose(f"it did not answer for {self._timeout_s:g} s")
            case LinkState.OPEN if self._told:
                self._told = False
                self._log.info("ingest_reached", endpoint=self._endpoint)

    def _lose(self, reason: str) -> None:
        self._reason = reason
        if not self._told:
            self._told = True
            self._log.warning("ingest_unreachable", endpoint=self._endpoint, reason=reason)
        self._drop_link()
        self._outbox.rewind()
        self._retry_at = self._clock() + self._backoff.delay_s()

    def _drop_link(self) -> None:
        if self._link is None:
            return
        loop = asyncio.get_running_loop()
        for descriptor in self._watched:
            loop.remove_reader(descriptor)
        self._watched = ()
        self._link.close()
        self._link = None
        while self._asked:
            _settle(self._asked.popleft(), None)

    # Out

    def _send(self, link: Link, now: float) -> bool:
        """Send what may be sent; whether there was something."""
        sent = False
        while self._has_room():
            batch = self._outbox.next_waiting()
            if batch is None:
                self._seal()
                batch = self._outbox.next_waiting()
            if batch is None or not link.send(batch.frames):
                break
            sent = True
            if not self._outbox.in_flight:
                self._progress_at = now
            self._outbox.mark_sent()
        return sent

    def _has_room(self) -> bool:
        """Whether one batch more may be in flight."""
        return self._outbox.in_flight < min(self._credit, _AHEAD)

    def _seal(self) -> None:
        batch: list[_Waiting] = []
        size = 0
        while self._queue and len(batch) < wire.MAX_BATCH_MESSAGES:
            size += len(self._queue[0].encoded)
            if batch and size > wire.MAX_BATCH_BYTES:
                break
            batch.append(self._queue.popleft())
        if batch:
            self._outbox.seal([waiting.encoded for waiting in batch], _least_searched(batch))
            sealed = self._outbox.next_waiting()
            assert sealed is not None
            self._sealed[sealed.number] = batch

    def _not_yet(self, parcel: _Parcel) -> None:
        """It has waited for as long as a connection may take."""
        if not self.connected:
            self._give_up_unsent(parcel)
        rest = max(0.0, self._timeout_s - self._connect_s)
        parcel.timer = asyncio.get_running_loop().call_later(rest, self._too_late, parcel)

    def _too_late(self, parcel: _Parcel) -> None:
        self._give_up_unsent(parcel)
        parcel.end(OutcomeUnknown())

    def _give_up_unsent(self, parcel: _Parcel) -> None:
        """Take back what was not sent yet: IngestUnreachable when that is all of it, OutcomeUnknown when it is some."""
        before = len(self._queue)
        self._queue = deque(one for one in self._queue if one.parcel is not parcel)
        unsent = before - len(self._queue)
        if unsent == len(parcel.outcomes):
            parcel.end(IngestUnreachable(self._reason))
        elif unsent:
            parcel.end(OutcomeUnknown())

    # In

    def _listen(self, link: Link) -> None:
        while link is self._link and link.wait(0) and (frames := link.receive()) is not None:
            try:
                reply = wire.decode_reply(frames[-1])
            except WireError as error:
                self._lose(str(error))
                return
            match reply:
                case wire.Ack():
                    self._take_ack(reply)
                case wire.Position():
                    if self._asked:
                        _settle(self._asked.popleft(), reply)
                case wire.Refused(batch=int(number)):
                    self._settle_all(number, OutcomeUnknown())
                    self._log.error("batch_refused", reason=reply.reason)
                case wire.Refused():
                    self._lose(reply.reason)

    def _take_ack(self, ack: wire.Ack) -> None:
        self._credit = max(1, ack.credit)
        batch = self._outbox.settle(ack.batch)
        if batch is None:
            return
        self._progress_at = self._clock()
        self._backoff.reset()
        last = ack.first_seq + ack.accepted - 1
        self.acknowledged[ack.worker] = max(self.acknowledged.get(ack.worker, 0), last)
        self.own.accepted(ack.worker, ack.first_seq, ack.accepted)
        duplicate = set(ack.duplicate)
        rejected = {rejection.index: rejection for rejection in ack.rejected}
        seq = ack.first_seq
        for index, waiting in enumerate(self._sealed.pop(ack.batch, ())):
            if index in duplicate:
                outcome = Delivered(ack.worker, last, ack.received_at, duplicate=True)
            elif index in rejected:
                refusal = rejected[index]
                outcome = Delivered(ack.worker, last, ack.received_at, reason=refusal.reason, field=refusal.field)
            else:
                before = self.own.changed(waiting.changes, ack.worker, seq) if waiting.changes is not None else 0
                outcome = Delivered(ack.worker, seq, ack.received_at, before=before)
                seq += 1
            waiting.parcel.settle(waiting.index, outcome)

    def _settle_all(self, number: int, error: Exception) -> None:
        self._outbox.settle(number)
        for waiting in self._sealed.pop(number, ()):
            waiting.parcel.settle(waiting.index, None, error)


def _settle(future: asyncio.Future[wire.Position | None], result: wire.Position | None) -> None:
    if not future.done():
        future.set_result(result)


def _least_searched(batch: Sequence[_Waiting]) -> dict[str, int] | None:
    """Up to where the log was searched for the ids of every start in a batch; None when there is none in it."""
    found: Positions | None = None
    for waiting in batch:
        searched = waiting.searched
        if searched is None or searched is found:
            continue
        found = searched if found is None else {key: min(seq, searched.get(key, 0)) for key, seq in found.items()}
    return None if found is None else {str(worker): seq for worker, seq in found.items()}
