"""A client of server-sent events for tests: one connection, read on a thread."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse
from time import perf_counter
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

from runlake.cli.follow import Told, read_events
from support.processes import wait_until


class Stream:
    """Reads a stream until it ends or is closed. Use as a context manager."""

    def __init__(
        self,
        url: str,
        path: str = "/api/v1/stream",
        *,
        last: str | None = None,
        paused: bool = False,
        headers: dict[str, str] | None = None,
        **parameters: Any,
    ) -> None:
        self._connection = HTTPConnection(urlsplit(url).netloc, timeout=60)
        sent = {"Accept": "text/event-stream", **(headers or {})} | ({} if last is None else {"Last-Event-ID": last})
        query = urlencode(parameters, doseq=True)
        self._connection.request("GET", f"{path}{'?' if query else ''}{query}", headers=sent)
        self._socket = self._connection.sock
        self.response: HTTPResponse = self._connection.getresponse()
        self.headers = {name.lower(): value for name, value in self.response.getheaders()}
        self.told: list[Told] = []
        self.first_heard: dict[str, float] = {}
        """When the first event about a run_id came (time.perf_counter)."""
        self.comments = 0
        self._thread = threading.Thread(target=self._read)
        if not paused:
            self._thread.start()

    def resume(self) -> None:
        """Begin to read a stream that was made `paused`."""
        self._thread.start()

    def of(self, *kinds: str) -> list[Told]:
        return [told for told in list(self.told) if told.kind in kinds]

    def wait(self, kind: str, count: int = 1) -> list[Told]:
        """The events of a kind, once there are so many."""
        wait_until(
            lambda: len(self.of(kind)) >= count, f"{count} × {kind}; there are {[told.kind for told in self.told[-9:]]}"
        )
        return self.of(kind)

    def ended(self) -> bool:
        return not self._thread.is_alive()

    def _lines(self) -> Any:
        for line in self.response:
            self.comments += line.startswith(b":")
            yield line

    def _read(self) -> None:
        try:
            for told in read_events(self._lines()):
                self.first_heard.setdefault(str(told.data.get("run_id")), perf_counter())
                self.told.append(told)
        except (OSError, ValueError, HTTPException, AttributeError):  # closed, by us or by the other side
            return

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # a blocked read returns
        if self._thread.ident is not None:
            self._thread.join()
        self._connection.close()
        self.response.close()
