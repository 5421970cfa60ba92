"""A lane: one worker, the connection to it, and what waits for it.

What arrives together goes out as one batch; while as many batches as the worker allows are in flight, the rest waits
and makes the next one. Order is kept as the SDK keeps it: a link that is lost or silent is closed, and the next one
starts from the oldest unacknowledged batch, with the same bytes. Each lane is a producer of its own, so that a worker's
books have every number of it.

A batch that the worker says is not its own was not taken, and neither is any after it that was sent by the same list:
their messages go back to where they were, and their numbers to the messages that come next.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from random import Random
from typing import Protocol
from uuid import UUID

import zmq
from msgspec import UNSET, Struct

from runlake import wire
from runlake.backoff import Backoff
from runlake.curve import ClientKeys
from runlake.errors import WireError
from runlake.link import CONNECT_TIMEOUT_MS, DESCRIPTORS_NEEDED, Link, LinkState, enough_descriptors
from runlake.logs import Log
from runlake_query.delivery import IngestUnreachable, OutcomeUnknown, Parcel, Waiting
from runlake_query.positions import Positions

FIRST_CREDIT = 4
_AHEAD = 2
"""Batches in flight: one that the worker makes durable, and one that it has for its next group. What comes meanwhile
makes the next batch: more in flight would be acknowledged no sooner, and cost both sides more."""
MAX_QUEUED = 20_000
"""Messages that wait for one worker."""
_LONGEST_BACKOFF_S = 0.5
_REFUSED_PAUSE_S = 0.05
"""After a batch was not the worker's by a list that is not newer than ours: it has to hear of ours."""


class Owner(Protocol):
    """Who has the lanes. Everything is called on the event loop, from a lane's turn."""

    def context(self) -> zmq.Context[zmq.Socket[bytes]]:
        """The context of all lanes. Raises zmq.ZMQError."""

    def acked(self, ack: wire.Ack, messages: Sequence[Waiting]) -> None:
        """A batch is durable; these are its messages, which are to be settled."""

    def listed(self, lane: Lane, workers: wire.Workers) -> None:
        """A worker has told the list."""

    def at_rest(self, lane: Lane) -> None:
        """Nothing of the lane is in flight any more, while it is held."""


class _Batch(Struct):
    """A batch as it goes out, every time."""

    number: int
    first: int
    frames: list[bytes]
    messages: list[Waiting]
    sent: bool = False


class Lane:
    """On the event loop. `turn` it regularly, `close` it once. Times in seconds, by the loop's clock."""

    def __init__(
        self,
        owner: Owner,
        endpoints: Sequence[str],
        producer: str,
        log: Log,
        *,
        timeout_s: float,
        clock: Callable[[], float],
        keys: ClientKeys | None = None,
        worker: UUID | None = None,
    ) -> None:
        """`endpoints`: where the worker is, or where to ask one after the other. `worker`: whose lane it is, where a
        list says so."""
        self.worker = worker
        self.held = False
        """Nothing is sent while the list of workers changes."""
        self.reason = "it has not been tried yet"
        """Why it is not connected."""
        self.opened = asyncio.Event()
        self._owner = owner
        self._endpoints = tuple(endpoints)
        self._at = 0
        self._producer = producer
        self._log = log
        self._timeout_s = timeout_s
        self._clock = clock
        self._keys = keys
        self._backoff = Backoff(Random(), longest_s=_LONGEST_BACKOFF_S)
        self._version = 0
        self._agreed = True
        """Whether the worker has taken something by this version of the list: until then only one batch is in flight,
        so that none is taken behind one that was refused, when the worker learns of the list in between."""
        self._queue: deque[Waiting] = deque()
        self._batches: deque[_Batch] = deque()
        self._next_batch = 1
        self._next_message = 1
        self._refused: int | None = None
        """The first batch that was not taken, until nothing is in flight any more."""
        self._asked: deque[asyncio.Future[wire.Position | None]] = deque()
        self._credit = FIRST_CREDIT
        self._link: Link | None = None
        self._greeted = False
        self._watched: tuple[int, ...] = ()
        self._retry_at = 0.0
        self._send_at = 0.0
        self._link_deadline = 0.0
        self._progress_at = 0.0
        self._told = False
        self._turn_due = False

    @property
    def endpoint(self) -> str:
        """Where it connects to now."""
        return self._endpoints[self._at]

    @property
    def connected(self) -> bool:
        """Whether the worker's socket is there. It may have gone a moment ago."""
        return self._link is not None and self._link.state is LinkState.OPEN

    @property
    def full(self) -> bool:
        """Whether no more may wait for it."""
        return len(self._queue) >= MAX_QUEUED

    @property
    def in_flight(self) -> int:
        """How many batches are sent and not settled."""
        return sum(batch.sent for batch in self._batches)

    def belongs_to(self, worker: UUID, endpoint: str, version: int) -> None:
        """It is this worker's, by this version of the list; 0 where there is no other one."""
        self.worker = worker
        self._endpoints, self._at = (endpoint,), 0
        self._version = version
        self._agreed = not version

    def add(self, waiting: Waiting) -> None:
        """Have a message sent. Ask whether it is `full` before."""
        self._queue.append(waiting)

    def take_back(self) -> list[Waiting]:
        """All that is not acknowledged, in order; their numbers go to what is sent next."""
        taken = [waiting for batch in self._batches for waiting in batch.messages]
        taken += self._queue
        if self._batches:
            self._next_message = self._batches[0].first
        self._batches.clear()
        self._queue.clear()
        self._refused = None
        return taken

    def give_up_unsent(self, parcel: Parcel, name: UUID | None) -> None:
        """Take back what was not sent yet of a request: nothing of that was stored. `name`: what to call the worker."""
        kept: deque[Waiting] = deque()
        for waiting in self._queue:
            if waiting.parcel is parcel:
                parcel.settle(waiting.index, IngestUnreachable(self.reason, name))
            else:
                kept.append(waiting)
        self._queue = kept

    async def position(self, timeout_s: float) -> wire.Position | None:
        """How far the worker is, asked now; None when it does not answer in time, and at once when it is away."""
        link = self._link
        if link is None or link.state is LinkState.LOST or not link.send([wire.encode_frame(wire.PositionRequest())]):
            return None
        future: asyncio.Future[wire.Position | None] = asyncio.get_running_loop().create_future()
        self._asked.append(future)
        self.turn_soon()
        timer = asyncio.get_running_loop().call_later(timeout_s, _settle, future, None)
        try:
            return await future
        finally:
            timer.cancel()

    def ask_list(self) -> None:
        """Have the worker tell the list."""
        if self.connected and self._link is not None:
            self._link.send([wire.encode_frame(wire.WorkersRequest())])

    def close(self) -> None:
        """Let go of the connection. What waits stays, to be taken back. Idempotent."""
        self._drop_link()

    # The loop

    def send_soon(self) -> None:
        """Something was added. While no batch more may be in flight, an ack makes room and is a turn of its own."""
        if self._has_room():
            self.turn_soon()

    def turn_soon(self) -> None:
        """Take a turn after whatever else is ready now, so that what arrives together leaves together."""
        if not self._turn_due:
            self._turn_due = True
            asyncio.get_running_loop().call_soon(self.turn)

    def turn(self) -> None:
        """Take in what has come, send what may be sent, and see that there is a connection."""
        self._turn_due = False
        now = self._clock()
        if self._link is None and now >= self._retry_at:
            self._open(now)
        link = self._link
        if link is not None:
            try:
                self._listen(link)
                while link.state is LinkState.OPEN and link is self._link and self._send(link, now):
                    self._listen(link)  # the descriptor is edge-triggered: what came during the send would go unnoticed
            except zmq.ZMQError as error:
                self._lose(str(error))
            else:
                self._watch(link, now)
        if self.held and not self.in_flight:
            self._owner.at_rest(self)

    def _open(self, now: float) -> None:
        if not enough_descriptors():
            self._lose(f"fewer than {DESCRIPTORS_NEEDED} more files can be opened here: ulimit -n")
            return
        try:
            self._link = Link(self._owner.context(), self.endpoint, self._keys)
        except zmq.ZMQError as error:
            self._lose(str(error))
            return
        self._link_deadline = now + CONNECT_TIMEOUT_MS / 1000
        self._greeted = False
        self._watched = self._link.descriptors
        loop = asyncio.get_running_loop()
        for descriptor in self._watched:
            loop.add_reader(descriptor, self.turn_soon)

    def _watch(self, link: Link, now: float) -> None:
        if link is not self._link:
            return
        match link.state:
            case LinkState.LOST:
                self._lose(link.refusal or "nothing answers at its address")
            case LinkState.CONNECTING if now >= self._link_deadline:
                self._lose(f"no connection in {CONNECT_TIMEOUT_MS / 1000:g} s")
            case LinkState.OPEN if self.in_flight and now >= self._progress_at + self._timeout_s:
                self._lose(f"it did not answer for {self._timeout_s:g} s")
            case LinkState.OPEN if self._told:
                self._told = False
                self._log.info("ingest_reached", endpoint=self.endpoint)

    def _lose(self, reason: str) -> None:
        self.reason = reason
        if not self._told:
            self._told = True
            self._log.warning("ingest_unreachable", endpoint=self.endpoint, reason=reason)
        self._drop_link()
        for batch in self._batches:
            batch.sent = False
        self._dissolve_refused()
        self._at = (self._at + 1) % len(self._endpoints)
        self._retry_at = self._clock() + self._backoff.delay_s()

    def _drop_link(self) -> None:
        self.opened.clear()
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
        if not self._greeted:
            self._greeted = link.send([wire.encode_frame(wire.WorkersRequest())])
            self.opened.set()
        sent = False
        while self._has_room() and now >= self._send_at:
            batch = next((batch for batch in self._batches if not batch.sent), None) or self._seal()
            if batch is None or not link.send(batch.frames):
                break
            if not self.in_flight:
                self._progress_at = now
            batch.sent = sent = True
        return sent

    def _has_room(self) -> bool:
        """Whether one batch more may be in flight."""
        most = min(self._credit, _AHEAD) if self._agreed else 1
        return not self.held and self._refused is None and self.in_flight < most

    def _seal(self) -> _Batch | None:
        """Make a batch of what waits; None when nothing does."""
        messages: list[Waiting] = []
        size = 0
        while self._queue and len(messages) < wire.MAX_BATCH_MESSAGES:
            size += len(self._queue[0].encoded)
            if messages and size > wire.MAX_BATCH_BYTES:
                break
            messages.append(self._queue.popleft())
        if not messages:
            return None
        searched = _least_searched(messages)
        header = wire.Batch(
            producer=self._producer,
            batch=self._next_batch,
            first=self._next_message,
            count=len(messages),
            searched=UNSET if searched is None else searched,
            list_version=self._version,
        )
        frames = [wire.encode_frame(header), wire.encode_payload([waiting.encoded for waiting in messages])]
        batch = _Batch(header.batch, header.first, frames, messages)
        self._batches.append(batch)
        self._next_batch += 1
        self._next_message += header.count
        return batch

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
                    self.worker = reply.worker
                    if self._asked:
                        _settle(self._asked.popleft(), reply)
                case wire.Workers():
                    self._owner.listed(self, reply)
                case wire.NotMine():
                    self._take_refusal(reply)
                case wire.Refused(batch=int(number)):
                    self._log.error("batch_refused", reason=reply.reason)
                    self._settle_all(number)
                case wire.Refused() if "workers?" not in reply.reason:  # a worker of before the lists knows no such
                    self._lose(reply.reason)

    def _take_ack(self, ack: wire.Ack) -> None:
        self._credit = max(1, ack.credit)
        batch = self._taken(ack.batch)
        if batch is None:
            return
        self.worker = ack.worker
        self._agreed = True
        self._progress_at = self._clock()
        self._backoff.reset()
        self._owner.acked(ack, batch.messages)
        self._dissolve_refused()

    def _take_refusal(self, refusal: wire.NotMine) -> None:
        """Nothing was taken of a batch, nor of any that follows it."""
        batch = next((batch for batch in self._batches if batch.sent and batch.number == refusal.batch), None)
        if batch is not None:
            self._progress_at = self._clock()
            batch.sent = False
            self._refused = min(self._refused or batch.number, batch.number)
            self._send_at = self._progress_at + _REFUSED_PAUSE_S
        self._owner.listed(self, refusal.workers)
        self._dissolve_refused()

    def _dissolve_refused(self) -> None:
        """Once nothing is in flight: put back what was not taken, as if it had never been a batch."""
        if self._refused is None or self.in_flight:
            return
        refused = [batch for batch in self._batches if batch.number >= self._refused]
        for batch in reversed(refused):
            self._batches.remove(batch)
            self._queue.extendleft(reversed(batch.messages))
            self._next_message = batch.first
        self._refused = None

    def _settle_all(self, number: int) -> None:
        batch = self._taken(number)
        for waiting in batch.messages if batch is not None else ():
            waiting.parcel.settle(waiting.index, OutcomeUnknown())

    def _taken(self, number: int) -> _Batch | None:
        """Take a batch out of the books. None when it is not in flight: an answer given twice, or to no question."""
        for batch in self._batches:
            if batch.sent and batch.number == number:
                self._batches.remove(batch)
                return batch
        return None


def _settle(future: asyncio.Future[wire.Position | None], result: wire.Position | None) -> None:
    if not future.done():
        future.set_result(result)


def _least_searched(batch: Sequence[Waiting]) -> dict[str, int] | None:
    """Up to where the log was searched for the ids of every start in a batch; None when there is none in it."""
    found: Positions | None = None
    for waiting in batch:
        searched = waiting.searched
        if searched is None or searched is found:
            continue
        found = searched if found is None else {key: min(seq, searched.get(key, 0)) for key, seq in found.items()}
    return None if found is None else {str(worker): seq for worker, seq in found.items()}
