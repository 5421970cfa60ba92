"""A real PostgreSQL server for tests: in a temporary folder, on a loopback port of its own, with a password.

It ends with the process that started it. The shared one (the fixture `postgres`) is started once per test process;
every test takes a database of its own from it.
"""

from __future__ import annotations

import itertools
import os
import pwd
import random
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, LiteralString, Self

import psycopg
from psycopg import sql

from support.processes import wait_until

USER = "runlake"
SYNCHRONOUS = "options=-csynchronous_commit%3Don"
"""For a URL: whose COMMITs wait while `commits_wait`."""
_QUICK = ("fsync=off", "full_page_writes=off")
"""Safe against `kill -9` of the server, and not against the loss of power."""
_SETTINGS = ("shared_buffers=64MB", "max_connections=200", "autovacuum_naptime=60", "unix_socket_directories=")
_PORTS = (20_000, 32_000)
"""Below those that the system gives to outgoing connections: a port is still free when the server starts again."""


def find_binaries() -> Path | None:
    """The folder with `initdb` and `postgres`, or None."""
    on_path = shutil.which("initdb")
    if on_path and (Path(on_path).parent / "postgres").exists():
        return Path(on_path).parent
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    return debian[-1].parent if debian else None


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    while True:
        port = random.randrange(*_PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Postgres:
    """Use as a context manager. `durable`: with fsync, for tests in which the loss of power is the question.

    `prefix` starts its process on another host, whose address `host` is; `allowed` is who may connect there.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        *,
        allowed: str = "127.0.0.1/32",
        prefix: tuple[str, ...] = (),
        durable: bool = False,
        settings: tuple[str, ...] = (),
    ) -> None:
        self.host = host
        self.port = 5432 if prefix else free_port()
        self._allowed = allowed
        self._prefix = prefix
        self.password = secrets.token_hex(12)
        self._binaries = find_binaries()
        self._settings = (*_SETTINGS, *(() if durable else _QUICK), *settings)
        self._folder = Path(tempfile.mkdtemp(prefix="runlake-pg-"))
        self._log = self._folder / "log"
        self._server: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)

    # The server

    @property
    def pid(self) -> int:
        assert self._server is not None
        return self._server.pid

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        assert self._server is None
        listen = [f"listen_addresses={self.host}", f"port={self.port}", *self._settings]
        command = [str(self._binary("postgres")), "-D", str(self._folder / "data")]
        command += [part for setting in listen for part in ("-c", setting)]
        command = [*self._prefix, *_as_server_user(command)]
        with self._log.open("ab") as log:
            self._server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self._folder)
        wait_until(self._answers, "PostgreSQL takes connections", 30)

    def stop(self) -> None:
        """End it as a supervisor does: connections are cut, all is written."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """`kill -9` of the server and all of its processes at once; the next start recovers from the log."""
        assert self._server is not None
        self._server.send_signal(signal.SIGSTOP)  # starts nothing more
        children = _children(self._server.pid)
        self._signal_all(signal.SIGKILL)
        self._end(signal.SIGKILL)
        wait_until(lambda: not any(map(_lives, children)), "its processes are gone")

    def restart(self) -> None:
        self.stop()
        self.start()

    def freeze(self) -> None:
        """SIGSTOP of the server and all of its processes: connections stay, and nothing answers."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal_all(signal.SIGCONT)

    @contextmanager
    def commits_wait(self) -> Iterator[None]:
        """A COMMIT of a client that has SYNCHRONOUS in its address is in the server's log, and waits for a standby that
        there is not before anybody sees it."""
        self._set_standby("nobody", "local")
        try:
            yield
        finally:
            self._set_standby("", "on")

    def waiting_commits(self, url: str, application: str) -> set[int]:
        """The server's processes for clients of a database, with such a beginning of their name, that wait so."""
        rows = self.rows(
            "SELECT pid FROM pg_stat_activity"
            " WHERE datname = %s AND wait_event = 'SyncRep' AND starts_with(application_name, %s)",
            url.rpartition("/")[2],
            application,
        )
        return {pid for (pid,) in rows}

    def logged(self) -> str:
        """What it has logged so far."""
        return self._log.read_text("utf-8", "replace")

    # Its databases

    def url(self, database: str = "postgres") -> str:
        """`postgresql://user:password@host:port/database`."""
        return f"postgresql://{USER}:{self.password}@{self.host}:{self.port}/{database}"

    def create_database(self) -> str:
        """A new database; returns its URL."""
        name = f"lake_{next(self._numbers)}"
        self._administer("CREATE DATABASE {}", name)
        return self.url(name)

    def drop_database(self, url: str) -> None:
        """Whoever is connected to it is cut off."""
        self._administer("DROP DATABASE IF EXISTS {} WITH (FORCE)", url.rpartition("/")[2])

    def rows(self, query: LiteralString, *parameters: object, database: str = "postgres") -> list[tuple[Any, ...]]:
        """What a query answers, asked by the owner of everything."""
        with psycopg.connect(self.url(database)) as connection:
            return connection.execute(query, parameters).fetchall()

    def __enter__(self) -> Self:
        user = _server_user()
        if user is not None:
            os.chown(self._folder, user.pw_uid, user.pw_gid)
        secret = self._folder / "password"
        secret.write_text(f"{self.password}\n", "ascii")
        initdb = [str(self._binary("initdb")), "-D", str(self._folder / "data"), "-U", USER, "--pwfile", str(secret)]
        initdb += ["-A", "scram-sha-256", "-E", "UTF8", "--no-locale", "--no-sync"]
        done = subprocess.run(
            _as_server_user(initdb), cwd=self._folder, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        rule = f"host all all {self._allowed} scram-sha-256\n"
        (self._folder / "data" / "pg_hba.conf").write_text(rule, "ascii")
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self.thaw()
            self._end(signal.SIGQUIT)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _binary(self, name: str) -> Path:
        assert self._binaries is not None, "PostgreSQL is not installed"
        return self._binaries / name

    def _administer(self, statement: LiteralString, name: str) -> None:
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(sql.Identifier(name)))

    def _set_standby(self, name: str, synchronous: str) -> None:
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(sql.SQL("ALTER SYSTEM SET synchronous_commit = {}").format(sql.Literal(synchronous)))
            connection.execute(sql.SQL("ALTER SYSTEM SET synchronous_standby_names = {}").format(sql.Literal(name)))
            connection.execute("SELECT pg_reload_conf()")
        wait_until(lambda: self.rows("SHOW synchronous_standby_names") == [(name,)], "the setting is in force", 20)

    def _answers(self) -> bool:
        assert self._server is not None
        assert self._server.poll() is None, self._log.read_text("utf-8", "replace")
        with suppress(psycopg.OperationalError), psycopg.connect(self.url(), connect_timeout=5):
            return True
        return False

    def _end(self, number: signal.Signals) -> None:
        assert self._server is not None
        self._server.send_signal(number)
        self._server.wait(30)
        self._server = None

    def _signal_all(self, number: signal.Signals) -> None:
        assert self._server is not None
        if self._server.poll() is None:
            for process in (self._server.pid, *_children(self._server.pid)):
                with suppress(ProcessLookupError):
                    os.kill(process, number)


def _server_user() -> pwd.struct_passwd | None:
    """Whom the server runs as; None for us. PostgreSQL refuses to be root."""
    if os.getuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name)
    raise AssertionError("PostgreSQL needs a user that is not root")


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()]


def _lives(pid: int) -> bool:
    """Whether it has not ended; one that waits to be buried has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _as_server_user(command: list[str]) -> list[str]:
    """The command as the server's user; it ends when we do."""
    user = _server_user()
    who = [] if user is None else ["--reuid", str(user.pw_uid), "--regid", str(user.pw_gid), "--clear-groups"]
    return ["setpriv", *who, "--pdeathsig", "QUIT", *command]
