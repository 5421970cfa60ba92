"""The fault layer of `faultlayer.c` as a test drives it: disks that fail or are slow, clocks that jump, and power loss.

It is compiled once per test process, and is loaded into the processes whose environment has `env`.
"""

from __future__ import annotations

import ctypes
import enum
import mmap
import os
import random
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("faultlayer.c")
_RULES = 8
_BLOCK = 4096


class Calls(enum.IntFlag):
    """Which calls a rule is for."""

    WRITE = 1
    SYNC = 2
    READ = 4
    CLOCK = 8


class _Rule(ctypes.Structure):
    _fields_ = (
        ("calls", ctypes.c_int32),
        ("error", ctypes.c_int32),
        ("after", ctypes.c_int64),
        ("left", ctypes.c_int64),
        ("ms", ctypes.c_int64),
        ("hits", ctypes.c_int64),
        ("pid", ctypes.c_int64),
        ("path", ctypes.c_char * 96),
    )


class Rule:
    """A rule in force."""

    def __init__(self, raw: _Rule) -> None:
        self._raw = raw

    @property
    def hits(self) -> int:
        """How many calls it has struck."""
        return int(self._raw.hits)

    def end(self) -> None:
        self._raw.calls = 0


class FaultLayer:
    """Of the processes that use `folder` as their disk. What it keeps is in `beside`, on the same file system."""

    def __init__(self, library: Path, folder: Path, beside: Path, *, power: bool = False) -> None:
        """With `power`, what was fsynced is kept for `lose_power`; that makes each fsync slower."""
        self._root = folder
        self._shadow = beside / "shadow"
        self._shadow.mkdir(parents=True)
        control = beside / "control"
        control.write_bytes(bytes(ctypes.sizeof(_Rule) * _RULES))
        with control.open("r+b") as file:
            self._rules = (_Rule * _RULES).from_buffer(mmap.mmap(file.fileno(), 0))
        self.env = {
            "LD_PRELOAD": str(library),
            "FAULTS_CONTROL": str(control),
            "FAULTS_ROOT": str(folder),
        } | ({"FAULTS_SHADOW": str(self._shadow)} if power else {})

    def fail(self, calls: Calls, path: str, error: int, times: int = -1) -> Rule:
        """Let these calls on files with `path` in their path fail with this errno; a negative `times`: all of them."""
        return self._add(calls, path, error=error, left=times)

    def kill(self, calls: Calls, path: str, after: int) -> Rule:
        """`kill -9` at the call that follows `after` others, before it does anything."""
        return self._add(calls, path, error=-signal.SIGKILL, after=after, left=1)

    def slow(self, calls: Calls, path: str, ms: int, times: int = -1) -> Rule:
        """Let these calls take `ms` longer."""
        return self._add(calls, path, ms=ms, left=times)

    def jump_clock(self, seconds: float, pid: int = 0) -> Rule:
        """Let the wall clock be ahead by so much, or behind, from now on: that of one process, or of all."""
        return self._add(Calls.CLOCK, "", ms=round(seconds * 1000), pid=pid)

    def settle(self) -> None:
        """Have all that the folder holds now be on the disk: it was written by processes without the layer."""
        for name, folders, files in os.walk(self._root):
            folder = Path(name)
            entries = [("d", folder / entry) for entry in folders] + [("f", folder / entry) for entry in files]
            inodes = {path: path.stat().st_ino for _, path in entries}
            listed = "".join(f"{kind} {inodes[path]} {path.name}\n" for kind, path in entries)
            _listing(self._shadow, folder).write_text(listed, "utf-8")
            for kind, path in entries:
                if kind == "f":
                    content = path.read_bytes()
                    (self._shadow / f"{inodes[path]}.data").write_bytes(len(content).to_bytes(8, "little") + content)
                    (self._shadow / f"{inodes[path]}.link").unlink(missing_ok=True)
                    (self._shadow / f"{inodes[path]}.link").hardlink_to(path)

    @contextmanager
    def failing(self, calls: Calls, path: str, error: int, times: int = -1) -> Iterator[Rule]:
        rule = self.fail(calls, path, error, times)
        try:
            yield rule
        finally:
            rule.end()

    def _add(
        self, calls: Calls, path: str, *, error: int = 0, after: int = 0, left: int = -1, ms: int = 0, pid: int = 0
    ) -> Rule:
        raw = next(rule for rule in self._rules if not rule.calls)
        raw.error, raw.after, raw.left, raw.ms, raw.hits, raw.path = error, after, left, ms, 0, os.fsencode(path)
        raw.pid = pid
        raw.calls = int(calls)  # last: now it is in force
        return Rule(raw)

    def lose_power(self, dice: random.Random, *, torn: bool) -> None:
        """Leave of the folder, whose processes are dead, what a loss of power leaves.

        By default nothing that was not fsynced. `torn`: of each file any of the 4 KiB blocks that were written since
        its last fsync, and any of the folders as they are.
        """
        _Restoring(self._shadow, dice, torn=torn).folder(self._root)


class _Restoring:
    def __init__(self, shadow: Path, dice: random.Random, *, torn: bool) -> None:
        self._shadow = shadow
        self._dice = dice
        self._torn = torn
        self._done: set[int] = set()

    def folder(self, path: Path, *, top: bool = True) -> None:
        entries = self._entries(path)
        if entries is None:  # the test's own folder stays; of one of a process nothing was promised
            entries = {entry.name: (entry.is_dir(), entry.inode()) for entry in os.scandir(path)} if top else {}
        if not (self._torn and self._dice.random() < 0.5):
            for entry in os.scandir(path):
                if entry.name not in entries and not top:
                    _remove(Path(entry.path))
            for name, (is_folder, inode) in entries.items():
                if is_folder:
                    (path / name).mkdir(exist_ok=True)
                else:
                    self._put(path / name, inode)
        for entry in sorted(os.scandir(path), key=lambda entry: entry.name):
            if entry.is_dir():
                self.folder(Path(entry.path), top=False)
            elif entry.is_file(follow_symlinks=False):
                self._content(Path(entry.path), entry.inode())

    def _entries(self, path: Path) -> dict[str, tuple[bool, int]] | None:
        """The entries of a folder at its last fsync: name → whether it is a folder, and the inode."""
        try:
            listed = _listing(self._shadow, path).read_text("utf-8")
        except FileNotFoundError:
            return None
        parts = (line.split(" ", 2) for line in listed.splitlines())
        return {name: (kind == "d", int(inode)) for kind, inode, name in parts}

    def _put(self, path: Path, inode: int) -> None:
        """Let this name be of this inode again."""
        if path.exists() and path.stat().st_ino == inode:
            return
        link = path.with_name(f"{path.name}.again")
        os.link(self._shadow / f"{inode}.link", link)
        link.replace(path)

    def _content(self, path: Path, inode: int) -> None:
        if inode in self._done:
            return
        self._done.add(inode)
        try:
            kept = (self._shadow / f"{inode}.data").read_bytes()
            synced = kept[8 : 8 + int.from_bytes(kept[:8], "little")]
        except FileNotFoundError:
            synced = b""
        now = path.read_bytes()
        if now == synced:
            return
        left = self._mixture(synced, now) if self._torn else synced
        with path.open("r+b") as file:  # in place: the inode stays
            file.write(left)
            file.truncate()

    def _mixture(self, synced: bytes, now: bytes) -> bytes:
        low, high = sorted((len(synced), len(now)))
        size = self._dice.choice((low, high, self._dice.randint(low, high)))
        blocks = []
        for at in range(0, size, _BLOCK):
            source = self._dice.choice((synced, now))
            blocks.append(source[at : at + _BLOCK].ljust(_BLOCK, b"\0"))
        return b"".join(blocks)[:size]


def clock_ahead(library: Path, seconds: float) -> dict[str, str]:
    """The environment of a process whose wall clock is ahead by so much all the time, or behind: a host of its own."""
    return {"LD_PRELOAD": str(library), "FAULTS_CLOCK_MS": str(round(seconds * 1000))}


def compile_layer(folder: Path) -> Path:
    """The layer as a shared library in `folder`. Skips the test where there is no C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("the fault layer needs a C compiler (cc)")
    library = folder / "faultlayer.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", library, SOURCE, "-ldl", "-lpthread"], check=True)
    return library


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _listing(shadow: Path, folder: Path) -> Path:
    """Where the entries stand that a folder had at its last fsync."""
    return shadow / f"dir.{_fnv1a(os.fsencode(folder)):016x}"


def _fnv1a(text: bytes) -> int:
    value = 14695981039346656037
    for byte in text:
        value = (value ^ byte) * 1099511628211 % 2**64
    return value
