"""The HTTP of the client: requests of the standard library, and errors that say what to do next."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from collections.abc import Iterator
from decimal import Decimal
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

import msgspec

from runlake.errors import ApiBusy, ApiRefused, ApiUnreachable

EXPORT_TIMEOUT_S = 3_700.0
"""Longer than the API may take until it sends a Parquet file."""
_PIECE_BYTES = 1 << 20
_MAX_DETAIL_BYTES = 1 << 20


class Answer(NamedTuple):
    """What JSON says, with its fractions as Decimal, and the position that it reflects."""

    value: Any
    position: str


class ClientHttp:
    """Requests to one address. `timeout_s` bounds the wait for each piece of an answer."""

    def __init__(self, url: str, token: str | None, timeout_s: float) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is no address of a RunLake; it is like http://127.0.0.1:8765")
        self._url = url.rstrip("/")
        self._token = token
        self._timeout_s = timeout_s
        self._decoder = msgspec.json.Decoder(float_hook=Decimal)
        local = parts.hostname in ("localhost", "127.0.0.1", "::1")
        # A proxy of the environment is for other machines.
        handlers = [urllib.request.ProxyHandler({})] if local else []
        self._opener = urllib.request.build_opener(*handlers)

    def get(self, path: str) -> Answer:
        """Raises ApiUnreachable, ApiBusy, ApiRefused."""
        return self._answer(path, None)

    def post(self, path: str, body: Any) -> Answer:
        """Raises ApiUnreachable, ApiBusy, ApiRefused."""
        return self._answer(path, msgspec.json.encode(body))

    def download(self, path: str) -> Download:
        """Raises ApiUnreachable, ApiBusy, ApiRefused."""
        return Download(self._open(path, None))

    def post_download(self, path: str, body: Any) -> Download:
        """Raises ApiUnreachable, ApiBusy, ApiRefused."""
        return Download(self._open(path, msgspec.json.encode(body)))

    def _answer(self, path: str, body: bytes | None) -> Answer:
        with self._open(path, body) as response:
            try:
                return Answer(self._decoder.decode(response.read()), response.headers.get("RunLake-Position", ""))
            except msgspec.DecodeError as error:
                raise ApiRefused(f"{self._url}{path} did not answer with JSON ({error}): is this RunLake?") from None
            except (OSError, http.client.HTTPException) as error:
                raise ApiUnreachable(f"The answer of {self._url} broke off: {error}. Try again.") from None

    def _open(self, path: str, body: bytes | None) -> Any:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        request = urllib.request.Request(f"{self._url}{path}", body, headers)
        try:
            return self._opener.open(request, timeout=self._timeout_s)
        except urllib.error.HTTPError as error:
            with error:
                raise self._refusal(error.code, error.read(_MAX_DETAIL_BYTES)) from None
        except urllib.error.URLError as error:
            raise self._unreachable(error.reason) from None
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from None

    def _unreachable(self, reason: object) -> ApiUnreachable:
        return ApiUnreachable(
            f"{self._url} cannot be asked: {reason}."
            " Start RunLake there with `runlake up` (or `runlake query`), or mend the address."
        )

    def _refusal(self, status: int, body: bytes) -> ApiRefused | ApiBusy:
        try:
            detail = str(msgspec.json.decode(body)["detail"])
        except (msgspec.DecodeError, KeyError, TypeError):
            detail = f"{self._url} answered {status}: is this RunLake?"
        if status == 401:
            detail += " Give it as runlake.connect(url, token=…)."
        return ApiBusy(detail) if status in (429, 503) else ApiRefused(detail, status)


class Download:
    """An answer in pieces. Use as a context manager."""

    def __init__(self, response: Any) -> None:
        self._response = response
        self.bytes = int(response.headers.get("Content-Length") or 0)
        self.rows = int(response.headers.get("RunLake-Rows") or 0)
        self.position = str(response.headers.get("RunLake-Position") or "")
        self.truncated = response.headers.get("RunLake-Truncated") == "true"

    def pieces(self) -> Iterator[bytes]:
        """Each piece as it arrives. Raises ApiUnreachable when the rest does not come."""
        left = self.bytes
        while True:
            try:
                piece = self._response.read(_PIECE_BYTES)
            except (OSError, http.client.HTTPException) as error:
                raise ApiUnreachable(f"The answer broke off: {error}. Try again.") from None
            if not piece:
                break
            left -= len(piece)
            yield piece
        if self.bytes and left:
            raise ApiUnreachable(f"The answer broke off, {left:,} bytes before its end. Try again.")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._response.close()
