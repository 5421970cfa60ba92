"""The query process's end of the feed: one SUB socket for all workers, with every limit that ZeroMQ leaves open set on
purpose.

libzmq connects again by itself when a connection is lost, and never when a handshake was refused (a key that was not
allowed yet): such an endpoint is connected to anew from here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from struct import Struct

import zmq

from runlake.curve import ClientKeys, refusal
from runlake.errors import WireError
from runlake.feed import TOPIC_BEAT, TOPIC_LOG, FeedGroup, decode_feed
from runlake.wire import Position

_WAITING = 256
"""Messages that ZeroMQ holds for us, of each worker; more are lost, which the positions show."""
_MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""A group is at most 8 MiB of batches and one more; Base64 and JSON make lines longer than what was sent."""
_RECONNECT_MS = 50
_RECONNECT_MAX_MS = 1_000
_IDLE_S, _PROBE_S, _PROBES = 2, 1, 3
"""A connection that TCP's keepalive finds dead is made anew. ZeroMQ's own heartbeats (HEARTBEAT_IVL) would do it too,
but abort the process when the socket has as much as it may hold (https://github.com/zeromq/libzmq/issues/3937)."""
_AT_ONCE = 64
_AFTER_REFUSAL_S = 1.0
_REFUSED = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_AUTH
_EVENT = Struct("=Hi")
"""A monitor's first frame: event and value (zmq_socket_monitor(3))."""


class FeedLink:
    """Listens at `endpoints`, separated by commas; connects again by itself. One thread uses it, from `open` to
    `close`."""

    def __init__(
        self, endpoints: str, keys: ClientKeys | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.endpoints = tuple(endpoint.strip() for endpoint in endpoints.split(","))
        self._keys = keys
        self._clock = clock
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._socket: zmq.Socket[bytes] | None = None
        self._monitor: zmq.Socket[bytes] | None = None
        self._again_at: dict[str, float] = {}
        self.refused = 0
        """Messages that are none of the feed's."""
        self.refusals: dict[str, str] = {}
        """Why endpoints do not let us listen, where that is about keys."""

    def open(self) -> None:
        """Connect to all. Nothing when that is done. Raises zmq.ZMQError."""
        if self._socket is not None:
            return
        self._context = zmq.Context()
        socket = self._context.socket(zmq.SUB)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RCVHWM, _WAITING)
        socket.setsockopt(zmq.MAXMSGSIZE, _MAX_MESSAGE_BYTES)
        socket.setsockopt(zmq.RECONNECT_IVL, _RECONNECT_MS)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, _RECONNECT_MAX_MS)
        socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
        socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, _IDLE_S)
        socket.setsockopt(zmq.TCP_KEEPALIVE_INTVL, _PROBE_S)
        socket.setsockopt(zmq.TCP_KEEPALIVE_CNT, _PROBES)
        if self._keys is not None:
            self._keys.apply(socket)
        socket.subscribe(TOPIC_LOG)
        socket.subscribe(TOPIC_BEAT)
        self._monitor = socket.get_monitor_socket(_REFUSED)
        for endpoint in self.endpoints:
            socket.connect(endpoint)
        self._socket = socket

    def poll(self, timeout_s: float) -> bool:
        """Wait until something has come, at most so long. Raises zmq.ZMQError."""
        if self._socket is None:
            return False
        self._connect_again(self._socket)
        return bool(self._socket.poll(max(0, round(timeout_s * 1_000))))

    def take(self) -> Iterator[tuple[FeedGroup, bytes] | Position]:
        """What has come, up to a bounded number of messages. Raises zmq.ZMQError."""
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
            self._context = self._socket = self._monitor = None
        self._again_at.clear()

    def _connect_again(self, socket: zmq.Socket[bytes]) -> None:
        """To those that refused us a while ago."""
        now = self._clock()
        while self._monitor is not None and self._monitor.poll(0):
            head, address = self._monitor.recv_multipart(zmq.NOBLOCK)
            event, value = _EVENT.unpack(head)
            named = address.decode("utf-8", "replace")
            for endpoint in (named,) if named in self.endpoints else self.endpoints:
                self.refusals[endpoint] = refusal(event, value, endpoint, self._keys)
                self._again_at.setdefault(endpoint, now + _AFTER_REFUSAL_S)
        for endpoint in [endpoint for endpoint, at in self._again_at.items() if at <= now]:
            del self._again_at[endpoint]
            with suppress(zmq.ZMQError):  # it may have let go of it by itself
                socket.disconnect(endpoint)
            socket.connect(endpoint)
