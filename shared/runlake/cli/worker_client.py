"""One question to the ingest worker over its acknowledged socket."""

from __future__ import annotations

import time
from itertools import cycle

import zmq

from runlake import curve
from runlake.cli.failure import CommandFailed
from runlake.curve import ClientKeys
from runlake.entrypoints import entry_points
from runlake.errors import SettingsError, WireError
from runlake.link import Link, LinkState
from runlake.wire import FlushRequest, Position, PositionRequest, Reply, decode_reply, encode_frame

_WORKER_MS = 2_000
_FLUSH_MS = 60_000
_AGAIN_S = 0.1


class WorkerSilent(CommandFailed):
    """The worker does not answer. `refusal`: why it would not, where that is about keys; else empty."""

    def __init__(self, message: str, refusal: str = "") -> None:
        super().__init__(message)
        self.refusal = refusal


def ask_position(endpoint: str, timeout_ms: int, keys: ClientKeys | None = None) -> Position:
    """How far the worker at `endpoint` is; of several, separated by commas, the first that answers. Raises
    WorkerSilent, or CommandFailed for an answer that is none."""
    reply = _ask(endpoint, encode_frame(PositionRequest()), timeout_ms, keys)
    if not isinstance(reply, Position):
        raise CommandFailed(f"{endpoint} answered {reply} when asked for its position.")
    return reply


def flush_if_there(endpoint: str, keys: ClientKeys | None = None) -> None:
    """Have each worker bring its journal to the lake, where it runs. Raises CommandFailed when one does, and does not
    let us in."""
    for point in entry_points(endpoint):
        try:
            ask_position(point, _WORKER_MS, keys)
            _ask(point, encode_frame(FlushRequest()), _FLUSH_MS, keys)
        except WorkerSilent as silent:
            if silent.refusal:
                raise


def _ask(endpoint: str, request: bytes, timeout_ms: int, keys: ClientKeys | None) -> Reply:
    """Ask until there is an answer: who is not there yet, or lets us in in a moment, has until the deadline."""
    try:
        curve.refuse_open(endpoint, keys)
    except SettingsError as error:
        raise CommandFailed(str(error)) from None
    points = entry_points(endpoint) or (endpoint,)
    each_s = timeout_ms / 1_000 / len(points)
    deadline = time.monotonic() + timeout_ms / 1_000
    refusal = ""
    with zmq.Context() as context:
        for point in cycle(points):
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                break
            link = Link(context, point, keys)
            try:
                frames = _answer(link, request, min(deadline, time.monotonic() + each_s))
            finally:
                link.close()
            if frames is not None:
                try:
                    return decode_reply(frames[-1])
                except WireError as error:
                    raise CommandFailed(
                        f"what answers at {endpoint} is no ingest worker of this version: {error}"
                    ) from None
            refusal = link.refusal
            time.sleep(min(_AGAIN_S, left_s))
    raise WorkerSilent(
        refusal
        or f"no ingest worker answers at {endpoint} within {timeout_ms:,} ms. Start RunLake with `runlake up`, or"
        " say where it is with --ingest or RUNLAKE_INGEST.",
        refusal,
    )


def _answer(link: Link, request: bytes, deadline: float) -> list[bytes] | None:
    """The answer over one connection; None when it is lost, or time is over."""
    sent = False
    while link.state is not LinkState.LOST and (left_s := deadline - time.monotonic()) > 0:
        if link.state is LinkState.OPEN and not sent:
            sent = link.send([request])
        link.wait(max(1, round(left_s * 1_000)))
        if (frames := link.receive()) is not None:
            return frames
    return None
