"""Cutting the connections that ZeroMQ accepted.

libzmq has no call for it. Closing its sockets would do, but also throw away what waits in them, and number the peers
anew. A connection that is shut down below it (shutdown(2)) is one that the other side ended: libzmq reads what had come
and lets go of it.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterable
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import urlsplit

_DESCRIPTORS = Path("/proc/self/fd")
_EVERYWHERE = ("0.0.0.0", "::")


class Connections:
    """Those that this process accepted at these endpoints (as ZMQ_LAST_ENDPOINT has them). Who listens goes on
    listening."""

    def __init__(self, endpoints: Iterable[str] = ()) -> None:
        self._paths = set()
        self._ports = set()
        for endpoint in endpoints:
            if endpoint.startswith("ipc://"):
                self._paths.add(endpoint.removeprefix("ipc://"))
            else:
                parts = urlsplit(endpoint)
                self._ports.add((parts.hostname or "", parts.port or 0))

    def cut_all(self) -> int:
        """End every one; returns how many."""
        return sum(self.cut(int(entry.name)) for entry in _DESCRIPTORS.iterdir())

    def cut(self, descriptor: int) -> bool:
        """End the one that has this descriptor, if it is one of them; whether it was."""
        with suppress(OSError):  # closed meanwhile, no socket, or not connected
            # A copy: the number may become another file's at any time, what the copy refers to stays the same.
            copy = os.dup(descriptor)
            if not stat.S_ISSOCK(os.fstat(copy).st_mode):
                os.close(copy)
                return False
            with closing(socket.socket(fileno=copy)) as connection:
                connection.getpeername()
                if self._has(connection):
                    connection.shutdown(socket.SHUT_RDWR)
                    return True
        return False

    def _has(self, connection: socket.socket) -> bool:
        own = connection.getsockname()
        if connection.family == socket.AF_UNIX:
            return own in self._paths
        if connection.family not in (socket.AF_INET, socket.AF_INET6):
            return False
        host, port = own[:2]
        return any(port == bound and (host == at or at in _EVERYWHERE) for at, bound in self._ports)
