"""One connection to a worker, used once.

libzmq would reconnect by itself, and then send a later batch to a restarted worker before the earlier ones that were
lost. So it may not (RECONNECT_IVL -1): a link that is lost stays lost, and the sender opens the next one and starts
from the oldest unacknowledged batch. IMMEDIATE keeps batches from piling up in a pipe to nobody; LINGER 0 discards
what a closed link still held, all of which is in the sender's books.
"""

from __future__ import annotations

import os
from enum import Enum
from struct import Struct

import zmq

from runlake import curve
from runlake.wire import MAX_FRAME_BYTES

CONNECT_TIMEOUT_MS = 5_000
HEARTBEAT_INTERVAL_MS = 2_000
HEARTBEAT_TIMEOUT_MS = 6_000
DESCRIPTORS_NEEDED = 32
"""A first link and its context open about 10 file descriptors; the rest is for what the process opens meanwhile."""
_HIGH_WATER_MARK = 2_048
_EVENT = Struct("=Hi")
"""A monitor's first frame: event and value (zmq_socket_monitor(3)). pyzmq's own reader loads asyncio: 5 MB, 50 ms."""

_LOST = (
    zmq.EVENT_DISCONNECTED
    | zmq.EVENT_CLOSED
    | zmq.EVENT_CONNECT_RETRIED
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)


class LinkState(Enum):
    CONNECTING = "connecting"
    OPEN = "open"
    LOST = "lost"


class Link:
    """A DEALER socket with the monitor that tells when its one connection is made and lost. One thread uses it."""

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str, keys: curve.ClientKeys | None = None
    ) -> None:
        """Start to connect, with CURVE where there are keys. Raises zmq.ZMQError for an endpoint that cannot be one."""
        self.state = LinkState.CONNECTING
        self.refusal = ""
        """Why the other end would not talk to us, where that is about keys, and what to do."""
        self._endpoint = endpoint
        self._keys = keys
        self._socket: zmq.Socket[bytes] = context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RECONNECT_IVL, -1)
        self._socket.setsockopt(zmq.IMMEDIATE, 1)
        self._socket.setsockopt(zmq.CONNECT_TIMEOUT, CONNECT_TIMEOUT_MS)
        self._socket.setsockopt(zmq.HANDSHAKE_IVL, CONNECT_TIMEOUT_MS)
        self._socket.setsockopt(zmq.SNDHWM, _HIGH_WATER_MARK)
        self._socket.setsockopt(zmq.RCVHWM, _HIGH_WATER_MARK)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
        self._socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_INTERVAL_MS)
        self._socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
        self._monitor: zmq.Socket[bytes] = self._socket.get_monitor_socket(_LOST | zmq.EVENT_HANDSHAKE_SUCCEEDED)
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self._poller.register(self._monitor, zmq.POLLIN)
        try:
            if keys is not None:
                keys.apply(self._socket)
            self._socket.connect(endpoint)
        except zmq.ZMQError:
            self.close()
            raise

    @property
    def descriptors(self) -> tuple[int, int]:
        """What becomes readable when there may be something to do: look with `wait(0)` and `receive`. Edge-triggered
        (ZMQ_FD), so look after each `send` too."""
        return int(self._socket.getsockopt(zmq.FD)), int(self._monitor.getsockopt(zmq.FD))

    def register(self, poller: zmq.Poller) -> None:
        """Have a poller wake up when `wait` has something to do; for who waits for several links at once."""
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._monitor, zmq.POLLIN)

    def send(self, frames: list[bytes]) -> bool:
        """Hand a message to the socket. False when it has no room now, or no connection."""
        try:
            self._socket.send_multipart(frames, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def wait(self, timeout_ms: int) -> bool:
        """Wait until something arrives or changes, and note what became of the connection; returns whether a message
        has arrived."""
        arrived = False
        for socket, _ in self._poller.poll(timeout_ms):
            if socket is self._monitor:
                self._read_monitor()
            else:
                arrived = True
        return arrived

    def receive(self) -> list[bytes] | None:
        """The next message that has arrived, or None."""
        try:
            return self._socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return None

    def close(self) -> None:
        """Let go of the sockets, and of all that is still in them."""
        self.state = LinkState.LOST
        self._socket.disable_monitor()
        self._monitor.close(0)
        self._socket.close(0)

    def _read_monitor(self) -> None:
        while self._monitor.poll(0):
            event, value = _EVENT.unpack(self._monitor.recv_multipart(zmq.NOBLOCK)[0])
            self.refusal = self.refusal or curve.refusal(event, value, self._endpoint, self._keys)
            if event & _LOST:
                self.state = LinkState.LOST
            elif self.state is LinkState.CONNECTING:
                self.state = LinkState.OPEN


def enough_descriptors() -> bool:
    """Whether this process may open `DESCRIPTORS_NEEDED` more files. libzmq aborts the process when it runs out of them
    while it opens a context or a socket, so look before each."""
    limit = os.sysconf("SC_OPEN_MAX")  # RLIMIT_NOFILE as it is now, without loading `resource`, which takes a file
    if limit < 0:  # there is none
        return True
    try:
        taken = sum(int(name) < limit for name in os.listdir("/proc/self/fd"))  # noqa: PTH208 (it need not be loaded)
    except OSError:  # no /proc, or not one descriptor to read it with
        return _can_open(DESCRIPTORS_NEEDED)
    return limit - taken >= DESCRIPTORS_NEEDED


def _can_open(count: int) -> bool:
    """Try it. For a moment this leaves fewer for the process's other threads, so it is the second choice."""
    opened: list[int] = []
    try:
        while len(opened) < count:
            opened += os.pipe()
    except OSError:
        return False
    finally:
        for descriptor in opened:
            os.close(descriptor)
    return True
