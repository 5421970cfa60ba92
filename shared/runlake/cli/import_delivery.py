"""Sends an import's messages, in order and a few batches ahead, and hears what became of each. For one thread.

The books and the links are the SDK's (`outbox.py`, `link.py`): a link that is lost is closed, and the next one
starts from the oldest unacknowledged batch.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime
from random import Random
from types import TracebackType
from typing import Self

import zmq

from runlake import wire
from runlake.backoff import Backoff
from runlake.cli.failure import CommandFailed
from runlake.curve import ClientKeys
from runlake.errors import WireError
from runlake.link import DESCRIPTORS_NEEDED, Link, LinkState, enough_descriptors
from runlake.outbox import Outbox

_IN_FLIGHT = 8
_PATIENCE_S = 60.0
_WAIT_MS = 100
OnAck = Callable[[wire.Ack], None]


class ImportDelivery:
    """One producer. Every method raises CommandFailed when the worker is silent for `patience_s` seconds."""

    def __init__(
        self, endpoint: str, producer: str, patience_s: float = _PATIENCE_S, keys: ClientKeys | None = None
    ) -> None:
        self._endpoint = endpoint
        self._keys = keys
        self._patience_s = patience_s
        self._outbox = Outbox(producer)
        self._heard: deque[tuple[int, OnAck]] = deque()
        self._backoff = Backoff(Random())
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._link: Link | None = None
        self._retry_at = 0.0

    def send(self, messages: Sequence[bytes], on_ack: OnAck, received_at: datetime | None = None) -> None:
        """Send a batch; `on_ack` is called with its ack, in the order of sending, now or later. Blocks while enough is
        on its way. `received_at`: when these messages of a log were first received."""
        self._outbox.seal(messages, received_at=received_at)
        self._heard.append((self._outbox.sealed, on_ack))
        self._work_until(lambda: len(self._heard) < _IN_FLIGHT)

    def finish(self) -> None:
        """Wait until everything is acknowledged."""
        self._work_until(lambda: not self._heard)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._link is not None:
            self._link.close()
        if self._context is not None:
            self._context.destroy(linger=0)

    def _work_until(self, enough: Callable[[], bool]) -> None:
        deadline = time.monotonic() + self._patience_s
        while not enough():
            if self._turn():
                deadline = time.monotonic() + self._patience_s
            if time.monotonic() >= deadline:
                raise CommandFailed(
                    f"the ingest worker at {self._endpoint} has not answered for {self._patience_s:g} s. Run the same"
                    " command again when it does: it goes on where it was."
                )

    def _turn(self) -> bool:
        """Send, wait a moment, and listen. Returns whether something was acknowledged."""
        link = self._link
        if link is None:
            time.sleep(max(0.0, self._retry_at - time.monotonic()))
            link = self._link = self._open()
        while link.state is LinkState.OPEN and (batch := self._outbox.next_waiting()) and link.send(batch.frames):
            self._outbox.mark_sent()
        link.wait(_WAIT_MS)
        heard = False
        while (frames := link.receive()) is not None:
            heard = self._take(frames) or heard
        if link.state is LinkState.LOST:
            link.close()
            self._link = None
            self._outbox.rewind()
            self._retry_at = time.monotonic() + self._backoff.delay_s()
        return heard

    def _open(self) -> Link:
        if not enough_descriptors():
            raise CommandFailed(
                f"fewer than {DESCRIPTORS_NEEDED} more files can be opened here; raise the limit (ulimit -n)"
            )
        if self._context is None:
            self._context = zmq.Context()
        return Link(self._context, self._endpoint, self._keys)

    def _take(self, frames: list[bytes]) -> bool:
        try:
            reply = wire.decode_reply(frames[-1])
        except WireError as error:
            raise CommandFailed(
                f"what answers at {self._endpoint} is no ingest worker of this version: {error}"
            ) from None
        if isinstance(reply, wire.Refused):
            raise CommandFailed(f"the ingest worker refused a batch: {reply.reason}")
        if not isinstance(reply, wire.Ack) or self._outbox.settle(reply.batch) is None:
            return False
        _, on_ack = self._heard.popleft()
        on_ack(reply)
        self._backoff.reset()
        return True
