"""One process that `runlake up` keeps running: its command, its output line by line, its restarts."""

from __future__ import annotations

import os
import signal
import subprocess
from collections import deque
from collections.abc import Iterator, Mapping, Sequence

from runlake.cli.lifeline import die_with_parent

FIRST_BACKOFF_S = 0.5
LONGEST_BACKOFF_S = 10.0
STEADY_S = 30.0
"""Who ran this long starts with the shortest backoff again."""
_MAX_LINE_BYTES = 64 * 1024
_TAIL_LINES = 5


class Child:
    """A process that is started, read, stopped and started again. One thread owns it; times are monotonic seconds."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.name = name
        self.restart_at: float | None = None
        self.was_ready = False
        """Whether it was ready at any time since `up` began; one that never was has something to be fixed."""
        self.tail: deque[str] = deque(maxlen=_TAIL_LINES)
        """The last lines that are no log lines: a traceback, a usage error."""
        self.said_all = False
        """Whether its output has come to an end."""
        self._command = list(command)
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._backoff_s = FIRST_BACKOFF_S
        self._rest = b""

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def output(self) -> int:
        """The descriptor to read from, from `start` to `forget`. Raises ValueError at other times."""
        if self._process is None or self._process.stdout is None:
            raise ValueError(f"{self.name} has no output now")
        return self._process.stdout.fileno()

    def start(self, now: float) -> None:
        """Start it, in a process group of its own: Ctrl-C in the terminal reaches `up` alone, which stops it once.

        Raises OSError.
        """
        self.restart_at = None
        self._started_at = now
        self._rest = b""
        self.said_all = False
        self.tail.clear()
        self._process = subprocess.Popen(
            self._command,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            process_group=0,
            preexec_fn=die_with_parent(),  # noqa: PLW1509 (this process has one thread)
        )
        os.set_blocking(self.output, False)

    def lines(self) -> Iterator[str]:
        """The whole lines that it has written since the last call."""
        while True:
            try:
                block = os.read(self.output, 65_536)
            except BlockingIOError:
                return
            if not block:
                self.said_all = True
                if self._rest:
                    yield self._decoded(self._rest)
                    self._rest = b""
                return
            *whole, self._rest = (self._rest + block).split(b"\n")
            for line in whole:
                yield self._decoded(line)
            if len(self._rest) > _MAX_LINE_BYTES:
                yield self._decoded(self._rest)
                self._rest = b""

    def exit_code(self) -> int | None:
        """Its exit code once it has ended: negative for a signal, as `subprocess` has it."""
        return self._process.poll() if self._process else None

    def forget(self, now: float) -> float:
        """Close what is left of an ended process. Returns the seconds to wait before it is started again."""
        if self._process is not None and self._process.stdout is not None:
            self._process.stdout.close()
        self._process = None
        if now - self._started_at >= STEADY_S:
            self._backoff_s = FIRST_BACKOFF_S
        wait, self._backoff_s = self._backoff_s, min(self._backoff_s * 2, LONGEST_BACKOFF_S)
        self.restart_at = now + wait
        return wait

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it runs."""
        if self._process is not None:
            self._process.send_signal(number)

    @staticmethod
    def _decoded(line: bytes) -> str:
        return line.decode("utf-8", "backslashreplace").rstrip()
