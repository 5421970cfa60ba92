"""The filter of known event_ids: it may take a new id for a known one, and never a known one for a new one."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import duckdb
import pytest

from runlake.logs import Log
from runlake_query.folder import Folder
from runlake_query.knownruns import KnownRuns
from runlake_query.model import ReadModel, open_model
from runlake_query.points import Points
from runlake_query.progress import Progress
from support.processes import wait_until

LOG = Log("query", stream=io.StringIO())


@pytest.fixture
def model(tmp_path: Path) -> Iterator[ReadModel]:
    folder = Folder(tmp_path)
    model = open_model(folder, datetime(2026, 1, 1, tzinfo=UTC), LOG)
    yield model
    model.close()
    folder.close()


@pytest.fixture
def cursor(model: ReadModel) -> duckdb.DuckDBPyConnection:
    return model.cursor()


def store(cursor: duckdb.DuckDBPyConnection, ids: int) -> list[UUID]:
    """Runs in the read model, by random ids."""
    made = cursor.execute("SELECT uuid()::VARCHAR FROM range($ids)", {"ids": ids}).fetchall()
    cursor.execute(
        "INSERT INTO runs (event_id, events) SELECT unnest($made)::UUID, 0", {"made": [key for (key,) in made]}
    )
    return [UUID(key) for (key,) in made]


def filled(known: KnownRuns, cursor: duckdb.DuckDBPyConnection) -> KnownRuns:
    known.fill(cursor)
    wait_until(lambda: not known.may_be_known(UUID(int=5)) or not known.may_be_known(UUID(int=6)), "it is filled")
    return known


def test_before_it_is_filled_every_id_may_be_known(model: ReadModel) -> None:
    assert KnownRuns(model, LOG).may_be_known(uuid4())


def test_every_stored_and_every_added_id_is_known_and_nearly_every_other_is_not(
    model: ReadModel, cursor: duckdb.DuckDBPyConnection
) -> None:
    stored = store(cursor, 20_000)
    known = filled(KnownRuns(model, LOG, least_words=1), cursor)
    added = [uuid4() for _ in range(5_000)]
    known.add(added[:2_500])
    cursor.execute(
        "CREATE TEMP TABLE merged AS SELECT unnest($ids)::UUID AS event_id", {"ids": [*map(str, added[2_500:])]}
    )
    known.add_table(cursor, "merged")
    assert all(map(known.may_be_known, (*stored, *added)))
    assert sum(known.may_be_known(uuid4()) for _ in range(10_000)) < 300
    known.close()


async def test_a_new_id_is_told_without_asking_the_read_model(
    model: ReadModel, cursor: duckdb.DuckDBPyConnection
) -> None:
    stored = store(cursor, 1_000)
    known = filled(KnownRuns(model, LOG), cursor)
    points = Points(model, Progress(), None, known)
    points.close()  # from here on, whoever asks it fails
    new = [key for key in (uuid4() for _ in range(1_000)) if not known.may_be_known(key)]
    assert len(new) > 900
    for key in new:
        assert not await points.is_known(key)
    assert await points.by_ids(new) == {}
    with pytest.raises(RuntimeError):
        await points.is_known(stored[0])
    known.close()


def test_a_full_one_grows_and_forgets_nothing_that_is_added_meanwhile(
    model: ReadModel, cursor: duckdb.DuckDBPyConnection
) -> None:
    known = filled(KnownRuns(model, LOG, least_words=64), cursor)
    stored: list[UUID] = []
    for _ in range(40):  # each is added before it is committed, as the follower does
        ids = [uuid4() for _ in range(500)]
        cursor.execute("BEGIN")
        cursor.execute("INSERT INTO runs (event_id, events) SELECT unnest($ids)::UUID, 0", {"ids": [*map(str, ids)]})
        known.add(ids)
        cursor.execute("COMMIT")
        known.committed()
        stored += ids
        assert all(map(known.may_be_known, stored))
    known.close()
    known.committed()
    known.close()
    assert all(map(known.may_be_known, stored))
    assert sum(known.may_be_known(uuid4()) for _ in range(10_000)) < 1_000


def test_two_threads_that_add_lose_no_bit(model: ReadModel, cursor: duckdb.DuckDBPyConnection) -> None:
    known = filled(KnownRuns(model, LOG, least_words=1), cursor)
    parts = [[uuid4() for _ in range(3_000)] for _ in range(4)]
    threads = [threading.Thread(target=known.add, args=(part,)) for part in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert all(known.may_be_known(key) for part in parts for key in part)
    known.close()
