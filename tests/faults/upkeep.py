"""A lake in which every step of maintenance has something to do, and what must be true of it at every moment and in the
end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import duckdb

from runlake.lake.filehold import hold_files
from runlake.lake.maintenance import Limits
from runlake.lake.place import LakePlace
from runlake.lake.verify import check_files, check_rows
from support.lakes import LakeWriter, Row, Worker
from support.processes import Site
from support.reading import lake_copy

FLUSHES = 10
REMOVED = FLUSHES * 2 + 3
"""Messages of the old runs, and of the one to be forgotten."""
FLAGS = ("--flush-interval-ms", "600000", "--maintenance-interval-ms", "50", "--maintenance-keep-s", "1",
         "--retention-days", "30", "--quarantine-days", "30")  # fmt: skip
_FEW_FILES = 2 * FLUSHES
_DAY = timedelta(days=1)


def let_everything_be_due(site: Site) -> list[UUID]:
    """Make a lake of ten flushes, each of a run to be kept and an old one, with a run to be forgotten, old refused
    messages, and a file that no transaction committed. Returns the runs to be kept, of two messages each."""
    worker = Worker()
    now = datetime.now(UTC).isoformat()
    recent: Row = {"ts": now, "received_at": now}
    with LakeWriter(site.data) as lake:
        kept = []
        for number in range(FLUSHES):
            first = worker.seq + 1
            kept.append(worker.start(f"kept-{number}", start_time=now, **recent))
            worker.event(f"kept-{number}", kept[-1], **recent)
            worker.event(f"old-{number}", worker.start(f"old-{number}"))
            worker.refuse("p", "no", b"\x00")
            if number == 0:
                secret = worker.start("secret", start_time=now, **recent)
                for _ in range(2):
                    worker.event("secret", secret, **recent)
            worker.delivery("p", first, worker.seq - first + 1, rejected=1, first_seq=first)
            lake.flush(worker)
        lake.sql(f"INSERT INTO lake.forgets VALUES ('{secret}', now())")
    orphan = site.data / "lake" / "main" / "events" / f"ducklake-{uuid4()}.parquet"
    orphan.write_bytes(b"of a transaction that was never committed")
    long_ago = (datetime.now(UTC) - _DAY).timestamp()
    os.utime(orphan, (long_ago, long_ago))
    return kept


def assert_whole(site: Site) -> None:
    """Every file that the catalog names is there and sound, every position is there or counted as removed, once."""
    with _lake(site) as connection:
        limits, place = Limits(3_600, 1), LakePlace.of_files(site.catalog, site.data / "lake")
        checks = [check_files(connection, place, limits, datetime.now(UTC)), *check_rows(connection)]
    assert [wrong for check in checks for wrong in check.wrong] == []


def is_done(site: Site, kept: list[UUID]) -> bool:
    """Whether only what is to be kept is left, in few files, and no other file of ours is on the disk."""
    files = len(list((site.data / "lake").rglob("*.parquet")))
    if files > _FEW_FILES:
        return False
    with hold_files(site.data / "lake"), _lake(site) as connection:  # it may read for longer than files are kept
        runs = "SELECT run_event_id FROM lake.run_changes UNION ALL SELECT run_event_id FROM lake.events"
        left = connection.execute(f"SELECT run_event_id, count(*) FROM ({runs}) GROUP BY run_event_id").fetchall()
        refused = _one(connection, "SELECT count(*) FROM lake.quarantine")
        removed = _one(connection, "SELECT coalesce(sum(messages), 0)::BIGINT FROM lake.removals")
        live = _one(connection, "SELECT sum(file_count)::BIGINT FROM ducklake_table_info('lake')")
    assert {run for run, _ in left} >= {*kept}
    assert removed <= REMOVED
    return dict(left) == dict.fromkeys(kept, 2) and (refused, removed) == (0, REMOVED) and files == live


@contextmanager
def _lake(site: Site) -> Iterator[duckdb.DuckDBPyConnection]:
    with lake_copy(site.catalog) as connection:
        connection.execute("USE memory")
        yield connection


def _one(connection: duckdb.DuckDBPyConnection, query: str) -> int:
    row = connection.execute(query).fetchone()
    assert row is not None
    return int(row[0])
