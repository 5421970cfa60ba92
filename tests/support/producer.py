"""A plain producer for tests of the worker: sends batches or raw frames when told, and collects the replies."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self
from uuid import uuid4

import zmq

from runlake import wire
from runlake.curve import ClientKeys
from runlake.messages import Message

REPLY_DEADLINE_S = 60.0


class Producer:
    """One DEALER socket with a name and a numbering. Nothing is sent again unless the test does it."""

    def __init__(self, endpoint: str, name: str | None = None, keys: ClientKeys | None = None) -> None:
        self.name = name or f"producer-{uuid4()}"
        self.batch = 0
        self.number = 0
        """The producer's own number of the last message."""
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 1_000)
        if keys is not None:
            keys.apply(self._socket)
        self._socket.connect(endpoint)

    def send(self, messages: Sequence[Message | bytes]) -> int:
        """Send messages, encoded or not, as the next batch; returns its number."""
        header = self.header(len(messages))
        self.send_frames(wire.encode_frame(header), payload(messages))
        return header.batch

    def header(self, count: int) -> wire.Batch:
        """The header of the next batch, which counts as sent."""
        self.batch += 1
        first, self.number = self.number + 1, self.number + count
        return wire.Batch(producer=self.name, batch=self.batch, first=first, count=count)

    def send_frames(self, *frames: bytes) -> None:
        """Send one message of ZeroMQ as it is."""
        self._socket.send_multipart(frames)

    def reply(self, deadline_s: float = REPLY_DEADLINE_S) -> wire.Reply:
        """The next reply; fails when none comes."""
        assert self._socket.poll(round(deadline_s * 1_000)), f"no reply within {deadline_s} s"
        (frame,) = self._socket.recv_multipart()
        return wire.decode_reply(frame)

    def answered(self, within_s: float = 0.0) -> bool:
        """Whether a reply is waiting, or comes in time."""
        return bool(self._socket.poll(round(within_s * 1_000)))

    def ack(self, deadline_s: float = REPLY_DEADLINE_S) -> wire.Ack:
        """The next reply, which is an ack."""
        reply = self.reply(deadline_s)
        assert isinstance(reply, wire.Ack), reply
        return reply

    def acks(self, count: int) -> list[wire.Ack]:
        return [self.ack() for _ in range(count)]

    def deliver(self, messages: Sequence[Message | bytes]) -> wire.Ack:
        """Send one batch and wait for its ack."""
        batch = self.send(messages)
        ack = self.ack()
        assert ack.batch == batch
        return ack

    def position(self) -> wire.Position:
        """How far the worker is."""
        return self._ask(wire.PositionRequest())

    def flush(self) -> wire.Position:
        """Have all that was accepted brought to the lake."""
        return self._ask(wire.FlushRequest())

    def close(self) -> None:
        self._context.destroy(linger=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, request: wire.PositionRequest | wire.FlushRequest) -> wire.Position:
        self.send_frames(wire.encode_frame(request))
        reply = self.reply()
        assert isinstance(reply, wire.Position), reply
        return reply


def payload(messages: Sequence[Message | bytes]) -> bytes:
    """One payload of messages, encoded or not."""
    encoded = [message if isinstance(message, bytes) else wire.encode_message(message) for message in messages]
    return wire.encode_payload(encoded)


def push(endpoint: str, *frames: bytes) -> None:
    """Send one message of ZeroMQ from a bare pusher, and see it leave this process."""
    with zmq.Context() as context, context.socket(zmq.PUSH) as socket:
        socket.setsockopt(zmq.LINGER, 10_000)
        socket.connect(endpoint)
        socket.send_multipart(frames)
