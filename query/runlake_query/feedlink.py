"""The query process's end of the feed: one SUB socket, with every limit that ZeroMQ leaves open set on purpose."""

from __future__ import annotations

from collections.abc import Iterator

import zmq

from runlake.errors import WireError
from runlake.feed import TOPIC_BEAT, TOPIC_LOG, FeedGroup, decode_feed
from runlake.wire import Position

_WAITING = 256
"""Messages that ZeroMQ holds for us; more are lost, which the positions show."""
_MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""A group is at most 8 MiB of batches and one more; Base64 and JSON make lines longer than what was sent."""
_RECONNECT_MS = 50
_RECONNECT_MAX_MS = 1_000
_HEARTBEAT_MS = 1_000
_SILENCE_MS = 3_000
_AT_ONCE = 64


class FeedLink:
    """Listens at `endpoint`; connects again by itself. One thread uses it, from `open` to `close`."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._socket: zmq.Socket[bytes] | None = None
        self.refused = 0
        """Messages that are none of the feed's."""

    def open(self) -> None:
        self._context = zmq.Context()
        socket = self._context.socket(zmq.SUB)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RCVHWM, _WAITING)
        socket.setsockopt(zmq.MAXMSGSIZE, _MAX_MESSAGE_BYTES)
        socket.setsockopt(zmq.RECONNECT_IVL, _RECONNECT_MS)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, _RECONNECT_MAX_MS)
        socket.setsockopt(zmq.HEARTBEAT_IVL, _HEARTBEAT_MS)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, _SILENCE_MS)
        socket.subscribe(TOPIC_LOG)
        socket.subscribe(TOPIC_BEAT)
        socket.connect(self._endpoint)
        self._socket = socket

    def poll(self, timeout_s: float) -> bool:
        """Wait until something has come, at most so long."""
        return self._socket is not None and bool(self._socket.poll(max(0, round(timeout_s * 1_000))))

    def take(self) -> Iterator[tuple[FeedGroup, bytes] | Position]:
        """What has come, up to a bounded number of messages."""
        for _ in range(_AT_ONCE):
            if self._socket is None:
                return
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                yield decode_feed(frames)
            except WireError:
                self.refused += 1

    def close(self) -> None:
        """Idempotent."""
        if self._context is not None:
            self._context.destroy(linger=0)
            self._context = self._socket = None
