"""A producer that speaks the wire by hand: batches encoded beforehand, sixteen in flight."""

from __future__ import annotations

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


class RawProducer:
    def __init__(self, endpoint: str, keys: ClientKeys | None = None) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.linger = 0
        if keys is not None:
            keys.apply(self._socket)
        self._socket.connect(endpoint)

    def prepare(self, messages: int, size: int) -> list[tuple[bytes, bytes]]:
        """The frames of batches of `size` events, `messages` in all."""
        new_id, now = Uuid7Source(), datetime.now(UTC)
        frames = []
        for first in range(1, messages + 1, size):
            batch = [
                wire.encode_message(
                    RunEvent(
                        event_id=new_id(),
                        run_id=f"run-{number % 100}",
                        ts=now,
                        type="step",
                        payload={"number": number, "text": "x" * 40},
                    )
                )
                for number in range(first, min(first + size, messages + 1))
            ]
            header = wire.Batch(producer="raw", batch=first // size + 1, first=first, count=len(batch))
            frames.append((wire.encode_frame(header), wire.encode_payload(batch)))
        return frames

    def send_all(self, batches: list[tuple[bytes, bytes]]) -> int:
        """Send them all and wait for every ack; returns how many messages were accepted."""
        sent = acked = accepted = 0
        while acked < len(batches):
            while sent < len(batches) and sent - acked < _IN_FLIGHT:
                self._socket.send_multipart(batches[sent])
                sent += 1
            reply = self._reply()
            assert isinstance(reply, wire.Ack), reply
            acked += 1
            accepted += reply.accepted
        return accepted

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
        assert self._socket.poll(_DEADLINE_MS), "the worker does not answer"
        return wire.decode_reply(self._socket.recv())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._context.destroy(linger=0)
