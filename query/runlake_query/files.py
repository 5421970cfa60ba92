"""Answers that are files: sent in pieces, to clients that take them; the file is gone from the folder at once."""

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
    """Send a file and remove it. Its disk space is free again once it was sent, or the client left or stalled."""
    file = await asyncio.to_thread(path.open, "rb")
    try:
        path.unlink()
        response = web.StreamResponse(headers=headers)
        response.content_length = await asyncio.to_thread(file.seek, 0, 2)
        await asyncio.to_thread(file.seek, 0)
        await response.prepare(request)
        while piece := await asyncio.to_thread(file.read, _PIECE_BYTES):
            try:
                async with asyncio.timeout(stall_s):
                    await response.write(piece)
            except TimeoutError:
                if request.transport is not None:
                    request.transport.abort()
                raise ConnectionResetError("the client takes nothing") from None
        await response.write_eof()
        return response
    finally:
        file.close()
