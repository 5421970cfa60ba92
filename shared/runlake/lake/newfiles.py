"""Which files appeared in a folder and the folders in it, as the kernel tells it: inotify(7).

What it costs is proportional to what appeared, and not to what is there. Where the kernel has no watch to give, or lost
count, the whole folder is read instead, so that no file is ever missed.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

_CLOSE_WRITE, _MOVED_TO, _CREATE = 0x8, 0x80, 0x100
_ONLY_DIRECTORY = 0x01000000
_OVERFLOW, _IS_DIRECTORY = 0x4000, 0x40000000
_HEADER = struct.Struct("iIII")
_READ_BYTES = 1 << 16


class NewFiles(Protocol):
    """What was there before it was made is not new."""

    def take(self) -> set[str]:
        """The paths of files that appeared, or were written, since the last time. Some may be gone again."""

    def close(self) -> None:
        """Stop watching. Idempotent."""


def new_files(root: Path) -> NewFiles:
    """Watch `root`, or read it each time where the kernel cannot."""
    try:
        return WatchedFiles(root)
    except OSError:
        return ScannedFiles(root)


class ScannedFiles:
    """Reads the whole folder each time."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known = set(_files(str(root)))

    def take(self) -> set[str]:
        present = set(_files(str(self._root)))
        new, self._known = present - self._known, present
        return new

    def close(self) -> None:
        pass


class WatchedFiles:
    """Has the kernel watch each folder. Raises OSError when it cannot, also from `take`."""

    def __init__(self, root: Path) -> None:
        self._root = str(root)
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._folders: dict[int, str] = {}
        self._descriptor = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor < 0:
            raise _failure()
        try:
            for _ in self._watch_all(self._root):
                pass  # there before us
        except BaseException:
            self.close()
            raise

    def take(self) -> set[str]:
        found: set[str] = set()
        if not self._folders:  # the root was not there yet
            found.update(self._watch_all(self._root))
        while events := self._read():
            for watch, mask, name in events:
                if mask & _OVERFLOW:
                    found.update(self._watch_all(self._root))
                elif (folder := self._folders.get(watch)) is not None and name:
                    path = os.path.join(folder, name)  # noqa: PTH118 (text, for there may be many)
                    found.update(self._watch_all(path) if mask & _IS_DIRECTORY else (path,))
        return found

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _watch_all(self, folder: str) -> Iterator[str]:
        """Watch a folder and those in it; gives the files that are in them. Watched before it is read: what appears in
        between is found twice, and never missed."""
        watch = self._libc.inotify_add_watch(
            self._descriptor, os.fsencode(folder), _CLOSE_WRITE | _MOVED_TO | _CREATE | _ONLY_DIRECTORY
        )
        if watch < 0:
            if ctypes.get_errno() == errno.ENOENT:  # not there yet, or gone already
                return
            raise _failure()
        self._folders[watch] = folder
        for entry in _entries(folder):
            if entry.is_dir(follow_symlinks=False):
                yield from self._watch_all(entry.path)
            else:
                yield entry.path

    def _read(self) -> list[tuple[int, int, str]]:
        try:
            data = os.read(self._descriptor, _READ_BYTES)
        except BlockingIOError:
            return []
        events, at = [], 0
        while at < len(data):
            watch, mask, _, size = _HEADER.unpack_from(data, at)
            at += _HEADER.size
            events.append((watch, mask, os.fsdecode(data[at : at + size].rstrip(b"\0"))))
            at += size
        return events


def _failure() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


def _files(folder: str) -> Iterator[str]:
    for entry in _entries(folder):
        if entry.is_dir(follow_symlinks=False):
            yield from _files(entry.path)
        else:
            yield entry.path


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except FileNotFoundError:
        return []
