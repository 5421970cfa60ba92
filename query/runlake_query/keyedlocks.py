"""Locks by key: two requests that speak of one id take turns."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from types import TracebackType
from uuid import UUID

_Waiting = deque[asyncio.Future[None]]


class KeyedLocks:
    """On the event loop. A key takes memory only while somebody holds it or waits for it. First come, first served."""

    def __init__(self) -> None:
        self._held: dict[UUID, _Waiting] = {}

    def hold(self, key: UUID) -> Hold:
        """`async with` it: hold the lock of this key for as long as the block runs."""
        return Hold(self._held, key)

    @asynccontextmanager
    async def hold_all(self, keys: Iterable[UUID]) -> AsyncIterator[None]:
        """Hold the locks of all keys; taken in one order by everybody, so that nobody waits in a circle."""
        async with AsyncExitStack() as stack:
            for key in sorted(set(keys)):
                await stack.enter_async_context(self.hold(key))
            yield


class Hold:
    """The lock of one key, once. Free, it costs a look into a dictionary: nearly all ids are spoken of once."""

    def __init__(self, held: dict[UUID, _Waiting], key: UUID) -> None:
        self._held = held
        self._key = key

    async def __aenter__(self) -> None:
        waiting = self._held.get(self._key)
        if waiting is None:
            self._held[self._key] = deque()
            return
        turn = asyncio.get_running_loop().create_future()
        waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it had become ours
                self._pass_on()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pass_on()

    def _pass_on(self) -> None:
        waiting = self._held[self._key]
        while waiting:
            turn = waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        del self._held[self._key]
