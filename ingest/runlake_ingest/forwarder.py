"""What bare pushers sent to a worker whose it is not goes on to its home: acknowledged there, in order, from memory.

Nothing else is promised to who pushes: what is handed on and not delivered yet is lost with this process, and what
there is no room for (100,000 messages, 64 MiB) is dropped, and counted.
"""

from __future__ import annotations

from collections.abc import Sequence

from runlake.emitter import Emitter
from runlake.messages import Message
from runlake.wire import Workers


class Forwarder:
    """Of one thread, but for `dropped`. The sender is made with the first message: most workers never need one."""

    def __init__(self, own: str, server_key: str | None = None, client_key: str | None = None) -> None:
        """`own`: where this worker is reached itself, which always knows the list. With the keys that the other workers
        ask for, where they do."""
        self._own = own
        self._server_key, self._client_key = server_key, client_key
        self._emitter: Emitter | None = None

    def forward(self, workers: Workers, messages: Sequence[Message]) -> None:
        """Deliver messages to their homes, which are among these workers or those that follow them."""
        if self._emitter is None:
            endpoints = ",".join([*(member.endpoint for member in workers.members), self._own])
            self._emitter = Emitter(
                endpoints, spool="off", exit_timeout_s=0, server_key=self._server_key, client_key=self._client_key
            )
        for message in messages:
            self._emitter.emit(message)

    @property
    def dropped(self) -> int:
        """How many messages were dropped, or refused by their home for lack of an answer in time."""
        return sum(self._emitter.stats().dropped.values()) if self._emitter is not None else 0

    def close(self, timeout: float) -> None:
        """Deliver what is waiting, for so many seconds at most."""
        if self._emitter is not None:
            self._emitter.close(timeout)
