"""How `runlake up` tells what happens: lines for people on standard output, or JSON lines on standard error."""

from __future__ import annotations

import signal
import sys
from datetime import datetime
from typing import Any

from runlake.cli.output import cell, printable
from runlake.logs import Log
from runlake.settings import Settings

_COMMON = ("at", "level", "process", "event")


class HumanReporter:
    """Lines for people."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._http = settings.http

    def started(self, name: str, pid: int) -> None:
        self._line(name, f"started (pid {pid})")

    def said(self, name: str, line: str, event: dict[str, Any] | None) -> None:
        if event is None:
            self._line(name, printable(line))
            return
        if event["event"] == "listening":
            self._http = str(event.get("http", self._http))
        level = event.get("level", "info")
        words = [event["event"] if level == "info" else f"{level}: {event['event']}"]
        words += [f"{key}={cell(value)}" for key, value in event.items() if key not in _COMMON]
        self._line(name, "  ".join(words))

    def all_ready(self) -> None:
        self._print(
            "\nRunLake is ready.\n"
            f"  HTTP API       http://{self._http}\n"
            f"  agents send to {self._settings.ingest}\n"
            f"  data folder    {self._settings.data}\n"
            f"  dashboard      http://{self._http}/\n"
            "Ctrl-C stops it.\n"
        )

    def died(self, name: str, code: int, restart_in_s: float) -> None:
        self._line(name, f"ended ({ending(code)}); starting it again in {restart_in_s:g} s")

    def gave_up(self, name: str, code: int, words: str) -> None:
        self._line(name, f"cannot run ({ending(code)}): {words or 'it said nothing'}")

    def stopping(self, reason: str) -> None:
        self._line("up", f"stopping ({reason})")

    def killed(self, name: str) -> None:
        self._line(name, "did not stop in time, and was killed; what was acknowledged is in the journal")

    def stopped(self) -> None:
        self._line("up", "stopped")

    def _line(self, name: str, text: str) -> None:
        self._print(f"{datetime.now().astimezone():%H:%M:%S}  {name:<7} {text}")

    @staticmethod
    def _print(text: str) -> None:
        try:
            print(text, flush=True)
        except OSError:  # nobody reads any more, and the processes go on
            return


class JsonReporter:
    """The processes' own JSON lines, and ours in the same form."""

    def __init__(self) -> None:
        self._log = Log("up")

    def started(self, name: str, pid: int) -> None:
        self._log.info("started", child=name, pid=pid)

    def said(self, name: str, line: str, event: dict[str, Any] | None) -> None:
        if event is None:
            self._log.warning("output", child=name, line=line)
        else:
            print(line, file=sys.stderr, flush=True)

    def all_ready(self) -> None:
        self._log.info("ready")

    def died(self, name: str, code: int, restart_in_s: float) -> None:
        self._log.error("died", child=name, code=code, restart_in_s=restart_in_s)

    def gave_up(self, name: str, code: int, words: str) -> None:
        self._log.error("gave_up", child=name, code=code, reason=words)

    def stopping(self, reason: str) -> None:
        self._log.info("stopping", reason=reason)

    def killed(self, name: str) -> None:
        self._log.error("killed", child=name)

    def stopped(self) -> None:
        self._log.info("stopped")


def ending(code: int) -> str:
    """How a process ended, in words."""
    if code >= 0:
        return f"exit status {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
