"""The worker's sockets, with every limit that ZeroMQ leaves open set on purpose."""

from __future__ import annotations

import stat
from pathlib import Path
from socket import AF_UNIX
from socket import socket as UnixSocket  # noqa: N812

import zmq

from runlake import wire
from runlake.addresses import is_loopback
from runlake.curve import ServerKeys
from runlake.errors import SettingsError
from runlake.settings import Settings, variable

LINGER_MS = 1_000
"""How long the last acks may take to leave when the worker stops."""
_BACKLOG = 4_096
_KEEPALIVE_IDLE_S = 30
_KEEPALIVE_INTERVAL_S = 10
_KEEPALIVE_COUNT = 3
_FEED_GROUPS = 64
_HANDSHAKE_MS = 10_000
"""How long who has not shown a key yet may take a descriptor."""


def bind_router(
    context: zmq.Context[zmq.Socket[bytes]], settings: Settings, keys: ServerKeys | None = None
) -> zmq.Socket[bytes]:
    """The acknowledged socket. Raises SettingsError when its address cannot be bound, or is open without keys."""
    socket = _socket(context, zmq.ROUTER, settings)
    socket.setsockopt(zmq.ROUTER_MANDATORY, 1)  # an ack without its peer is an error that is counted, not a silent drop
    socket.setsockopt(zmq.SNDHWM, 4 * settings.credit)
    return _bound(socket, "ingest_bind", settings.ingest_bind, keys)


def bind_pull(
    context: zmq.Context[zmq.Socket[bytes]], settings: Settings, keys: ServerKeys | None = None
) -> zmq.Socket[bytes]:
    """The socket of the bare pushers. Raises SettingsError as `bind_router` does."""
    return _bound(_socket(context, zmq.PULL, settings), "push_bind", settings.push_bind, keys)


def bind_feed(
    context: zmq.Context[zmq.Socket[bytes]], settings: Settings, keys: ServerKeys | None = None
) -> zmq.Socket[bytes]:
    """The feed. A listener that does not keep up loses messages here, and reads the lake instead."""
    socket = context.socket(zmq.PUB)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.SNDHWM, _FEED_GROUPS)  # for each listener
    return _bound(socket, "feed_bind", settings.feed_bind, keys)


def _socket(context: zmq.Context[zmq.Socket[bytes]], kind: int, settings: Settings) -> zmq.Socket[bytes]:
    socket = context.socket(kind)
    socket.setsockopt(zmq.LINGER, LINGER_MS)
    socket.setsockopt(zmq.MAXMSGSIZE, wire.MAX_FRAME_BYTES)
    socket.setsockopt(zmq.RCVHWM, 2 * settings.credit)  # for each peer; one that keeps to its credit never fills it
    socket.setsockopt(zmq.BACKLOG, _BACKLOG)
    # Not ZMQ_HEARTBEAT_IVL: libzmq 4.3 aborts the process when its timer fires for a peer that left while its pipe was
    # full (stream_engine_base.cpp, "!_io_error"). Producers ping us; TCP tells of hosts that vanished.
    socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
    socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, _KEEPALIVE_IDLE_S)
    socket.setsockopt(zmq.TCP_KEEPALIVE_INTVL, _KEEPALIVE_INTERVAL_S)
    socket.setsockopt(zmq.TCP_KEEPALIVE_CNT, _KEEPALIVE_COUNT)
    return socket


def _bound(socket: zmq.Socket[bytes], setting: str, address: str, keys: ServerKeys | None) -> zmq.Socket[bytes]:
    if keys is None and not is_loopback(address):  # `Settings.server_keys` has said so before, and how to mend it
        socket.close(linger=0)
        raise SettingsError(f"{variable(setting)}: {address!r} can be reached from other machines, and has no keys")
    try:
        if keys is not None:
            keys.apply(socket)
            socket.setsockopt(zmq.HANDSHAKE_IVL, _HANDSHAKE_MS)
        if _somebody_listens(address):
            raise zmq.ZMQError(zmq.EADDRINUSE)
        socket.bind(address)
        _share_with_group(address)
    except zmq.ZMQError as error:
        socket.close(linger=0)
        raise SettingsError(
            f"{variable(setting)}: cannot listen on {address!r}: {error.strerror}."
            " Stop what uses it, or give this worker another address."
        ) from error
    return socket


def _share_with_group(address: str) -> None:
    """A folder with the set-group-ID bit is there to be shared with its group, and so are the sockets in it; others are
    for the worker's own user, as the umask says."""
    path = Path(address.removeprefix("ipc://"))
    if address.startswith("ipc://") and path.is_socket() and path.parent.stat().st_mode & stat.S_ISGID:
        path.chmod(0o660)


def _somebody_listens(address: str) -> bool:
    """ZeroMQ takes an ipc path away from whoever listens there, without a word; so it is asked first."""
    if not address.startswith("ipc://"):
        return False
    with UnixSocket(AF_UNIX) as probe:
        return probe.connect_ex(address.removeprefix("ipc://")) == 0
