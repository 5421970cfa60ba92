"""Answers that are files: sent in pieces, to clients that take them; a file is gone from its folder at once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from aiohttp import web

_PIECE_BYTES = 256 * 1024
STALL_S = 60.0
"""How long a client may take nothing, until it is dropped."""


async def send_file(
    request: web.Request, path: Path, headers: Mapping[str, str], stall_s: float = STALL_S
) -> web.StreamResponse:
    """Send a file as the answer, and remove it. Its disk space is free again once it was sent, or the client left or
    stalled."""
    response = web.StreamResponse(headers=headers)
    response.content_length = await asyncio.to_thread(lambda: path.stat().st_size)
    await send_part(request, response, path, stall_s)
    await response.write_eof()
    return response


async def send_part(request: web.Request, response: web.StreamResponse, path: Path, stall_s: float = STALL_S) -> None:
    """Send a file as a part of an answer, which begins with it or has begun, and remove it.

    Raises ConnectionResetError, OSError.
    """
    file = await asyncio.to_thread(path.open, "rb")
    try:
        path.unlink()
        if not response.prepared:
            await response.prepare(request)
        while piece := await asyncio.to_thread(file.read, _PIECE_BYTES):
            try:
                async with asyncio.timeout(stall_s):
                    await response.write(piece)
            except TimeoutError:
                break_off(request)
                raise ConnectionResetError("the client takes nothing") from None
    finally:
        file.close()


def break_off(request: web.Request) -> None:
    """End the connection in the midst of an answer, so that the client notices that it is not all."""
    if request.transport is not None:
        request.transport.abort()
