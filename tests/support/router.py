"""A real ROUTER socket in the worker's place, which answers batches as a test scripts it.

The script runs on the router's thread: it gets each batch and returns the replies to send, or raises `Die` to have the
socket closed at once, as a killed worker's is, and bound again, as by the next worker. What it must remember, like a
worker its journal, it keeps outside of the router.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self
from uuid import UUID

import zmq

from runlake import wire
from runlake.messages import Message

WORKER = UUID("0190a1b2-0000-7000-8000-000000000001")


class Die(Exception):  # noqa: N818 (an order, not an error)
    """Close the socket with all that is in it, and bind a new one."""


class Received(NamedTuple):
    """A batch as it arrived."""

    header: wire.Batch
    payload: bytes

    @property
    def messages(self) -> list[Message]:
        return wire.decode_payload(self.payload)


Script = Callable[[Received], Iterable[wire.Reply | bytes]]


def ack(header: wire.Batch, *, credit: int = 16, duplicate: Iterable[int] = (), rejected: Iterable[wire.Rejection] = ()
        ) -> wire.Ack:  # fmt: skip
    """An acknowledgement of a batch."""
    twice, wrong = list(duplicate), list(rejected)
    return wire.Ack(
        batch=header.batch,
        worker=WORKER,
        first_seq=header.first,
        accepted=header.count - len(twice) - len(wrong),
        received_at=datetime.now(UTC),
        credit=credit,
        duplicate=twice,
        rejected=wrong,
    )


def accept(received: Received) -> list[wire.Reply | bytes]:
    """The script of a worker without troubles."""
    return [ack(received.header)]


class Ledger:
    """What a worker would keep on disk: every message once, in the order of its first acceptance."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._ids: set[UUID] = set()

    def accept(self, received: Received, credit: int = 16) -> wire.Ack:
        """Take in a batch, and acknowledge it."""
        duplicate = []
        for index, message in enumerate(received.messages):
            if message.event_id in self._ids:
                duplicate.append(index)
            else:
                self._ids.add(message.event_id)
                self.messages.append(message)
        return ack(received.header, credit=credit, duplicate=duplicate)


class Router:
    """Binds an endpoint and serves it from a thread, until the `with` block ends."""

    def __init__(self, endpoint: str, script: Script = accept, workers: wire.Workers | None = None) -> None:
        """`workers`: what it says when it is asked which workers there are; None: that it does not know the question,
        as workers did that were older than it."""
        self.received: list[Received] = []
        self.asked = 0
        """How often it was asked which workers there are."""
        self.workers = workers
        self.silent = False
        """Whether it leaves that question unanswered."""
        self.failure: BaseException | None = None
        self._script = script
        self._stop = threading.Event()
        self._context = zmq.Context()
        self._socket = self._bind(endpoint)
        self.endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self._thread = threading.Thread(target=self._serve, name="router", daemon=True)
        self._thread.start()

    @property
    def messages(self) -> list[Message]:
        """All messages, as often as they arrived."""
        return [message for received in list(self.received) for message in received.messages]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop, with all that is still in the socket, and raise what went wrong in the script."""
        self._stop.set()
        self._thread.join()
        self._context.destroy(0)
        if self.failure is not None:
            raise self.failure

    def _bind(self, endpoint: str) -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = self._context.socket(zmq.ROUTER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        try:
            socket.bind(endpoint)
        except zmq.ZMQError:
            socket.close(0)
            raise
        return socket

    def _serve(self) -> None:
        try:
            while not self._stop.is_set():
                if self._socket.poll(5):
                    self._answer(*self._socket.recv_multipart())
        except BaseException as error:  # noqa: BLE001 (raised again by close)
            self.failure = error

    def _answer(self, peer: bytes, *frames: bytes) -> None:
        header = wire.decode_request(frames[0])
        if isinstance(header, wire.WorkersRequest):
            self.asked += 1
            if self.silent:
                return
            answer = self.workers or wire.Refused(reason="The header cannot be read: Invalid value 'workers?'")
            self._socket.send_multipart((peer, wire.encode_frame(answer)))
            return
        assert isinstance(header, wire.Batch)
        received = Received(header, frames[1])
        self.received.append(received)
        try:
            for reply in self._script(received):
                frame = reply if isinstance(reply, bytes) else wire.encode_frame(reply)
                self._socket.send_multipart((peer, frame))
        except Die:
            self._socket.close(0)
            self._rebind()

    def _rebind(self) -> None:
        while not self._stop.wait(0.001):  # a closed socket gives its address back a moment later
            try:
                self._socket = self._bind(self.endpoint)
                return
            except zmq.ZMQError as error:
                if error.errno != zmq.EADDRINUSE:
                    raise


def ipc(folder: Path, name: str = "worker") -> str:
    """An endpoint in a test's own folder."""
    return f"ipc://{folder / name}"
