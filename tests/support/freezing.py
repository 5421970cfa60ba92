"""One thread of another process, stopped as if it hung, while the others run on (ptrace(2), Linux)."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.waiting import eventually

_SEIZE, _INTERRUPT, _DETACH = 0x4206, 0x4207, 17
_WALL = 0x40000000
_WAITS = {
    "x86_64": {7, 23, 232, 270, 271, 281, 441},
    "aarch64": {22, 72, 73, 441},
}[platform.machine()]
"""The numbers of poll, select, epoll_wait and their like (syscalls(2))."""


@contextmanager
def frozen(thread: int) -> Iterator[None]:
    """While the block runs, this thread does nothing. The main thread's number is its process's.

    It is stopped while it waits for something to read: elsewhere it may hold a lock (the interpreter's, the log's), and
    others of its process would stand still, too. The process must be a child of this one, or this one root's.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
    libc.ptrace.restype = ctypes.c_long

    def stopped_while_it_waits() -> bool:
        for request in (_SEIZE, _INTERRUPT):
            if libc.ptrace(request, thread, None, None) != 0:
                raise OSError(ctypes.get_errno(), "ptrace")
        os.waitpid(thread, _WALL)
        if int(Path(f"/proc/{thread}/syscall").read_text().split()[0]) in _WAITS:
            return True
        libc.ptrace(_DETACH, thread, None, None)
        return False

    eventually(stopped_while_it_waits)
    try:
        yield
    finally:
        libc.ptrace(_DETACH, thread, None, None)
