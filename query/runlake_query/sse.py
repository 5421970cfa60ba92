"""Server-sent events as text (HTML standard, section 9.2)."""

from __future__ import annotations

HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
}
"""`no-transform` and `X-Accel-Buffering` keep reverse proxies from collecting what should arrive at once."""
HEARTBEAT = b": still here\n\n"


def frame(kind: str, data: str, position: str) -> bytes:
    """One event. `data` is one line of JSON."""
    return f"id: {position}\nevent: {kind}\ndata: {data}\n\n".encode()


def without_id(event: bytes) -> bytes:
    """An event of `frame` that does not move the position of who hears it."""
    return event.partition(b"\n")[2]


def farewell(reason: str) -> bytes:
    """The last event of a stream that the server ends; it has no id, so that resuming begins where it was."""
    return f'event: dropped\ndata: {{"reason":"{reason}"}}\n\n'.encode()
