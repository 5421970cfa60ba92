"""One worker's lane in a sender: the link to it, what goes over it, and the rules by which it is given up.

A link is given up when its connection is lost or not made in time, when no answer came for `ack_timeout_s` while
batches were in flight, and when the worker says that it does not understand. The next one starts from the oldest
unacknowledged batch.

A worker that is paused (its disk is full, its lake is away) does not read, but its libzmq does, and keeps what each
link sent, also of those that are given up. So the wait for an answer doubles each time that it was in vain: a worker
that is gone or stopped shows in the connection and its heartbeats, not here. And who was not understood waits
`REFUSED_WAIT_S`: each refusal costs the worker a row of quarantine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from time import monotonic
from uuid import UUID

import zmq
from msgspec import Struct

from runlake import wire
from runlake.adoption import FIRST_BATCH, Adoption
from runlake.backoff import Backoff, Patience
from runlake.curve import ClientKeys, refuse_open
from runlake.errors import SettingsError, WireError
from runlake.link import CONNECT_TIMEOUT_MS, DESCRIPTORS_NEEDED, Link, LinkState, enough_descriptors
from runlake.notices import Notices
from runlake.outbox import SealedBatch
from runlake.stream import Stream

REFUSED_WAIT_S = 60.0
"""Before the next link to a worker that does not understand: it, or the agent, has to be replaced first."""
_KEYS_WAIT_S = 5.0
"""Before the next look for keys that are missing or wrong."""
_ADOPTED_IN_FLIGHT = 2
"""Batches of others in flight: they come behind."""

Context = zmq.Context[zmq.Socket[bytes]]


class SenderOptions(Struct, frozen=True, kw_only=True):
    """How a sender behaves; times in seconds. `endpoint`: one or several entry points, separated by commas. `keys` is
    asked for the keys to connect with whenever a link is opened."""

    endpoint: str
    interval_s: float
    ack_timeout_s: float
    max_in_flight: int
    drop_oldest: bool = False
    keys: Callable[[], ClientKeys | None] = lambda: None


class Lane:
    """`own`: what of this process's own messages goes this way; None only asks. `asks_first`: nothing is sent before
    the worker has said which workers there are. `first_credit`: how many batches may be in flight before the first
    answer says it; 1 where the worker may yet go by another list, or it could refuse one and take the next.
    One thread uses it."""

    def __init__(
        self,
        endpoint: str,
        options: SenderOptions,
        notices: Notices,
        own: Stream | None,
        adoption: Adoption | None,
        *,
        place: int = 0,
        worker: UUID | None = None,
        first_credit: int = 1,
        asks_first: bool = False,
    ) -> None:
        self.endpoint = endpoint
        self.worker = worker
        self.place = place
        self.own = own
        self.link: Link | None = None
        self.connected = False
        self.connections = 0
        self.acknowledged = 0
        self.credit = first_credit
        self.drain = False
        """Whether a batch is formed of whatever waits."""
        self.retry_at = 0.0
        self.sent_batch = 0
        """The highest number of an own batch that was ever sent."""
        self._options = options
        self._notices = notices
        self._adoption = adoption
        self._asks_first = asks_first
        self._backoff = Backoff(Random())
        self._patience = Patience(options.ack_timeout_s)
        self._refusals = 0
        self._link_deadline = 0.0
        self._progress_at = 0.0
        self._asked = False
        self._question_open = False
        self._waits_for_list = False

    @property
    def is_open(self) -> bool:
        return self.link is not None and self.link.state is LinkState.OPEN

    @property
    def may_send(self) -> bool:
        return self.connected and not self._waits_for_list

    @property
    def in_flight(self) -> int:
        """How many batches are on their way."""
        own = 0 if self.own is None else self.own.outbox.in_flight
        return own if self._adoption is None else own + self._adoption.in_flight(self.place)

    # The link

    def open(self, context: Context, now: float) -> bool:
        """Begin to connect. False when that cannot even be tried."""
        try:
            keys = self._options.keys()
            refuse_open(self.endpoint, keys)
            self.link = Link(context, self.endpoint, keys)
        except SettingsError as error:
            self._notices.say("keys", f"RunLake does not connect: {error}")
            self.retry_at = now + _KEYS_WAIT_S
        except zmq.ZMQError as error:
            self._notices.say("endpoint", f"RunLake cannot connect to the endpoint {self.endpoint!r}: {error}")
            self.retry_at = now + self._backoff.delay_s()
        self._link_deadline = now + CONNECT_TIMEOUT_MS / 1000
        self._asked = self._question_open = False
        self._waits_for_list = self._asks_first
        return self.link is not None

    def note_open(self) -> bool:
        """Whether the connection was just made."""
        if self.connected or not self.is_open:
            return False
        self.connected = True
        self.connections += 1
        self._refusals = 0
        self._progress_at = monotonic()
        return True

    def watch(self) -> bool:
        """Give up a link that is lost, does not come about, or does not answer. Returns whether one just did."""
        link = self.link
        if link is None:
            return False
        now = monotonic()
        match link.state:
            case LinkState.LOST:
                self._refusals += bool(link.refusal)
                if link.refusal and self._refusals > 1:  # once may be a connection that broke off during the handshake
                    self._notices.say("keys", f"RunLake cannot deliver: {link.refusal}")
                self.lose(now)
                return True
            case LinkState.CONNECTING if now >= self._link_deadline:
                self.lose(now)
                return True
            case LinkState.OPEN if self._is_waiting and now >= self._progress_at + self._patience.wait_s:
                waited = self._patience.wait_s
                self._patience.lengthen()
                self._notices.say("timeout", f"RunLake's worker did not answer for {waited:g} s; sending again")
                self.lose(now)
                return True
        return False

    def lose(self, now: float, at_least_s: float = 0.0) -> None:
        """Close the link; the next one begins with the oldest unacknowledged batch."""
        self.close()
        if self.own is not None:
            self.own.outbox.rewind()
        if self._adoption is not None:
            self._adoption.rewind(self.place)
        self.retry_at = now + at_least_s + self._backoff.delay_s()

    def close(self) -> None:
        """Close the link."""
        if self.link is not None:
            self.link.close()
            self.link = None
        self.connected = False

    # Out

    def send(self, now: float) -> Iterator[SealedBatch]:
        """Send what is due, as far as the credit goes. Yields the batches of this process's own that went out."""
        link = self.link
        if link is None or link.state is not LinkState.OPEN:
            return
        while not self._waits_for_list and self.in_flight < self.credit:
            stream, batch = self.own, self._seal()
            if batch is None and (adopted := self._seal_adopted()) is not None:
                stream, batch = adopted
            if stream is None or batch is None or not link.send(batch.frames):
                break
            if not self.in_flight:
                self._progress_at = now
            stream.outbox.mark_sent()
            if stream is self.own:
                yield batch
        if not self._asked:  # behind the first batches: they need not wait for it
            self.ask()

    def ask(self) -> None:
        """Ask which workers there are."""
        link = self.link
        if link is not None and link.state is LinkState.OPEN and link.send([wire.encode_frame(wire.WorkersRequest())]):
            self._asked = self._question_open = True

    def answered(self) -> bool:
        """The worker has said which workers there are, or that it does not know the question. Returns whether it was
        asked."""
        asked, self._question_open, self._waits_for_list = self._question_open, False, False
        self._progress_at = monotonic()
        return asked

    def _seal(self) -> SealedBatch | None:
        """The next batch of this process's own; formed of what waits, if it is due."""
        own = self.own
        if own is None:
            return None
        batch = own.outbox.next_waiting()
        if batch is None and (self.drain or own.fills_a_batch):
            batch = own.next_batch()
            self.drain = self.drain and own.pending
        return batch

    def _seal_adopted(self) -> tuple[Stream, SealedBatch] | None:
        if self._adoption is None or self._adoption.in_flight(self.place) >= _ADOPTED_IN_FLIGHT:
            return None
        return self._adoption.next_batch(self.place)

    # In

    def receive(self) -> Iterator[wire.Reply | WireError]:
        """What has arrived, as long as the link is the one that it was."""
        link = self.link
        while link is not None and link is self.link and (frames := link.receive()) is not None:
            try:
                if len(frames) != 1:
                    raise WireError(f"An answer has {len(frames)} frames")
                reply: wire.Reply | WireError = wire.decode_reply(frames[0])
            except WireError as error:
                reply = error
            yield reply

    def settle(self, number: int) -> SealedBatch | None:
        """Take a batch out of the books that the worker has answered. None when it is not in flight."""
        batch: SealedBatch | None = None
        if number < FIRST_BATCH:
            if self.own is not None:
                batch = self.own.outbox.settle(number)
        elif self._adoption is not None:
            batch = self._adoption.settle(self.place, number)
        if batch is not None:
            self._progress_at = monotonic()
            self._backoff.reset()
            self._patience.reset()
        return batch

    @property
    def _is_waiting(self) -> bool:
        """Whether the worker owes an answer."""
        return self.in_flight > 0 or (self._waits_for_list and self._question_open)


def room_to_connect(notices: Notices) -> bool:
    """Whether there are descriptors for one more link; says so where there are not."""
    if enough_descriptors():
        return True
    notices.say(
        "descriptors",
        f"RunLake does not connect while fewer than {DESCRIPTORS_NEEDED} more files can be opened (ulimit -n)",
    )
    return False
