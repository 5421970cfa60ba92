"""What the kernel takes from a sandbox before it runs anything for others. Linux; what a machine has not is told.

Each layer stands alone: limits of resources, low priority, death with its parent, no new privileges, a user and
network namespace of its own (`unshare(2)`), and no file beyond those given (`landlock(7)`). None needs privileges.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from runlake_query.sql.messages import Confined

_NICENESS = 15
_MAX_FILES = 1_024
_MIB = 2**20

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_LANDLOCK_VERSION, _LANDLOCK_PATH_BENEATH = 1, 1
_READ_FILE, _READ_FOLDER = 1 << 2, 1 << 3
_WRITE_FILE, _TRUNCATE = 1 << 1, 1 << 14
_REMOVE_FOLDER, _REMOVE_FILE, _MAKE_FOLDER, _MAKE_FILE = 1 << 4, 1 << 5, 1 << 7, 1 << 8
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
"""How many rights of files each version of landlock knows; later ones know 16."""
_TCP_RIGHTS = 0b11


class Limits(NamedTuple):
    """Bounds of a sandbox's memory and of each file that it writes, MiB."""

    address_space_mib: int
    file_mib: int


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def confine(limits: Limits, readable: Iterable[Path], writable: Path) -> Confined:
    """Confine this process, for good. Call it before there are threads. Folders that are not there are passed over."""
    libc = ctypes.CDLL(None, use_errno=True)
    os.closerange(3, 65_536)  # whatever its parent left open
    os.umask(0o077)
    with suppress(OSError):
        os.nice(_NICENESS)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, _MAX_FILES)
    _limit(resource.RLIMIT_AS, limits.address_space_mib * _MIB)
    _limit(resource.RLIMIT_FSIZE, limits.file_mib * _MIB)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write beyond it fails, and the statement with it
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    return Confined(network=_leave_network(libc), files=_leave_files(libc, readable, writable))


def allow_cpu(seconds: float) -> None:
    """Give this process so many more seconds of all its threads' time; beyond it the kernel ends it."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime + seconds) + 1
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (soft if hard < 0 else min(soft, hard), hard))


def library_folders() -> list[Path]:
    """Where Python and its packages are: they are loaded when they are first needed."""
    found = {Path(sys.prefix), Path(sys.base_prefix) / "lib", Path("/lib"), Path("/lib64"), Path("/usr/lib")}
    found |= {Path(part) for part in sys.path if part}
    return sorted(found)


def _limit(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    value = value if hard < 0 else min(value, hard)
    resource.setrlimit(kind, (value, value))


def _leave_network(libc: ctypes.CDLL) -> str:
    if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0 or libc.unshare(_CLONE_NEWNET) == 0:
        return "namespace"
    return os.strerror(ctypes.get_errno())


def _leave_files(libc: ctypes.CDLL, readable: Iterable[Path], writable: Path) -> str:
    version = libc.syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), _LANDLOCK_VERSION)
    if version < 1:
        return os.strerror(ctypes.get_errno())
    all_rights = (1 << _FILE_RIGHTS.get(version, 16)) - 1
    ruleset = _Ruleset(all_rights, _TCP_RIGHTS if version >= 4 else 0, 0)
    size = ctypes.sizeof(ruleset) if version >= 6 else 16 if version >= 4 else 8
    rules = libc.syscall(_LANDLOCK_CREATE, ctypes.byref(ruleset), ctypes.c_size_t(size), 0)
    if rules < 0:
        return os.strerror(ctypes.get_errno())
    try:
        reading = _READ_FILE | _READ_FOLDER
        changing = _WRITE_FILE | _REMOVE_FILE | _REMOVE_FOLDER | _MAKE_FILE | _MAKE_FOLDER | _TRUNCATE
        for folder in readable:
            _allow(libc, rules, folder, reading)
        _allow(libc, rules, Path("/proc/self/cgroup"), _READ_FILE)
        _allow(libc, rules, Path("/sys/fs/cgroup"), reading)  # DuckDB 1.5 aborts when it may not read its limits
        _allow(libc, rules, writable, (reading | changing) & all_rights)
        if libc.syscall(_LANDLOCK_RESTRICT, rules, 0) != 0:
            return os.strerror(ctypes.get_errno())
    finally:
        os.close(rules)
    return "landlock"


def _allow(libc: ctypes.CDLL, rules: int, path: Path, rights: int) -> None:
    try:
        parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        beneath = _PathBeneath(rights, parent)
        libc.syscall(_LANDLOCK_ADD, rules, _LANDLOCK_PATH_BENEATH, ctypes.byref(beneath), 0)
    finally:
        os.close(parent)
