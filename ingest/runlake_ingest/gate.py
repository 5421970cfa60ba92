"""Who gets in: the clients whose public keys are in the worker's folder of keys.

libzmq asks about each client that proves to have a key, over a socket inside the process (ZAP, RFC 27 of ZeroMQ), and
waits for the answer; a thread of its own gives it, so that a busy receiver keeps nobody waiting. The folder is looked
at every second: who was allowed gets in, and when somebody was revoked, all connections are cut. The others come back
at once, and send again what was not acknowledged; the one does not.

Who has no key can still connect, and takes a descriptor until the handshake is over. The last descriptors are the
worker's own, for journal and lake: a connection that is given one of them is ended at once.

Without keys there is no gate, and the sockets are on loopback.
"""

from __future__ import annotations

import os
import resource
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from struct import Struct
from typing import Final

import zmq
from zmq.utils import z85

from runlake.curve import ServerKeys
from runlake.keyfolder import KeyFolder
from runlake.logs import Log
from runlake_ingest.allowedkeys import AllowedKeys
from runlake_ingest.connections import Connections

NOT_ALLOWED: Final = "key_not_allowed"
WRONG_SERVER_KEY: Final = "wrong_server_key"
NO_CURVE: Final = "no_curve"
UNFINISHED: Final = "unfinished"
NO_ROOM: Final = "no_room"
REASONS = (NOT_ALLOWED, WRONG_SERVER_KEY, NO_CURVE, UNFINISHED, NO_ROOM)
"""Why a connection was refused. `unfinished`: it ended before that was known; `no_room`: too few descriptors are
left."""

_ZAP_ADDRESS = "inproc://zeromq.zap.01"
_ZAP_VERSION = b"1.0"
_ZAP_FRAMES = 6
_LOOK_EVERY_S = 1.0
_SAY_EVERY_S = 10.0
_EVENTS_AT_ONCE = 256
_OWN_DESCRIPTORS = 128
"""Of the worker's own at least; an eighth of all where that is more."""
_STOP_S = 5.0
_EVENT = Struct("=Hi")
_FAILED = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_AUTH
_Socket = zmq.Socket[bytes]


class Gate:
    """Make it before the sockets are bound, `start` it with them, `close` it before they and their context go."""

    def __init__(self, context: zmq.Context[_Socket], folder: KeyFolder, keys: ServerKeys | None, log: Log) -> None:
        self.keys = keys
        self.refused: Counter[str] = Counter()
        """How many connections were refused, by reason."""
        self._log = log
        self._allowed = AllowedKeys(folder)
        self._look_at = 0.0
        self._unsaid = 0
        self._say_at = 0.0
        self._monitors: list[_Socket] = []
        self._watched: Sequence[_Socket] = ()
        self._connections = Connections()
        self._first_own = 0
        self._thread: threading.Thread | None = None
        if keys is None:
            return
        self._stop = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._zap: _Socket = context.socket(zmq.REP)
        self._zap.setsockopt(zmq.LINGER, 0)
        self._zap.bind(_ZAP_ADDRESS)
        self._look(time.monotonic())

    def start(self, sockets: Sequence[_Socket], failed: Callable[[BaseException], None]) -> None:
        """Answer for these bound sockets from now on. `failed` is told what ended the thread."""
        if self.keys is None:
            return
        self._watched = sockets
        self._monitors = [socket.get_monitor_socket(_FAILED | zmq.EVENT_ACCEPTED) for socket in sockets]
        self._connections = Connections(socket.getsockopt_string(zmq.LAST_ENDPOINT) for socket in sockets)
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._first_own = limit - max(_OWN_DESCRIPTORS, limit // 8)
        self._thread = threading.Thread(target=self._run, args=(failed,), name="gate", daemon=True)
        self._thread.start()
        self._log.info("keys_in_force", server_key=self.keys.own.public, allowed=len(self._allowed.names))

    def close(self) -> None:
        """Nobody gets in any more. Idempotent."""
        if self.keys is None or self._stop < 0:
            return
        if self._thread is not None:
            os.eventfd_write(self._stop, 1)
            self._thread.join(_STOP_S)
        for socket in self._watched:
            if not socket.closed:
                socket.disable_monitor()
        for socket in (*self._monitors, self._zap):
            socket.close(0)
        os.close(self._stop)
        self._stop = -1

    def _run(self, failed: Callable[[BaseException], None]) -> None:
        try:
            poller = zmq.Poller()
            poller.register(self._stop, zmq.POLLIN)
            for socket in (self._zap, *self._monitors):
                poller.register(socket, zmq.POLLIN)
            while True:
                ready = dict(poller.poll(round(_LOOK_EVERY_S * 1_000)))
                if self._stop in ready:
                    return
                self._look(time.monotonic())
                if self._zap in ready:
                    self._answer()
                for monitor in self._monitors:
                    if monitor in ready:
                        self._read(monitor)
        except BaseException as error:  # noqa: BLE001 (who owns the thread decides)
            failed(error)

    # Who is allowed

    def _look(self, now: float) -> None:
        """See whether the folder has changed; cut all connections when somebody is no longer allowed."""
        if now < self._look_at:
            return
        self._look_at = now + _LOOK_EVERY_S
        change = self._allowed.look()
        for problem in change.problems:
            self._log.warning("key_unusable", reason=problem)
        if self._thread is None or not (change.come or change.gone):
            return
        self._log.info("keys_changed", allowed=len(self._allowed.names), new=change.come, revoked=change.gone)
        if change.gone:
            self._log.info("connections_cut", count=self._connections.cut_all())

    def _answer(self) -> None:
        """One question of libzmq's: may who has this key come in?"""
        version, request, *rest = self._zap.recv_multipart(zmq.NOBLOCK)
        _, address, _, mechanism, *credentials = rest if len(rest) >= _ZAP_FRAMES - 2 else (b"",) * 4
        name = None
        if version == _ZAP_VERSION and mechanism == b"CURVE" and len(credentials) == 1:
            key = z85.encode(credentials[0]).decode()
            name = self._allowed.names.get(key)
            if name is None:
                self._refuse(NOT_ALLOWED, client_key=key, address=address.decode("ascii", "replace"))
        code, text = (b"200", b"OK") if name is not None else (b"400", b"This key is not allowed")
        self._zap.send_multipart([_ZAP_VERSION, request, code, text, (name or "").encode(), b""])

    # Who did not get that far

    def _read(self, monitor: _Socket) -> None:
        """What has come, up to a bounded number: who is allowed does not wait for the others."""
        for _ in range(_EVENTS_AT_ONCE):
            try:
                event, value = _EVENT.unpack(monitor.recv_multipart(zmq.NOBLOCK)[0])
            except zmq.Again:
                return
            self._note(event, value)

    def _note(self, event: int, value: int) -> None:
        if event == zmq.EVENT_ACCEPTED:  # the kernel gives the lowest number that is free: those below are all in use
            if value >= self._first_own and self._connections.cut(value):
                self._refuse(NO_ROOM)
        elif event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
            mismatch = value == zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH
            self._refuse(NO_CURVE if mismatch else WRONG_SERVER_KEY)
        elif event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
            self._refuse(UNFINISHED)

    def _refuse(self, reason: str, **fields: str) -> None:
        """Count it, and log the first, then how many more, now and then: knocking must not fill the log."""
        self.refused[reason] += 1
        self._unsaid += 1
        now = time.monotonic()
        if now >= self._say_at:
            self._say_at = now + _SAY_EVERY_S
            self._log.warning("connection_refused", reason=reason, count=self._unsaid, **fields)
            self._unsaid = 0
