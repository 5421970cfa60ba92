"""HAProxy with the configuration that `deploy/cluster` has, for other addresses."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from support.processes import wait_until

CONFIGURATION = Path(__file__).parents[2] / "deploy" / "cluster" / "haproxy.cfg"
_BIND = re.compile(r"^(    bind ).*$", re.MULTILINE)
_SERVERS = re.compile(r"(?:^    server .*\n)+", re.MULTILINE)


def find_haproxy() -> str | None:
    """The binary, or None."""
    return shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")


class HAProxy:
    """Use as a context manager. `address`: where it listens; `servers`: the query processes; each is host:port."""

    def __init__(
        self, folder: Path, address: str, servers: Sequence[str], env: Mapping[str, str], prefix: Sequence[str] = ()
    ) -> None:
        self.address = address
        self._prefix = prefix
        self._env = dict(os.environ) | dict(env)
        self._file = folder / "haproxy.cfg"
        lines = "".join(f"    server query-{n} {server} cookie q{n}\n" for n, server in enumerate(servers, 1))
        text, binds = _BIND.subn(rf"\g<1>{address}", CONFIGURATION.read_text("utf-8"))
        text, lists = _SERVERS.subn(lambda _: lines, text)
        assert (binds, lists) == (1, 1)
        self._file.write_text(text, "utf-8")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it listens."""
        binary = find_haproxy()
        assert binary is not None, "HAProxy is not installed"
        with self._file.with_suffix(".log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._prefix, binary, "-db", "-f", str(self._file)], stdout=log, stderr=log, env=self._env
            )
        wait_until(self._listens, "HAProxy to listen")

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(20)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._file.with_suffix(".log").read_text("utf-8")
        host, _, port = self.address.rpartition(":")
        with suppress(OSError), socket.create_connection((host, int(port)), 1):
            return True
        return False
