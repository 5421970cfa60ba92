"""Sends an import's messages, in order and a few batches ahead, and hears what became of each. For one thread.

The books and the links are the SDK's (`outbox.py`, `link.py`): a link that is lost is closed, and the next one
starts from the oldest unacknowledged batch. Where there are several workers, each message of a batch goes to its home,
and the batch is answered when all of them have answered theirs.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime
from random import Random
from types import TracebackType
from typing import Self

import zmq
from msgspec import Struct
from msgspec.structs import replace

from runlake import wire
from runlake.backoff import Backoff
from runlake.cli.failure import CommandFailed
from runlake.curve import ClientKeys
from runlake.entrypoints import entry_points
from runlake.errors import WireError
from runlake.homes import Homes
from runlake.link import DESCRIPTORS_NEEDED, Link, LinkState, enough_descriptors
from runlake.outbox import Outbox

_IN_FLIGHT = 8
_PATIENCE_S = 60.0
_WAIT_MS = 100
_ASK_S = 2.0
"""How long an entry point may take to say which workers there are."""
OnAck = Callable[[wire.Ack], None]


class _Sent(Struct):
    """A batch on its way. `parts`: how many workers have yet to answer."""

    on_ack: OnAck
    parts: int
    answer: wire.Ack | None = None

    def add(self, ack: wire.Ack, places: Sequence[int]) -> None:
        """One worker's answer, whose messages had these places in the batch."""
        before = self.answer
        self.parts -= 1
        self.answer = replace(
            ack,
            accepted=ack.accepted + (before.accepted if before else 0),
            duplicate=[*(before.duplicate if before else ()), *(places[index] for index in ack.duplicate)],
            rejected=[
                *(before.rejected if before else ()),
                *(replace(rejection, index=places[rejection.index]) for rejection in ack.rejected),
            ],
        )


class _Lane:
    """What goes to one worker."""

    def __init__(self, endpoint: str, producer: str, list_version: int) -> None:
        self.endpoint = endpoint
        self.outbox = Outbox(producer, list_version=list_version)
        self.parts: dict[int, tuple[_Sent, Sequence[int]]] = {}
        """By the number of the batch: what it is a part of, and which."""
        self.link: Link | None = None
        self.retry_at = 0.0
        self.backoff = Backoff(Random())
        self.has_answered = False

    @property
    def may_send(self) -> bool:
        """One batch only before the first answer: a worker that goes by another list takes none of ours."""
        return self.outbox.in_flight < (_IN_FLIGHT if self.has_answered else 1)


class ImportDelivery:
    """One producer. `endpoint`: a worker's, or several of one cluster, separated by commas. Every method raises
    CommandFailed when a worker is silent for `patience_s` seconds, and when the list of workers changes."""

    def __init__(
        self, endpoint: str, producer: str, patience_s: float = _PATIENCE_S, keys: ClientKeys | None = None
    ) -> None:
        self._endpoint = endpoint
        self._producer = producer
        self._keys = keys
        self._patience_s = patience_s
        self._sent: deque[_Sent] = deque()
        self._lanes: list[_Lane] = []
        self._homes = Homes(())
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None

    def send(self, messages: Sequence[bytes], on_ack: OnAck, received_at: datetime | None = None) -> None:
        """Send a batch; `on_ack` is called with its ack, in the order of sending, now or later. Blocks while enough is
        on its way. `received_at`: when these messages of a log were first received."""
        if not self._lanes:
            self._find_workers()
        places: dict[int, list[int]] = {}
        for index, message in enumerate(messages):
            places.setdefault(self._homes.of_encoded(message), []).append(index)
        sent = _Sent(on_ack, len(places))
        for place, indexes in places.items():
            lane = self._lanes[place]
            lane.outbox.seal([messages[index] for index in indexes], received_at=received_at)
            lane.parts[lane.outbox.sealed_batch] = (sent, indexes)
        self._sent.append(sent)
        self._work_until(lambda: len(self._sent) < _IN_FLIGHT)

    def finish(self) -> None:
        """Wait until everything is acknowledged."""
        self._work_until(lambda: not self._sent)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for lane in self._lanes:
            if lane.link is not None:
                lane.link.close()
        if self._context is not None:
            self._context.destroy(linger=0)

    def _work_until(self, enough: Callable[[], bool]) -> None:
        deadline = time.monotonic() + self._patience_s
        while not enough():
            heard = [self._turn(lane) for lane in self._lanes]
            if any(heard):
                deadline = time.monotonic() + self._patience_s
            if time.monotonic() >= deadline:
                late = next((lane.endpoint for lane in self._lanes if lane.parts), self._endpoint)
                raise CommandFailed(_no_answer(late, self._patience_s))

    def _turn(self, lane: _Lane) -> bool:
        """Send, wait a moment where there is something to wait for, and listen. Returns whether something was
        acknowledged."""
        link = lane.link
        if link is None:
            pause = lane.retry_at - time.monotonic()
            if pause > 0:
                time.sleep(pause if len(self._lanes) == 1 else min(pause, 0.01))
                return False
            link = lane.link = self._open(lane.endpoint)
        while (
            link.state is LinkState.OPEN
            and lane.may_send
            and (batch := lane.outbox.next_waiting())
            and link.send(batch.frames)
        ):
            lane.outbox.mark_sent()
        busy = bool(lane.outbox.in_flight) or link.state is LinkState.CONNECTING
        link.wait((_WAIT_MS if len(self._lanes) == 1 else 5) if busy else 0)
        heard = False
        while (frames := link.receive()) is not None:
            heard = self._take(lane, frames) or heard
        if link.state is LinkState.LOST:
            link.close()
            lane.link = None
            lane.outbox.rewind()
            lane.retry_at = time.monotonic() + lane.backoff.delay_s()
        return heard

    def _open(self, endpoint: str) -> Link:
        if not enough_descriptors():
            raise CommandFailed(
                f"fewer than {DESCRIPTORS_NEEDED} more files can be opened here; raise the limit (ulimit -n)"
            )
        if self._context is None:
            self._context = zmq.Context()
        return Link(self._context, endpoint, self._keys)

    def _take(self, lane: _Lane, frames: list[bytes]) -> bool:
        reply = _read(frames, lane.endpoint)
        match reply:
            case wire.Refused():
                raise CommandFailed(f"the ingest worker refused a batch: {reply.reason}")
            case wire.NotMine():
                raise CommandFailed(
                    "the list of workers has changed meanwhile. Run the same command again: it goes on where it was."
                )
            case wire.Ack() if lane.outbox.settle(reply.batch) is not None:
                sent, places = lane.parts.pop(reply.batch)
                sent.add(reply, places)
                lane.has_answered = True
                lane.backoff.reset()
                self._tell()
                return True
        return False

    def _tell(self) -> None:
        """Hand on the answers that are whole, in the order of sending."""
        while self._sent and not self._sent[0].parts:
            sent = self._sent.popleft()
            if sent.answer is not None:
                sent.on_ack(sent.answer)

    def _find_workers(self) -> None:
        """Ask which workers there are, at one entry point after the other."""
        deadline = time.monotonic() + self._patience_s
        backoff = Backoff(Random())
        while True:
            for endpoint in entry_points(self._endpoint):
                workers = self._ask(endpoint)
                if workers is not None:
                    members = workers.members if len(workers.members) > 1 else []
                    self._homes = Homes([member.worker for member in members])
                    endpoints = [member.endpoint for member in members] or [endpoint]
                    version = workers.version if members else 0
                    self._lanes = [_Lane(one, self._producer, version) for one in endpoints]
                    return
            if time.monotonic() >= deadline:
                raise CommandFailed(_no_answer(self._endpoint, self._patience_s))
            time.sleep(backoff.delay_s())

    def _ask(self, endpoint: str) -> wire.Workers | None:
        """What one worker says of it; None when it does not answer. One that does not know the question, or keeps it to
        itself, stands alone."""
        link = self._open(endpoint)
        alone, end, asked = wire.Workers(version=0, members=[]), time.monotonic() + _ASK_S, False
        try:
            while link.state is not LinkState.LOST and time.monotonic() < end:
                if link.state is LinkState.OPEN and not asked:
                    asked = link.send([wire.encode_frame(wire.WorkersRequest())])
                link.wait(10)
                if (frames := link.receive()) is not None:
                    reply = _read(frames, endpoint)
                    return reply if isinstance(reply, wire.Workers) else alone
            return alone if link.state is LinkState.OPEN else None
        finally:
            link.close()


def _read(frames: list[bytes], endpoint: str) -> wire.Reply:
    try:
        return wire.decode_reply(frames[-1])
    except WireError as error:
        raise CommandFailed(f"what answers at {endpoint} is no ingest worker of this version: {error}") from None


def _no_answer(endpoint: str, seconds: float) -> str:
    return (
        f"the ingest worker at {endpoint} has not answered for {seconds:g} s. Run the same command again when it does:"
        " it goes on where it was."
    )
