"""The senders of the cluster suite: agents, and clients without the SDK, which send until they are told to end."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import msgspec

from support.cluster import clean_environment

_AGENT = Path(__file__).with_name("agent.py")
_HTTP_WRITER = Path(__file__).with_name("http_writer.py")
_DEADLINE_S = 240.0


class Books(NamedTuple):
    """What senders that have ended were told to be on disk, which is all that they sent; and how often those without
    the SDK had to ask again."""

    acknowledged: int
    asked_again: int


class Senders:
    """Use as a context manager: no sender outlives the block. `name` begins their runs' names, and `prefix` starts
    them on another host."""

    def __init__(self, name: str = "run", prefix: Sequence[str] = ()) -> None:
        self._name = name
        self._prefix = prefix
        self._running: list[subprocess.Popen[str]] = []
        self._names = 0

    def begin_agent(self, endpoints: str, per_second: int, env: Mapping[str, str]) -> None:
        self._begin(_AGENT, endpoints, str(per_second), env=env)

    def begin_http(self, address: str, env: Mapping[str, str]) -> None:
        """`address`: host:port; the token is in the environment."""
        self._begin(_HTTP_WRITER, address, env=env)

    def end(self) -> Books:
        """Have all end, once everything is acknowledged."""
        acknowledged = again = 0
        for sender in self._running:
            assert sender.stdin is not None
            sender.stdin.close()
            sender.stdin = None
        for sender in self._running:
            said, _ = sender.communicate(timeout=_DEADLINE_S)
            assert sender.returncode == 0
            books = msgspec.json.decode(said)
            stats = books.get("stats", books)
            assert books.get("delivered", True), books
            assert stats.get("emitted", stats["acknowledged"]) == stats["acknowledged"], books
            assert not stats.get("dropped") and not stats.get("rejected"), books
            acknowledged += stats["acknowledged"]
            again += stats.get("again", 0)
        self._running = []
        return Books(acknowledged, again)

    def _begin(self, script: Path, address: str, *arguments: str, env: Mapping[str, str]) -> None:
        self._names += 1
        command = [*self._prefix, sys.executable, str(script), address, f"{self._name}-{self._names}", *arguments]
        self._running.append(
            subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=clean_environment() | dict(env)
            )
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for sender in self._running:
            sender.kill()
            sender.communicate()
