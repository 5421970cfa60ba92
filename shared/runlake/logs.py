"""Structured logs: one JSON object a line on standard error, `event` naming what happened.

`{"at": "2026-01-28T10:30:00.123Z", "level": "info", "process": "ingest", "event": "flushed", "rows": 512, …}`
"""

from __future__ import annotations

import sys
import threading
from datetime import UTC, datetime
from typing import Any, TextIO

import msgspec

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class Log:
    """Writes events of one process at or above `level`. Safe to use from any thread; never raises."""

    def __init__(self, process: str, level: str = "info", stream: TextIO | None = None) -> None:
        self._process = process
        self._threshold = _LEVELS[level]
        self._stream = stream if stream is not None else sys.stderr
        self._lock = threading.Lock()

    def debug(self, event: str, **fields: Any) -> None:
        self._write("debug", event, fields)

    def info(self, event: str, **fields: Any) -> None:
        self._write("info", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        self._write("warning", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        self._write("error", event, fields)

    def _write(self, level: str, event: str, fields: dict[str, Any]) -> None:
        if _LEVELS[level] < self._threshold:
            return
        at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = {"at": at, "level": level, "process": self._process, "event": event, **fields}
        text = _encode(line)
        with self._lock:
            try:
                self._stream.write(text + "\n")
                self._stream.flush()
            except (OSError, ValueError):  # nobody reads, or the stream is closed: the record goes on without a log
                return


def _encode(line: dict[str, Any]) -> str:
    """The line as JSON; a value that JSON cannot hold becomes its `repr`, in ASCII."""
    try:
        return msgspec.json.encode(line, enc_hook=str).decode("utf-8")
    except Exception:  # noqa: BLE001 (lone surrogates, odd keys, endless values, a __str__ that fails: all are logged)
        return msgspec.json.encode({name: _plain(value) for name, value in line.items()}).decode("utf-8")


def _plain(value: Any) -> Any:
    try:
        msgspec.json.encode(value)
    except Exception:  # noqa: BLE001
        try:
            return ascii(value)
        except Exception:  # noqa: BLE001
            return f"<{type(value).__name__}>"
    return value
