"""A small HTTP client for tests: one connection, any path as it is, JSON decoded."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode, urlsplit

from support.processes import Process


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    """With names in lower case."""
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


class Api:
    """Speaks to one query process. Use from one thread."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._connection = HTTPConnection(urlsplit(url).netloc, timeout=100)

    def get(self, path: str, headers: dict[str, str] | None = None, **parameters: Any) -> Reply:
        """GET; a list as a parameter is that parameter several times."""
        if parameters:
            path = f"{path}?{urlencode(parameters, doseq=True)}"
        return self.request("GET", path, headers)

    def post(self, path: str, value: Any, headers: dict[str, str] | None = None) -> Reply:
        """POST a value as JSON."""
        return self.request("POST", path, {"Content-Type": "application/json", **(headers or {})}, json.dumps(value))

    def patch(self, path: str, value: Any, headers: dict[str, str] | None = None) -> Reply:
        """PATCH with a value as JSON."""
        return self.request("PATCH", path, {"Content-Type": "application/json", **(headers or {})}, json.dumps(value))

    def request(
        self, method: str, path: str, headers: dict[str, str] | None = None, body: str | bytes | None = None
    ) -> Reply:
        data = body.encode() if isinstance(body, str) else body
        try:
            return self._request(method, path, headers, data)
        except (HTTPException, ConnectionError):  # an idle connection was closed, or another process serves now
            self._connection.close()
            return self._request(method, path, headers, data)

    def ok(self, path: str, **parameters: Any) -> Any:
        """The JSON of an answer that must be a 200."""
        reply = self.get(path, **parameters)
        assert reply.status == 200, reply.text
        return reply.json

    def close(self) -> None:
        self._connection.close()

    def _request(self, method: str, path: str, headers: dict[str, str] | None, body: bytes | None) -> Reply:
        self._connection.request(method, path, body=body, headers=headers or {})
        response = self._connection.getresponse()
        content = response.read()
        if response.getheader("Content-Encoding") == "gzip":
            content = gzip.decompress(content)
        text = content.decode("utf-8")
        return Reply(response.status, {key.lower(): value for key, value in response.getheaders()}, text)


Start = Callable[..., tuple[Process, Api]]
"""Starts a query process with the given flags: the fixture `start` of the query tests."""


def segment(text: str) -> str:
    """Any text as one segment of a path."""
    return quote(text, safe="")
