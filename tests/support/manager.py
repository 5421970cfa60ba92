"""The service manager's end of sd_notify(3): a datagram socket, and what was said on it."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Self

DEADLINE_S = 30.0


class Manager:
    """Use as a context manager; `variables` is what a service finds in its environment."""

    def __init__(self, folder: Path, watchdog_s: float = 0.0) -> None:
        path = folder / "notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self.variables = {"NOTIFY_SOCKET": str(path)}
        if watchdog_s:
            self.variables["WATCHDOG_USEC"] = str(round(watchdog_s * 1e6))

    def next(self, deadline_s: float = DEADLINE_S) -> dict[str, str] | None:
        """The next message, as its assignments; None when none comes in time."""
        self._socket.settimeout(max(deadline_s, 0.001))
        try:
            text = self._socket.recv(4096).decode()
        except TimeoutError:
            return None
        return dict(line.split("=", 1) for line in text.splitlines())

    def wait_for(self, condition: Callable[[dict[str, str]], bool]) -> list[dict[str, str]]:
        """All messages up to the first of which the condition holds; fails when none comes in time."""
        heard: list[dict[str, str]] = []
        end = time.monotonic() + DEADLINE_S
        while (message := self.next(end - time.monotonic())) is not None:
            heard.append(message)
            if condition(message):
                return heard
        raise AssertionError(f"only this was said: {heard}")

    def forget(self) -> None:
        """Pass over what has been said so far."""
        self._socket.settimeout(0)
        with suppress(BlockingIOError):
            while True:
                self._socket.recv(4096)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
