"""Keys of CURVE for tests: a worker's folder of them, clients, and what becomes of a connection."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from struct import Struct

import zmq

from runlake.cli.keyfiles import make_key_folder, new_pair, write_pair, write_public
from runlake.curve import ClientKeys, KeyPair
from runlake.keyfolder import KeyFolder

_EVENT = Struct("=Hi")
_FAILED = {
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL,
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL,
    zmq.EVENT_HANDSHAKE_FAILED_AUTH,
}
_HANDSHAKE_MS = 30_000


class Keys:
    """The keys of the worker on `data`, and of clients; files of clients are in `folder`."""

    def __init__(self, data: Path, folder: Path) -> None:
        self.folder = KeyFolder(data / "keys")
        self._clients = folder
        make_key_folder(self.folder.allowed_folder, 0o700)
        make_key_folder(folder, 0o700)
        self.server = new_pair()
        write_pair(self.folder.path, "server", self.server)

    def client(self, name: str, *, allowed: bool = True) -> ClientKeys:
        """A client with a pair of its own in `<folder>/NAME.key_secret`."""
        pair = new_pair()
        write_pair(self._clients, name, pair)
        if allowed:
            self.allow(name, pair)
        return ClientKeys(self.server.public, pair)

    def allow(self, name: str, pair: KeyPair) -> None:
        write_public(self.folder.allowed_folder / f"{name}.key", pair.public)

    def variables(self, name: str) -> dict[str, str]:
        """What a client's processes are told."""
        secret = self._clients / f"{name}.key_secret"
        return {"RUNLAKE_SERVER_KEY": self.server.public, "RUNLAKE_CLIENT_KEY": str(secret)}


class Knock:
    """One socket of a client that connects once, and sees whether it is let in."""

    def __init__(self, socket: zmq.Socket[bytes], monitor: zmq.Socket[bytes]) -> None:
        self.socket = socket
        self._monitor = monitor

    def let_in(self) -> bool:
        """Whether the handshake succeeded; waits until it has ended."""
        while True:
            event = self._next()
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED or event in _FAILED:
                return event == zmq.EVENT_HANDSHAKE_SUCCEEDED

    def cut(self) -> bool:
        """Wait until the connection has ended."""
        while self._next() != zmq.EVENT_DISCONNECTED:
            pass
        return True

    def _next(self) -> int:
        assert self._monitor.poll(_HANDSHAKE_MS), "nothing became of the connection"
        return int(_EVENT.unpack(self._monitor.recv_multipart()[0])[0])


@contextmanager
def knocking(endpoint: str, kind: int, keys: ClientKeys | None) -> Iterator[Knock]:
    """Connect a socket of this kind, with these keys or none."""
    with zmq.Context() as context:
        socket = context.socket(kind)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RECONNECT_IVL, -1)
        if kind == zmq.SUB:
            socket.subscribe(b"")
        monitor = socket.get_monitor_socket()
        if keys is not None:
            keys.apply(socket)
        socket.connect(endpoint)
        try:
            yield Knock(socket, monitor)
        finally:
            socket.disable_monitor()
            monitor.close(0)
            socket.close(0)
