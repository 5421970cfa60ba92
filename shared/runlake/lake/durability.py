"""Durability of what DuckDB leaves to the operating system, and of folders."""

from __future__ import annotations

import os
from pathlib import Path


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


class ParquetSync:
    """Makes the Parquet files that DuckLake writes durable: DuckDB fsyncs the SQLite catalog, and not these.

    Call the object before each COMMIT. It fsyncs what it has not seen before under `storage`, and the folders that hold
    it. Files that were there before it was made belong to earlier transactions, and are left alone.
    """

    def __init__(self, storage: Path) -> None:
        self._storage = storage
        self._known: set[str] = set(self._scan())

    def __call__(self) -> int:
        """Fsync the new files and their folders; returns how many files. Raises OSError."""
        present = set(self._scan())
        new = present - self._known
        folders: set[Path] = set()
        for name in new:
            path = Path(name)
            sync_file(path)
            folders.update(parent for parent in path.parents if parent.is_relative_to(self._storage))
        for folder in folders:
            sync_folder(folder)
        self._known = present
        return len(new)

    def _scan(self) -> list[str]:
        found: list[str] = []
        folders = [str(self._storage)]
        while folders:
            try:
                with os.scandir(folders.pop()) as entries:
                    for entry in entries:
                        if entry.is_dir(follow_symlinks=False):
                            folders.append(entry.path)
                        else:
                            found.append(entry.path)
            except FileNotFoundError:
                continue
        return found
