"""What users' SQL reads of a lake in object storage: copies on this machine, each file fetched once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import duckdb
import pytest

from runlake.lake.duck import connect
from runlake.lake.place import CatalogAddress, LakePlace
from runlake_query.reader import Snapshot
from runlake_query.sql.fetching import LakeFile, NoRoom, fetch, here
from support.objectstore import ObjectStore


class Stored(NamedTuple):
    """Two files of a bucket, one of which has a file of deletes; and a connection that can read them."""

    connection: duckdb.DuckDBPyConnection
    files: list[LakeFile]

    @property
    def snapshot(self) -> Snapshot:
        return Snapshot(self.connection, {}, None)

    def paths(self) -> list[str]:
        return [path for file in self.files for path in (file.data, file.delete) if path is not None]


@pytest.fixture
def stored(bucket: str, object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stored]:
    for name, value in object_store.env.items():
        monkeypatch.setenv(name, value)
    with connect(place=LakePlace(CatalogAddress("sqlite:/none"), bucket)) as connection:
        for number, name in enumerate(("a", "b", "c")):
            path = f"{bucket}main/events/{name}.parquet"
            connection.execute(f"COPY (SELECT range AS x FROM range({number + 1})) TO '{path}' (FORMAT parquet)")
        one, two, deletes = (f"{bucket}main/events/{name}.parquet" for name in ("a", "b", "c"))
        yield Stored(connection, [LakeFile(one, 400, None, None), LakeFile(two, 400, deletes, 400)])


def test_files_of_object_storage_are_here_byte_for_byte_and_those_of_this_machine_stay(
    stored: Stored, tmp_path: Path
) -> None:
    target = tmp_path / "fetched"
    fetch(stored.snapshot, [*stored.files, LakeFile("/lake/x.parquet", 9, None, None)], target, None)
    assert sorted(path.name for path in target.iterdir()) == ["a.parquet", "b.parquet", "c.parquet"]
    for number, path in enumerate(stored.paths()):
        found = stored.connection.execute(f"SELECT count(*) FROM read_parquet('{here(path, target)}')").fetchall()
        assert found == [(number + 1,)]
    assert here("/lake/x.parquet", target) == "/lake/x.parquet"


def test_what_is_here_already_is_not_fetched_again(stored: Stored, tmp_path: Path, bucket: str) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    fetch(stored.snapshot, stored.files[:1], first, None)
    stored.connection.execute(f"COPY (SELECT 'another' AS x) TO '{stored.files[0].data}' (FORMAT parquet)")
    fetch(stored.snapshot, stored.files, second, first)
    assert (first / "a.parquet").samefile(second / "a.parquet")
    shutil.rmtree(first)
    assert len(list(second.iterdir())) == 3
    third = tmp_path / "third"
    fetch(stored.snapshot, stored.files, third, first)
    assert (third / "a.parquet").read_bytes() != (second / "a.parquet").read_bytes(), "fetched, for it had gone"


def test_without_room_for_twice_as_much_it_is_refused_and_says_what_to_do(
    stored: Stored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: disk._replace(free=2_399))
    with pytest.raises(NoRoom, match="1,200 bytes are missing, and this disk has 2,399 free") as refused:
        fetch(stored.snapshot, stored.files, tmp_path / "fetched", None)
    assert refused.value.status == 503
    assert list((tmp_path / "fetched").iterdir()) == []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: disk._replace(free=2_400))
    fetch(stored.snapshot, stored.files, tmp_path / "enough", None)
