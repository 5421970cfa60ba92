"""A producer that speaks the wire by hand: batches encoded beforehand, sixteen in flight."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

import zmq

from runlake import wire
from runlake.curve import ClientKeys
from runlake.ids import Uuid7Source
from runlake.messages import RunEvent

_IN_FLIGHT = 16
_DEADLINE_MS = 120_000
Frames = tuple[bytes, bytes]
"""Header and payload of a batch."""


class RawProducer:
    """`name`: under which the worker knows it. It waits for an answer for `deadline_ms`."""

    def __init__(
        self, endpoint: str, keys: ClientKeys | None = None, *, name: str = "raw", deadline_ms: int = _DEADLINE_MS
    ) -> None:
        self._name = name
        self._deadline_ms = deadline_ms
        self._new_id = Uuid7Source()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.linger = 0
        if keys is not None:
            keys.apply(self._socket)
        self._socket.connect(endpoint)

    def prepare(self, messages: int, size: int) -> list[Frames]:
        """The frames of batches of `size` events, `messages` in all."""
        return [self.batch(first, min(size, messages + 1 - first), size) for first in range(1, messages + 1, size)]

    def batch(self, first: int, count: int, size: int) -> Frames:
        """The frames of `count` events from number `first` on, where every batch but the last one has `size`."""
        now = datetime.now(UTC)
        events = [
            wire.encode_message(
                RunEvent(
                    event_id=self._new_id(),
                    run_id=f"run-{number % 100}",
                    ts=now,
                    type="step",
                    payload={"number": number, "text": "x" * 40},
                )
            )
            for number in range(first, first + count)
        ]
        header = wire.Batch(producer=self._name, batch=first // size + 1, first=first, count=count)
        return wire.encode_frame(header), wire.encode_payload(events)

    def send_all(self, batches: Iterable[Frames]) -> int:
        """Send them all and wait for every ack; returns how many messages were accepted."""
        waiting = accepted = 0
        for batch in batches:
            if waiting == _IN_FLIGHT:
                accepted += self._acked()
                waiting -= 1
            self._socket.send_multipart(batch)
            waiting += 1
        return accepted + sum(self._acked() for _ in range(waiting))

    def _acked(self) -> int:
        reply = self._reply()
        assert isinstance(reply, wire.Ack), reply
        return reply.accepted

    def position(self) -> wire.Position:
        return self._ask(wire.PositionRequest())

    def flush(self) -> wire.Position:
        """Have the worker flush to the lake, and wait until it has."""
        return self._ask(wire.FlushRequest())

    def _ask(self, request: wire.PositionRequest | wire.FlushRequest) -> wire.Position:
        self._socket.send(wire.encode_frame(request))
        reply = self._reply()
        assert isinstance(reply, wire.Position), reply
        return reply

    def _reply(self) -> wire.Reply:
        assert self._socket.poll(self._deadline_ms), "the worker does not answer"
        return wire.decode_reply(self._socket.recv())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._context.destroy(linger=0)
