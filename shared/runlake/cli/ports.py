"""What can be said of an address without asking who is there: is it free, taken, or another machine's?"""

from __future__ import annotations

import errno
import socket
from urllib.parse import urlsplit


def taken(address: str) -> str | None:
    """Why `host:port` or `tcp://host:port` cannot be listened on now, or None when it can.

    Port 0 (any free one) and ipc:// addresses can always.
    """
    error = _refusal(address)
    if error is None:
        return None
    return "another program listens there" if error.errno == errno.EADDRINUSE else error.strerror or str(error)


def listened_on(address: str) -> bool:
    """Whether a program of this machine listens there. Of an ipc:// address, and of a port that is not for this user,
    that is not known: True."""
    error = _refusal(address)
    return address.startswith("ipc://") or (error is not None and error.errno in (errno.EADDRINUSE, errno.EACCES))


def elsewhere(address: str) -> bool:
    """Whether the address is not one of this machine's: another's, or a name that is not known here."""
    error = _refusal(address)
    return isinstance(error, socket.gaierror) or (error is not None and error.errno == errno.EADDRNOTAVAIL)


def _refusal(address: str) -> OSError | None:
    """What happens to who tries to listen there; None when that would do."""
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
        return error
    return None
