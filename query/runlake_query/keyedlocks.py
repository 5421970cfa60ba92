"""Locks by key: two requests that speak of one id take turns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from uuid import UUID


class _Entry:
    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.users = 0


class KeyedLocks:
    """On the event loop. A key takes memory only while somebody holds it or waits for it."""

    def __init__(self) -> None:
        self._entries: dict[UUID, _Entry] = {}

    @asynccontextmanager
    async def hold(self, key: UUID) -> AsyncIterator[None]:
        """Hold the lock of this key for as long as the block runs."""
        entry = self._entries.setdefault(key, _Entry())
        entry.users += 1
        try:
            async with entry.lock:
                yield
        finally:
            entry.users -= 1
            if not entry.users:
                del self._entries[key]

    @asynccontextmanager
    async def hold_all(self, keys: Iterable[UUID]) -> AsyncIterator[None]:
        """Hold the locks of all keys; taken in one order by everybody, so that nobody waits in a circle."""
        async with AsyncExitStack() as stack:
            for key in sorted(set(keys)):
                await stack.enter_async_context(self.hold(key))
            yield
