"""Between a worker and the PostgreSQL of its catalog: passes everything on, but for a COMMIT that is to be lost, or the
answer to one.

It reads the messages of the protocol (PostgreSQL's manual, "Frontend/Backend Protocol"), so that it strikes exactly
there: between the server's having committed and the client's learning of it. TLS is refused by the test servers.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from support.postgres import SYNCHRONOUS

FLUSH = b"inserted_into_table"
MERGE = b"merge_adjacent"
REMOVAL = b"deleted_from_table"
"""What a transaction of each kind tells the catalog that it did."""
Loss = Literal["answer", "commit"]
_COMMIT = b"COMMIT\0"
_ENCRYPTION = (80877103, 80877104)
_STEP_S = 20.0


class CatalogProxy:
    """Use as a context manager. `url`: of the database, as its clients would have it. For any thread."""

    def __init__(self, url: str, host: str = "127.0.0.1") -> None:
        self._server = urlsplit(url)
        self._host = host
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="catalogproxy")
        self._connections: set[_Connection] = set()
        self._armed: list[tuple[Loss, bytes]] = []
        self.lost = 0
        """How many COMMITs, or answers, were lost."""
        self.url = ""
        """The same database, through the proxy; `Postgres.commits_wait` holds up who uses it."""
        self.away = False
        """Whether who connects is turned away; `cut` ends those who have."""

    def lose(self, what: Loss, of: bytes) -> None:
        """End the connection instead of passing on the next COMMIT, or the answer to it, of a transaction that told the
        server `of`. Besides what is to be lost already."""
        self._armed.append((what, of))

    def cut(self) -> None:
        """End all connections, at both ends."""
        self._do(self._cut())

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._start())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def strikes(self, what: Loss, told: bytes) -> bool:
        """Whether what passes now is what is to be lost; once."""
        for armed in self._armed:
            if armed[0] == what and armed[1] in told:
                self._armed.remove(armed)
                self.lost += 1
                return True
        return False

    def _do(self, step: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(step, self._loop).result(_STEP_S)

    async def _start(self) -> None:
        self._listener = await asyncio.start_server(self._accept, self._host, 0)
        port = self._listener.sockets[0].getsockname()[1]
        user, _, _ = self._server.netloc.rpartition("@")
        self.url = self._server._replace(netloc=f"{user}@{self._host}:{port}", query=SYNCHRONOUS).geturl()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.away:
            writer.transport.abort()
            return
        connection = _Connection(self.strikes)
        self._connections.add(connection)
        try:
            with suppress(OSError):
                await connection.run(reader, writer, self._server.hostname or "", self._server.port or 5432)
        finally:
            self._connections.discard(connection)

    async def _cut(self) -> None:
        for connection in list(self._connections):
            connection.cut()

    async def _end(self) -> None:
        self._listener.close()
        await self._cut()
        while self._connections:
            await asyncio.sleep(0.01)


class _Connection:
    def __init__(self, strikes: Callable[[Loss, bytes], bool]) -> None:
        self._strikes = strikes
        self._ends: list[asyncio.StreamWriter] = []
        self._told = b""
        self._bare_answers = 0
        """How many answers of one byte, without a frame, the server has yet to give: to who asks for encryption."""

    async def run(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter, host: str, port: int) -> None:
        self._ends.append(to_client)
        try:
            server, to_server = await asyncio.open_connection(host, port)
            self._ends.append(to_server)
            await asyncio.gather(self._requests(client, to_server), self._answers(server, to_client))
        finally:
            self.cut()
            for end in self._ends:
                with suppress(OSError):
                    await end.wait_closed()

    def cut(self) -> None:
        for end in self._ends:
            end.transport.abort()

    async def _requests(self, client: asyncio.StreamReader, server: asyncio.StreamWriter) -> None:
        begun = False
        try:
            while True:
                kind = await client.readexactly(1) if begun else b""
                length = await client.readexactly(4)
                body = await client.readexactly(int.from_bytes(length, "big") - 4)
                if not begun:
                    asks = int.from_bytes(body[:4], "big") in _ENCRYPTION
                    self._bare_answers += asks
                    begun = not asks
                elif kind == b"Q" and body == _COMMIT and self._strikes("commit", self._told):
                    return
                self._told = b"" if body.startswith(b"BEGIN") else self._told + body
                server.write(kind + length + body)
                await server.drain()
        except asyncio.IncompleteReadError:
            pass
        finally:
            self.cut()

    async def _answers(self, server: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        try:
            while True:
                kind = await server.readexactly(1)
                if self._bare_answers:
                    self._bare_answers -= 1
                    client.write(kind)
                    continue
                length = await server.readexactly(4)
                body = await server.readexactly(int.from_bytes(length, "big") - 4)
                if kind == b"C" and body == _COMMIT and self._strikes("answer", self._told):
                    return
                client.write(kind + length + body)
                await client.drain()
        except asyncio.IncompleteReadError:
            pass
        finally:
            self.cut()
