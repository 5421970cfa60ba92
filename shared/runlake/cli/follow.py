"""Server-sent events as the command line follows them: they come one by one, and go on after an interruption."""

from __future__ import annotations

import http.client
import time
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from runlake.cli.failure import CommandFailed

_SILENCE_S = 30.0
"""The server says something every ten seconds; after so long without a word, the connection is taken for dead."""
_PAUSE_S = 0.5
_MAX_PAUSE_S = 5.0


class Told(NamedTuple):
    """One event of a stream. `position` is its id."""

    kind: str
    position: str
    data: Any


def follow(
    address: str,
    path: str,
    params: Sequence[tuple[str, object]] = (),
    *,
    since: str | None = None,
    token: str = "",
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Told]:
    """The events of the stream at `path` of the API at `address` (host:port), without end.

    When the connection is lost, it is made again, and the stream goes on after the last event. `since` is the position
    to begin after; None: now. `token` goes with every request, and nowhere else. Raises CommandFailed when the API
    refuses the request, or cannot be reached at first.
    """
    query = urllib.parse.urlencode([(name, str(value)) for name, value in params if value is not None])
    url = f"{path}{'?' if query else ''}{query}"
    last = since
    pause = _PAUSE_S
    connected = False
    while True:
        connection = http.client.HTTPConnection(address, timeout=_SILENCE_S)
        try:
            for told in _once(connection, url, last, token):
                connected, pause = True, _PAUSE_S
                last = told.position or last
                yield told
        except (OSError, http.client.HTTPException) as error:
            if not connected:
                raise CommandFailed(
                    f"nothing answers at http://{address} ({error}). Start RunLake with `runlake up`, or say where it"
                    " is with --http or RUNLAKE_HTTP."
                ) from None
        finally:
            connection.close()
        sleep(pause)
        pause = min(_MAX_PAUSE_S, pause * 2)


def _once(connection: http.client.HTTPConnection, url: str, last: str | None, token: str) -> Iterator[Told]:
    headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last} if last is not None else {})
    if token:
        headers["Authorization"] = f"Bearer {token}"
    connection.request("GET", url, headers=headers)
    response = connection.getresponse()
    if response.status == 503:
        return
    if response.status != 200:
        raise CommandFailed(_detail(response.read(), response.status))
    yield from read_events(response)


def read_events(lines: Iterator[bytes] | http.client.HTTPResponse) -> Iterator[Told]:
    """The events in the lines of a stream; comments and what is not complete are left out."""
    kind, position, data = "", "", ""
    for raw in lines:
        line = raw.decode("utf-8", "replace").rstrip("\r\n")
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                yield Told(kind, position, msgspec.json.decode(data))
            kind, position, data = "", "", ""
        elif name == "event":
            kind = value
        elif name == "id":
            position = value
        elif name == "data":
            data += value


def _detail(body: bytes, status: int) -> str:
    try:
        return str(msgspec.json.decode(body)["detail"])
    except (msgspec.DecodeError, KeyError, TypeError):
        return f"the API answered {status}"
