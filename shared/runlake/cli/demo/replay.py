"""Sends recorded messages again over the acknowledged socket, byte for byte, and counts what the worker says.

Order is kept as the SDK keeps it: at most `credit` batches are in flight, and after a silence the socket is replaced
and everything from the oldest unacknowledged batch is sent again.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from uuid import uuid4

import zmq
from msgspec import Struct

from runlake.cli.failure import CommandFailed
from runlake.curve import ClientKeys
from runlake.errors import WireError
from runlake.wire import (
    MAX_BATCH_BYTES,
    MAX_BATCH_MESSAGES,
    Ack,
    Batch,
    Refused,
    decode_reply,
    encode_frame,
    encode_payload,
)

_SILENCE_MS = 5_000


class ReplayResult(Struct, kw_only=True):
    """What the acks said. `reasons` counts why messages were rejected."""

    sent: int
    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0
    reasons: dict[str, int] = {}


def replay(
    endpoint: str,
    messages: Sequence[bytes],
    timeout_s: float,
    advance: Callable[[int], None],
    keys: ClientKeys | None = None,
    silence_ms: int = _SILENCE_MS,
) -> ReplayResult:
    """Send encoded messages and wait for every ack. `advance` is told how many more are acknowledged.
    After `silence_ms` without an answer everything unacknowledged is sent again.

    Raises CommandFailed when the worker refuses a batch, or is silent for `timeout_s`.
    """
    result = ReplayResult(sent=len(messages))
    waiting = _batches(messages)
    in_flight: OrderedDict[int, tuple[list[bytes], int]] = OrderedDict()
    credit = 1  # until the first ack says more
    last_ack = time.monotonic()
    with zmq.Context() as context:
        socket = _connect(context, endpoint, keys)
        try:
            while True:
                while len(in_flight) < credit and (following := next(waiting, None)) is not None:
                    number, frames, count = following
                    in_flight[number] = (frames, count)
                    socket.send_multipart(frames)
                if not in_flight:
                    return result
                if not socket.poll(silence_ms):
                    if time.monotonic() - last_ack > timeout_s:
                        raise CommandFailed(f"the worker at {endpoint} has not answered for {timeout_s:g} s.")
                    socket.close()
                    socket = _connect(context, endpoint, keys)
                    for frames, _ in in_flight.values():
                        socket.send_multipart(frames)
                    continue
                ack = _read_ack(socket.recv_multipart(), endpoint)
                last_ack = time.monotonic()
                if ack.batch in in_flight:  # else the ack of a batch that was sent twice
                    _, count = in_flight.pop(ack.batch)
                    credit = max(1, ack.credit)
                    _count(result, ack)
                    advance(count)
        finally:
            socket.close()


def _connect(context: zmq.Context[zmq.Socket[bytes]], endpoint: str, keys: ClientKeys | None) -> zmq.Socket[bytes]:
    socket = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.LINGER, 0)
    if keys is not None:
        keys.apply(socket)
    socket.connect(endpoint)
    return socket


def _batches(messages: Sequence[bytes]) -> Iterator[tuple[int, list[bytes], int]]:
    """Number, frames and count of each batch, within the limits of the wire."""
    producer = f"demo-replay-{uuid4()}"
    number = first = 1
    batch: list[bytes] = []
    size = 0
    for message in [*messages, None]:
        full = len(batch) == MAX_BATCH_MESSAGES or (message is not None and size + len(message) > MAX_BATCH_BYTES)
        if batch and (message is None or full):
            header = Batch(producer=producer, batch=number, first=first, count=len(batch))
            yield number, [encode_frame(header), encode_payload(batch)], len(batch)
            number += 1
            first += len(batch)
            batch, size = [], 0
        if message is not None:
            batch.append(message)
            size += len(message)


def _read_ack(frames: list[bytes], endpoint: str) -> Ack:
    try:
        reply = decode_reply(frames[-1])
    except WireError as error:
        raise CommandFailed(f"what answers at {endpoint} is no ingest worker of this version: {error}") from None
    if isinstance(reply, Refused):
        raise CommandFailed(f"the worker refused a batch: {reply.reason}")
    if not isinstance(reply, Ack):
        raise CommandFailed(f"the worker answered {reply} to a batch.")
    return reply


def _count(result: ReplayResult, ack: Ack) -> None:
    result.accepted += ack.accepted
    result.duplicates += len(ack.duplicate)
    result.rejected += len(ack.rejected)
    for rejection in ack.rejected:
        result.reasons[rejection.reason] = result.reasons.get(rejection.reason, 0) + 1
