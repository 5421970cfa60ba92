"""The two processes as two users, in folders laid out as the units lay them out: what each can do, and cannot."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from support.api import Api
from support.emitting import event
from support.identities import Identity
from support.processes import Process, wait_until
from support.producer import Producer

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run processes as others")

_GROUP = 64_200
_INGEST = Identity(64_201, _GROUP, 0o027)
_QUERY = Identity(64_202, _GROUP, 0o077)
_STRANGER = Identity(64_203, 64_203, 0o022)


class Box:
    """Data for the group to read, the read model for query alone, and a folder of sockets for the group."""

    def __init__(self, folder: Path) -> None:
        self.data, self.model, self.sockets = folder / "data", folder / "model", folder / "sockets"
        folder.chmod(0o755)
        for path, user, mode in (
            (self.data, _INGEST.user, 0o750),
            (self.model, _QUERY.user, 0o700),
            (self.sockets, _INGEST.user, 0o2750),
        ):
            path.mkdir()
            os.chown(path, user, _GROUP)
            path.chmod(mode)
        self.endpoint = f"ipc://{self.sockets}/ingest"
        self._own = ("--data", str(self.data), "--ingest", self.endpoint)

    def ingest(self) -> Process:
        flags = (
            "--push",
            f"ipc://{self.sockets}/push",
            "--feed",
            f"ipc://{self.sockets}/feed",
            "--metrics",
            "127.0.0.1:0",
            "--flush-interval-ms",
            "50",
        )
        worker = Process("runlake_ingest", *self._own, *flags, cwd=self.data.parent, prefix=_INGEST.prefix())
        worker.wait_for("ready")
        return worker

    def query(self, feed: str = "feed") -> tuple[Process, Api]:
        flags = ("--read-model", str(self.model), "--http", "127.0.0.1:0", "--feed", f"ipc://{self.sockets}/{feed}")
        query = Process("runlake_query", *self._own, *flags, cwd=self.data.parent, prefix=_QUERY.prefix())
        return query, Api(f"http://{query.wait_for('listening')['http']}")


@pytest.fixture
def box() -> Iterator[Box]:
    folder = Path(tempfile.mkdtemp(prefix="runlake-users-"))  # not below pytest's folder: that is root's alone
    try:
        yield Box(folder)
    finally:
        shutil.rmtree(folder)


def _accept(box: Box, *numbers: int) -> None:
    with Producer(box.endpoint) as producer:
        producer.deliver([event(number) for number in numbers])
        producer.flush()


def _shows(api: Api, events: int) -> None:
    def shown() -> bool:
        reply = api.get("/api/v1/events")
        return reply.status == 200 and reply.text.count('"event_id"') == events

    wait_until(shown, f"{events} events to be shown")


def _try_as(identity: Identity, program: str, *arguments: object) -> str:
    """What a program of this user says; it is given its arguments as `sys.argv`."""
    done = subprocess.run(
        [*identity.prefix(), sys.executable, "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    return done.stdout.strip() or done.stderr.strip().rpartition("\n")[2].partition(":")[0]


def _nobody_has_the_catalog(box: Box) -> bool:
    return not (box.data / "catalog.sqlite-wal").exists()


def test_the_querys_user_follows_what_it_cannot_write_while_the_worker_is_killed_and_started_again(
    box: Box,
) -> None:
    with ExitStack() as stack:
        worker = stack.enter_context(box.ingest())
        with closing(sqlite3.connect(box.data / "catalog.sqlite")) as other:  # somebody, so that its -wal is there
            other.execute("SELECT count(*) FROM ducklake_snapshot").fetchone()
            query, api = box.query()
            stack.enter_context(query)
            query.wait_for("caught_up")
            _accept(box, 1)
            _shows(api, 1)
        assert not _nobody_has_the_catalog(box)
        worker.kill()
        wait_until(lambda: api.get("/ready").status == 200, "query to be ready without a worker")
        assert query.terminate() == 0
        api.close()

        assert not _nobody_has_the_catalog(box)  # as the kill has left it
        query, api = box.query()
        stack.enter_context(query)
        query.wait_for("caught_up")
        _shows(api, 1)
        assert query.terminate() == 0
        api.close()

        worker = stack.enter_context(box.ingest())
        _accept(box, 2)
        assert worker.terminate() == 0
        assert _nobody_has_the_catalog(box)
        query, api = box.query(feed="silent")  # what it shows comes from the lake
        stack.enter_context(query)
        query.wait_for("caught_up")
        _shows(api, 2)

        worker = stack.enter_context(box.ingest())
        for number in range(3, 9):
            _accept(box, number)
            _shows(api, number)
        wait_until(lambda: api.get("/ready").status == 200, "query to be ready again")
        assert not [line for line in query.log if line["event"] == "lake_not_followed"]
        api.close()


_ALTER = """
import sqlite3, sys
sqlite3.connect(sys.argv[1]).execute("CREATE TABLE intruder (x)")
print("written")
"""
_CHANGE_ALL = """
import os, pathlib, sys
changed = []
for name in sys.argv[1:]:
    path = pathlib.Path(name)
    attempts = [(path / "intruder").touch] if path.is_dir() else [lambda: path.open("r+b").close(), path.unlink]
    for attempt in attempts:
        try:
            attempt()
            changed.append(name)
        except PermissionError:
            pass
print(*changed)
"""
_READ = """
import sys
open(sys.argv[1], "rb").close()
print("read")
"""
_CONNECT = """
import socket, sys
with socket.socket(socket.AF_UNIX) as peer:
    peer.connect(sys.argv[1])
print("connected")
"""


def test_the_querys_user_writes_neither_lake_nor_journal_and_others_do_not_even_read(box: Box) -> None:
    with box.ingest():
        _accept(box, 1, 2)
        parquet = next((box.data / "lake").rglob("*.parquet"))
        catalog = box.data / "catalog.sqlite"
        files = [parquet, catalog, *(path for path in (box.data / "ingest").rglob("*") if path.is_file())]
        assert len(files) > 3
        folders = [path for path in (box.data, *box.data.rglob("*")) if path.is_dir()]
        assert _try_as(_QUERY, _CHANGE_ALL, *files, *folders) == ""
        assert _try_as(_QUERY, _ALTER, catalog) == "sqlite3.OperationalError"
        assert _try_as(_QUERY, _READ, parquet) == "read"
        assert _try_as(_STRANGER, _READ, parquet) == "PermissionError"
        sockets = [box.sockets / name for name in ("ingest", "push", "feed")]
        assert [stat.S_IMODE(path.stat().st_mode) for path in sockets] == [0o660] * 3
        assert _try_as(_QUERY, _CONNECT, sockets[0]) == "connected"
        assert _try_as(_STRANGER, _CONNECT, sockets[0]) == "PermissionError"
        assert _try_as(_INGEST, _CHANGE_ALL, parquet, box.data).split() == [str(parquet)] * 2 + [str(box.data)]


def test_a_socket_in_a_folder_that_is_not_shared_is_its_users_alone(box: Box) -> None:
    box.sockets.chmod(0o750)
    with box.ingest():
        assert stat.S_IMODE((box.sockets / "ingest").stat().st_mode) & 0o022 == 0
