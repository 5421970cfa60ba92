"""A worker that starts while the list of workers changes: from where it goes on, and what it knows then."""

from __future__ import annotations

import io
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

import msgspec
import psycopg

from ingest.test_worker_list import OFTEN, id_of, of_home
from runlake import settings as settings_module
from runlake.logs import Log
from runlake.servicemanager import ServiceManager
from runlake_ingest.worker import Worker
from support.processes import Process, Site
from support.producer import Producer
from support.waiting import eventually
from support.workers import Workers


class Events(io.StringIO):
    """A log that has something done at events, on the thread that logs them."""

    def __init__(self, at: dict[str, Callable[[], None]]) -> None:
        super().__init__()
        self._at = at
        self.seen: dict[str, threading.Event] = {name: threading.Event() for name in at}

    def write(self, text: str) -> int:
        name = msgspec.json.decode(text)["event"]
        if name in self._at and not self.seen[name].is_set():
            self._at[name]()
            self.seen[name].set()
        return super().write(text)


@contextmanager
def in_this_process(site: Site, at: dict[str, Callable[[], None]]) -> Iterator[None]:
    """A worker that does this at events of its log."""
    flags = {
        "data": str(site.data), "ingest": site.ingest_endpoint, "push": site.push_endpoint, "feed": site.feed_endpoint,
        "metrics": "127.0.0.1:0",
    }  # fmt: skip
    events = Events({"ready": lambda: None} | at)
    worker = Worker(settings_module.load(flags, site.env), Log("ingest", stream=events), ServiceManager())
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        assert events.seen["ready"].wait(60), events.getvalue()
        yield
    finally:
        worker.stop()
        thread.join(60)
        assert not thread.is_alive()


def asked_for_the_list(database: str, worker: UUID) -> int:
    """When a worker last had the list from PostgreSQL, in microseconds; 0 for never."""
    with psycopg.connect(database) as connection:
        row = connection.execute(
            "SELECT coalesce(max(extract(epoch FROM query_start) * 1e6), 0)::BIGINT FROM pg_stat_activity"
            " WHERE application_name = %s AND query LIKE '%%runlake.lists%%' AND state = 'idle'",
            (f"runlake lease {worker}",),
        ).fetchone()
    assert row is not None
    return int(row[0])


def test_p2_a_list_that_comes_into_force_while_a_worker_starts_is_where_it_goes_on(
    workers: Workers, database: str
) -> None:
    """Its process before had reported; this one has read the lake just before the others ended the change."""
    a, b = workers.site("a"), workers.site("b")
    with a.ingest(*OFTEN) as first:
        with b.ingest(*OFTEN, crash_at="change.after_report") as before, Producer(a.ingest_endpoint) as to_a:
            ids = [id_of(first), id_of(before)]
            moved = of_home(ids[1], ids[:1], 7)
            assert to_a.deliver(moved[:4]).accepted == 4
            to_a.flush()
            to_a.deliver(moved[4:])
            first.send(signal.SIGSTOP)
            command: Process = workers.command("add", str(ids[1]))
            assert before.wait() == -signal.SIGKILL
        asked = 0

        def change_ends() -> None:
            nonlocal asked
            first.send(signal.SIGCONT)
            eventually(lambda: workers.version() == 2)
            asked = asked_for_the_list(database, ids[1])

        def it_has_looked() -> None:
            eventually(lambda: asked_for_the_list(database, ids[1]) > asked)

        with command, in_this_process(b, {"recovered": change_ends, "ready": it_has_looked}):
            assert command.wait() == 0
            with Producer(b.ingest_endpoint) as to_b:
                again = to_b.deliver(moved)
                assert (again.accepted, again.duplicate) == (0, list(range(7)))
                assert to_b.deliver(of_home(ids[1], ids[:1], 8)[7:]).first_seq == 9, "behind 8, which nobody gives out"
        assert first.terminate() == 0
