"""Telling a service manager how this process is: the protocol of sd_notify(3), one datagram for each message.

systemd starts a unit of `Type=notify` with `NOTIFY_SOCKET`, and with `WatchdogSec=` also with `WATCHDOG_USEC`: it
restarts a process that has not said `WATCHDOG=1` for so long. Without these variables nothing is sent.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, MutableMapping
from contextlib import suppress

_DATAGRAM = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
_SOCKET, _WATCHDOG_US, _WATCHDOG_PID = "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"


class ServiceManager:
    """Made from the environment, once, in the process that the manager started. Never raises, and never waits.

    It takes its variables out of `environ`, so that no child speaks for this process. Use it from one thread.
    """

    def __init__(
        self, environ: MutableMapping[str, str] = os.environ, now: Callable[[], float] = time.monotonic
    ) -> None:
        address = environ.pop(_SOCKET, "")
        self.watchdog_s = _watchdog_s(environ.pop(_WATCHDOG_US, ""), environ.pop(_WATCHDOG_PID, ""))
        """After how many seconds of silence the manager restarts this process; 0: never."""
        self._now = now
        self._next_beat = 0.0
        self._status = ""
        self._address = _address(address)

    @property
    def listens(self) -> bool:
        """Whether there is a manager to tell."""
        return bool(self._address)

    def ready(self, status: str) -> None:
        """Started, and serving."""
        self._status = status
        self._send(f"READY=1\nSTATUS={_line(status)}")

    def status(self, text: str) -> None:
        """How things stand, in one line for people (`systemctl status`). The same again is not sent."""
        if text != self._status:
            self._status = text
            self._send(f"STATUS={_line(text)}")

    def alive(self) -> None:
        """Say that the caller's loop turns. Call it in every turn: it is sent when half of `watchdog_s` has passed."""
        if not self.watchdog_s:
            return
        now = self._now()
        if now >= self._next_beat:
            self._next_beat = now + self.watchdog_s / 2
            self._send("WATCHDOG=1")

    def stopping(self, status: str) -> None:
        """Asked to end, and doing so."""
        self._status = status
        self._send(f"STOPPING=1\nSTATUS={_line(status)}")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, _DATAGRAM) as manager:
            manager.sendto(message.encode("utf-8", "replace"), self._address)


def _address(text: str) -> str:
    """A path, or with `@` an abstract name (unix(7)); "" for anything else."""
    return text if text.startswith("/") else "\0" + text[1:] if text.startswith("@") else ""


def _watchdog_s(microseconds: str, pid: str) -> float:
    """The interval, when it is meant for this process (sd_watchdog_enabled(3))."""
    if pid and pid != str(os.getpid()):
        return 0.0
    return int(microseconds) / 1e6 if microseconds.isascii() and microseconds.isdigit() else 0.0


def _line(text: str) -> str:
    return " ".join(text.split())
