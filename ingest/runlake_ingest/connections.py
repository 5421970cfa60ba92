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


def cut_connections(endpoints: Iterable[str]) -> int:
    """End every connection that this process accepted at these endpoints (as ZMQ_LAST_ENDPOINT has them); returns how
    many. Those who listen go on listening."""
    paths = set()
    ports = set()
    for endpoint in endpoints:
        if endpoint.startswith("ipc://"):
            paths.add(endpoint.removeprefix("ipc://"))
        else:
            parts = urlsplit(endpoint)
            ports.add((parts.hostname or "", parts.port or 0))
    cut = 0
    for descriptor in _DESCRIPTORS.iterdir():
        with suppress(OSError):  # closed meanwhile, no socket, or not connected
            # A copy: the number may become another file's at any time, what the copy refers to stays the same.
            copy = os.dup(int(descriptor.name))
            if not stat.S_ISSOCK(os.fstat(copy).st_mode):
                os.close(copy)
                continue
            with closing(socket.socket(fileno=copy)) as connection:
                connection.getpeername()
                if _is_at(connection, paths, ports):
                    connection.shutdown(socket.SHUT_RDWR)
                    cut += 1
    return cut


def _is_at(connection: socket.socket, paths: set[str], ports: set[tuple[str, int]]) -> bool:
    own = connection.getsockname()
    if connection.family == socket.AF_UNIX:
        return own in paths
    if connection.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    host, port = own[:2]
    return any(port == bound and (host == at or at in _EVERYWHERE) for at, bound in ports)
