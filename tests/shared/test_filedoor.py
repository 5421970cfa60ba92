"""The door to the files of a lake: shut while a COMMIT runs, and for good when that fails; readers pass."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import Event

import duckdb
import pytest

from runlake.errors import LakeUnavailable
from runlake.lake import attach, duck
from runlake.lake.attach import CATALOG
from runlake.lake.filedoor import FileDoor
from runlake.lake.place import LakePlace


class Opened:
    """A lake in files with a table of numbers, written through its door."""

    def __init__(self, folder: Path) -> None:
        self.place = LakePlace.of_files(folder / "catalog.sqlite", folder / "lake")
        self.connection = duck.connect(place=self.place)
        self.ends = ExitStack()
        self.door = self.ends.enter_context(attach.write_through_door(self.connection, self.place))
        self.connection.execute(f"CREATE TABLE IF NOT EXISTS {CATALOG}.numbers (number BIGINT)")

    def insert(self) -> None:
        self.connection.execute("BEGIN")
        self.connection.execute(f"INSERT INTO {CATALOG}.numbers SELECT range FROM range(10)")

    def files(self) -> set[Path]:
        return set(Path(self.place.storage).rglob("*.parquet"))

    def read(self) -> int:
        """By plain DuckDB, which knows nothing of the door."""
        with attach.read_lake(self.place) as connection:
            row = connection.execute(f"SELECT count(*) FROM {CATALOG}.numbers").fetchone()
        assert row is not None
        return int(row[0])


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Opened]:
    lake = Opened(tmp_path)
    with lake.ends:
        yield lake


class Held:
    """A connection whose COMMIT waits until it is told to go on, or fails."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, error: Exception | None = None) -> None:
        self._connection = connection
        self._error = error
        self.began, self.may_go_on = Event(), Event()

    def execute(self, statement: str) -> object:
        self.began.set()
        assert self.may_go_on.wait(20)
        if self._error is not None:
            raise self._error
        return self._connection.execute(statement)


def test_what_is_written_through_the_door_has_the_paths_that_anyone_can_read(lake: Opened) -> None:
    lake.insert()
    lake.door.commit(lake.connection)
    assert lake.read() == 10
    with attach.read_lake(lake.place) as connection:
        meta = f"__ducklake_metadata_{CATALOG}"
        paths = connection.execute(f"SELECT path, path_is_relative FROM {meta}.ducklake_data_file").fetchall()
        said = connection.execute(f"SELECT value FROM {meta}.ducklake_metadata WHERE key = 'data_path'").fetchall()
    assert [relative for _, relative in paths] == [True]
    assert said == [(lake.place.storage,)]


def test_a_commit_that_fails_deletes_nothing_also_when_the_connection_ends(lake: Opened) -> None:
    lake.insert()
    written = lake.files()
    assert len(written) == 1
    other = duck.connect(place=lake.place)
    with other:
        attach.attach_for_writing(other, lake.place)
        other.execute(f"DROP TABLE {CATALOG}.numbers")  # so that the COMMIT meets a conflict
    with pytest.raises(duckdb.Error, match="Failed to commit"):
        lake.door.commit(lake.connection)
    assert lake.door.stays_shut
    lake.ends.close()
    assert lake.files() == written


def test_a_transaction_that_is_rolled_back_takes_its_files_with_it(lake: Opened) -> None:
    lake.insert()
    lake.connection.execute("ROLLBACK")
    assert not lake.files()
    assert not lake.door.stays_shut


def test_a_reader_waits_for_a_commit_and_a_commit_for_a_reader(lake: Opened) -> None:
    lake.insert()
    held = Held(lake.connection)
    with ThreadPoolExecutor(2) as threads:

        def read() -> int:
            with lake.door.passing():
                row = lake.connection.cursor().execute(f"SELECT count(*) FROM {CATALOG}.numbers").fetchone()
                assert row is not None
                return int(row[0])

        with lake.door.passing():
            committing = threads.submit(lake.door.commit, held)  # type: ignore[arg-type]
            assert not held.began.wait(0.1)
        assert held.began.wait(20)
        reading = threads.submit(read)
        assert not reading.done()
        held.may_go_on.set()
        assert reading.result(20) == 10
        committing.result(20)


def test_when_a_commit_has_failed_no_reader_passes_any_more(lake: Opened) -> None:
    lake.insert()
    held = Held(lake.connection, duckdb.IOException("the answer was lost"))
    held.may_go_on.set()
    with pytest.raises(duckdb.IOException):
        lake.door.commit(held)  # type: ignore[arg-type]
    with pytest.raises(LakeUnavailable), lake.door.passing():
        pass


def test_nothing_is_committed_whose_files_are_in_a_folder_that_was_replaced(tmp_path: Path) -> None:
    lake = Opened(tmp_path)
    lake.insert()
    lake.door.commit(lake.connection)
    storage, before = Path(lake.place.storage), tmp_path / "before"
    storage.rename(before)
    shutil.copytree(before, storage)
    lake.insert()
    with pytest.raises(OSError, match="is another one"):
        lake.door.commit(lake.connection)
    lake.ends.close()
    assert lake.read() == 10
    assert len(list(before.rglob("*.parquet"))) == len(lake.files()) == 1
    again = Opened(tmp_path)
    again.insert()
    again.door.commit(again.connection)
    again.ends.close()
    assert again.read() == 20
    assert len(again.files()) == 2


def test_the_door_leaves_no_descriptor_behind(tmp_path: Path) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 (counted, not looked at)

    with Opened(tmp_path).ends:
        pass
    before = descriptors()
    lake = Opened(tmp_path / "another")
    lake.insert()
    lake.door.commit(lake.connection)
    lake.ends.close()
    del lake
    assert descriptors() <= before


def test_a_door_can_be_closed_twice(lake: Opened) -> None:
    door: FileDoor = lake.door
    lake.connection.close()
    door.close()
    door.close()
    assert door.stays_shut
