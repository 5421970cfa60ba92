"""Whether an address that a process is to listen on is free."""

from __future__ import annotations

import errno
import socket
from urllib.parse import urlsplit


def taken(address: str) -> str | None:
    """Why `host:port` or `tcp://host:port` cannot be listened on now, or None when it can.

    Port 0 (any free one) and ipc:// addresses can always.
    """
    if address.startswith("ipc://"):
        return None
    parts = urlsplit(address if "://" in address else f"//{address}")
    host, port = parts.hostname or "", parts.port or 0
    if port == 0:
        return None
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(target)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return "another program listens there"
        return error.strerror or str(error)
    return None
