"""The HTTP API as the command line reads it."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from runlake.cli.failure import CommandFailed

Params = Iterable[tuple[str, object]]
_TIMEOUT_S = 60.0


class Unreachable(CommandFailed):
    """Nothing answers at the address of the API."""


class NotReady(CommandFailed):
    """The API answers that it cannot serve this yet (503)."""


class Api:
    """One query process at `address` (host:port). Every failure is a CommandFailed that says what to do."""

    def __init__(self, address: str, token: str = "", *, sleep: Callable[[float], None] = time.sleep) -> None:
        self.url = f"http://{address}"
        self._headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        self._sleep = sleep
        # A proxy of the environment is for other machines; this one is on loopback.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def get(self, path: str, params: Params = (), *, patience_s: float = 10.0) -> Any:
        """The JSON that `path` answers. While the API says 503, tries again for up to `patience_s` seconds."""
        return self.decoded(self.text(path, params, patience_s=patience_s))

    def post(self, path: str, value: object) -> Any:
        """Send a value as JSON, once; the JSON of the answer."""
        headers = {**self._headers, "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}{path}", msgspec.json.encode(value), headers, method="POST")
        return self.decoded(self._once(request))

    def decoded(self, text: bytes) -> Any:
        """The value of an answer."""
        return msgspec.json.decode(text)

    def text(self, path: str, params: Params = (), *, patience_s: float = 10.0) -> bytes:
        """What `path` answers, as it came: decoding and encoding again would round its decimals."""
        query = urllib.parse.urlencode([(name, str(value)) for name, value in params if value is not None])
        url = f"{self.url}{path}{'?' if query else ''}{query}"
        deadline = time.monotonic() + patience_s
        while True:
            try:
                return self._once(urllib.request.Request(url, headers=self._headers))
            except NotReady:
                if time.monotonic() >= deadline:
                    raise
                self._sleep(0.1)

    def _once(self, request: urllib.request.Request) -> bytes:
        url = request.full_url
        try:
            with self._opener.open(request, timeout=_TIMEOUT_S) as response:
                return bytes(msgspec.json.decode(response.read(), type=msgspec.Raw))
        except urllib.error.HTTPError as error:
            with error:
                raise self._refusal(error.code, error.read()) from None
        except urllib.error.URLError as error:
            raise self._unreachable(error.reason) from None
        except msgspec.DecodeError as error:
            raise CommandFailed(f"{url} did not answer with JSON ({error}): is this RunLake?") from None
        except http.client.HTTPException:
            raise CommandFailed(f"what listens at {self.url} does not speak HTTP: is this RunLake?") from None
        except OSError as error:
            raise self._unreachable(error) from None

    def _unreachable(self, reason: object) -> Unreachable:
        if isinstance(reason, ConnectionRefusedError):
            return Unreachable(
                f"nothing answers at {self.url}. Start RunLake with `runlake up`, or say where it is with --http or"
                " RUNLAKE_HTTP."
            )
        return Unreachable(f"{self.url} does not answer: {reason}")

    def _refusal(self, status: int, body: bytes) -> CommandFailed:
        try:
            problem = msgspec.json.decode(body)
            detail = str(problem["detail"])
        except (msgspec.DecodeError, KeyError, TypeError):
            detail = f"{self.url} answered {status}"
        return NotReady(detail) if status == 503 else CommandFailed(detail)


def in_path(text: str) -> str:
    """A value as one segment of a path: slashes and all."""
    return urllib.parse.quote(text, safe="")
