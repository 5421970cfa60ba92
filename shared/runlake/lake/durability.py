"""Durability of what DuckDB leaves to the operating system, and of folders."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from runlake.lake.newfiles import new_files
from runlake.lake.place import LakePlace


def sync_folder(folder: Path) -> None:
    """Make the entries of a folder durable: files created in it, renamed into it, removed from it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """Make a folder and what is missing above it, durably: each new one's entry in the folder above is fsynced."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        sync_folder(folder.parent)


def sync_file(path: Path) -> None:
    """Make the content of a file durable, whoever wrote it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class FileSync(Protocol):
    """Call it before each COMMIT: then the files that the transaction wrote are durable."""

    def __call__(self) -> object:
        """Raises OSError, and tries the same files again then."""

    def close(self) -> None:
        """Stop looking for files. Idempotent."""


def file_sync(place: LakePlace) -> FileSync:
    """What makes the files of a lake durable. Raises OSError."""
    folder = place.storage_folder
    return NoSync() if folder is None else ParquetSync(folder)


class NoSync:
    """For object storage: what it has answered for is durable."""

    def __call__(self) -> int:
        return 0

    def close(self) -> None:
        pass


class ParquetSync:
    """Makes the Parquet files that DuckLake writes durable: DuckDB fsyncs the SQLite catalog, and not these.

    Call the object before each COMMIT. It fsyncs what has appeared under `storage` since the last time, and the folders
    that hold it. Files that were there before it was made belong to earlier transactions, and are left alone.
    """

    def __init__(self, storage: Path) -> None:
        self._storage = storage
        self._new = new_files(storage)
        self._waiting: set[str] = set()

    def __call__(self) -> int:
        """Fsync the new files and their folders; returns how many files. Raises OSError, and tries them again then."""
        self._waiting |= self._new.take()
        folders: set[Path] = set()
        synced = 0
        for name in self._waiting:
            path = Path(name)
            try:
                sync_file(path)
            except FileNotFoundError:  # of a transaction that was rolled back
                continue
            synced += 1
            folders.update(parent for parent in path.parents if parent.is_relative_to(self._storage))
        for folder in folders:
            sync_folder(folder)
        self._waiting.clear()
        return synced

    def close(self) -> None:
        """Stop looking for files. Idempotent."""
        self._new.close()
