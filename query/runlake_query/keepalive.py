"""A connection that is sent nothing: says that it is still here, and notices when the other side is not."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from aiohttp import web

from runlake_query.subscriber import Subscriber

_LOOK_EVERY_S = 1.0


class Keepalive:
    """One timer of the event loop. Use as a context manager, and say `wrote` after each write."""

    def __init__(self, request: web.Request, subscriber: Subscriber, heartbeat_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._request = request
        self._subscriber = subscriber
        self._heartbeat_s = heartbeat_s
        self._written_at = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None

    def due(self) -> bool:
        """Whether nothing was written for as long as may be."""
        return self._loop.time() - self._written_at >= self._heartbeat_s

    def wrote(self) -> None:
        self._written_at = self._loop.time()

    def _look(self) -> None:
        transport = self._request.transport
        if transport is None or transport.is_closing():
            self._subscriber.leave()
            return
        if self.due():
            self._subscriber.wake.set()
        self._timer = self._loop.call_later(min(_LOOK_EVERY_S, self._heartbeat_s), self._look)

    def __enter__(self) -> Self:
        self._look()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
