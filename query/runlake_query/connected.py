"""Work for a client that may leave: it is ended when the client has gone."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from aiohttp import web

T = TypeVar("T")
_LOOK_EVERY_S = 0.25


async def while_connected(request: web.Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`; it is cancelled, and ConnectionResetError raised, once the client has gone."""
    task = asyncio.ensure_future(work)
    try:
        while True:
            await asyncio.wait([task], timeout=_LOOK_EVERY_S)
            if task.done():
                return task.result()
            if request.transport is None or request.transport.is_closing():
                raise ConnectionResetError("the client has gone")
    finally:
        if not task.done():
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task
