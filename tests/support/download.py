"""Answers as they come, bytes and all, for tests of exports and other files."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any, NamedTuple
from urllib.parse import urlencode


class Download(NamedTuple):
    status: int
    headers: dict[str, str]
    """With names in lower case."""
    body: bytes

    @property
    def lines(self) -> list[Any]:
        """The values of NDJSON."""
        return [json.loads(line) for line in self.body.splitlines()]


def download(
    url: str, headers: dict[str, str] | None = None, body: Any = None, **parameters: Any
) -> Download:  # fmt: skip
    """GET, or POST of a JSON body; a list as a parameter is that parameter several times."""
    data = None if body is None else json.dumps(body).encode()
    content = {} if data is None else {"Content-Type": "application/json"}
    query = f"?{urlencode(parameters, doseq=True)}" if parameters else ""
    request = urllib.request.Request(f"{url}{query}", data, {**content, **(headers or {})})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return Download(response.status, {k.lower(): v for k, v in response.headers.items()}, response.read())
    except urllib.error.HTTPError as error:
        with error:
            return Download(error.code, {k.lower(): v for k, v in error.headers.items()}, error.read())
