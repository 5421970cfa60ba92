"""One question to the ingest worker over its acknowledged socket."""

from __future__ import annotations

import zmq

from runlake.cli.failure import CommandFailed
from runlake.errors import WireError
from runlake.wire import FlushRequest, Position, PositionRequest, decode_reply, encode_frame

_WORKER_MS = 2_000
_FLUSH_MS = 60_000


class WorkerSilent(CommandFailed):
    """The worker does not answer."""


def ask_position(endpoint: str, timeout_ms: int) -> Position:
    """How far the worker at `endpoint` is. Raises WorkerSilent, or CommandFailed for an answer that is none."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(endpoint)
        socket.send(encode_frame(PositionRequest()))
        if not socket.poll(timeout_ms):
            raise WorkerSilent(
                f"no ingest worker answers at {endpoint} within {timeout_ms:,} ms. Start RunLake with `runlake up`, or"
                " say where it is with --ingest or RUNLAKE_INGEST."
            )
        frames = socket.recv_multipart()
    try:
        reply = decode_reply(frames[-1])
    except WireError as error:
        raise CommandFailed(f"what answers at {endpoint} is no ingest worker of this version: {error}") from None
    if not isinstance(reply, Position):
        raise CommandFailed(f"{endpoint} answered {reply} when asked for its position.")
    return reply


def flush_if_there(endpoint: str) -> None:
    """Have the worker bring its journal to the lake, where one runs."""
    try:
        ask_position(endpoint, _WORKER_MS)
    except WorkerSilent:
        return
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(endpoint)
        socket.send(encode_frame(FlushRequest()))
        socket.poll(_FLUSH_MS)
