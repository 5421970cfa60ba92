"""Fsync of what DuckDB leaves to the operating system. What is asked of the system is watched at `os.fsync`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runlake.lake import duck
from runlake.lake.attach import CATALOG, attach_for_writing
from runlake.lake.durability import ParquetSync, sync_file, sync_folder
from runlake.lake.place import LakePlace


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files and folders that were fsynced, in order; they are fsynced all the same."""
    found: list[Path] = []
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        found.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    return found


def test_a_file_and_a_folder_are_synced_and_closed(tmp_path: Path, synced: list[Path]) -> None:
    file = tmp_path / "x"
    file.write_bytes(b"x")
    open_before = len(list(Path("/proc/self/fd").iterdir()))
    sync_file(file)
    sync_folder(tmp_path)
    assert synced == [file, tmp_path]
    assert len(list(Path("/proc/self/fd").iterdir())) == open_before


def test_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        sync_file(tmp_path / "none")
    with pytest.raises(FileNotFoundError):
        sync_folder(tmp_path / "none")
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        sync_folder(tmp_path / "file")


def test_new_files_are_synced_before_the_folders_that_hold_them(tmp_path: Path, synced: list[Path]) -> None:
    storage = tmp_path / "lake"
    (storage / "main" / "old").mkdir(parents=True)
    (storage / "main" / "old" / "before.parquet").touch()
    sync = ParquetSync(storage)
    new = [storage / "main" / "old" / "a.parquet", storage / "main" / "new" / "b.parquet"]
    new[1].parent.mkdir()
    for file in new:
        file.touch()
    assert sync() == 2
    assert set(synced[:2]) == set(new)
    folders = [storage, storage / "main", storage / "main" / "old", storage / "main" / "new"]
    assert sorted(synced[2:]) == sorted(folders)


def test_what_was_synced_once_is_not_synced_again(tmp_path: Path, synced: list[Path]) -> None:
    sync = ParquetSync(tmp_path)
    (tmp_path / "a.parquet").touch()
    assert sync() == 1
    synced.clear()
    assert sync() == 0
    assert synced == []


def test_a_storage_folder_that_is_made_later_is_found(tmp_path: Path, synced: list[Path]) -> None:
    sync = ParquetSync(tmp_path / "lake")
    assert sync() == 0
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake" / "a.parquet").touch()
    assert sync() == 1


def test_a_file_that_was_removed_and_written_again_is_synced_again(tmp_path: Path, synced: list[Path]) -> None:
    sync = ParquetSync(tmp_path)
    file = tmp_path / "a.parquet"
    for _ in range(2):
        file.touch()
        assert sync() == 1
        file.unlink()
        assert sync() == 0


def test_a_failure_to_sync_is_passed_on_and_the_file_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = ParquetSync(tmp_path)
    (tmp_path / "a.parquet").touch()

    def fail(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="Input/output error"):
            sync()
    assert sync() == 1


def test_before_a_commit_exactly_the_files_of_the_transaction_are_synced(tmp_path: Path, synced: list[Path]) -> None:
    storage = tmp_path / "lake"
    connection = duck.connect()
    attach_for_writing(connection, LakePlace.of_files(tmp_path / "catalog.sqlite", storage))
    connection.execute(f"CREATE TABLE {CATALOG}.t (x INTEGER)")
    connection.execute(f"INSERT INTO {CATALOG}.t VALUES (1)")
    sync = ParquetSync(storage)
    before = set(storage.rglob("*.parquet"))
    synced.clear()
    connection.execute("BEGIN")
    connection.execute(f"INSERT INTO {CATALOG}.t SELECT * FROM range(1000)")
    assert sync() == 1
    connection.execute("COMMIT")
    (new,) = set(storage.rglob("*.parquet")) - before
    assert synced[0] == new
    assert set(synced[1:]) == {storage, storage / "main", storage / "main" / "t"}
    connection.close()
