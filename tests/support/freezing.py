"""One thread of another process, stopped as if it hung, while the others run on (ptrace(2), Linux)."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.waiting import eventually

_SEIZE, _INTERRUPT, _DETACH = 0x4206, 0x4207, 17
_WALL = 0x40000000


@contextmanager
def frozen(thread: int) -> Iterator[None]:
    """While the block runs, this thread does nothing. The main thread's number is its process's.

    It is stopped in a system call: elsewhere it may hold the interpreter's lock, and all of its process would stand
    still. The process must be a child of this one, or this one root's.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
    libc.ptrace.restype = ctypes.c_long

    def stopped_in_call() -> bool:
        for request in (_SEIZE, _INTERRUPT):
            if libc.ptrace(request, thread, None, None) != 0:
                raise OSError(ctypes.get_errno(), "ptrace")
        os.waitpid(thread, _WALL)
        if not Path(f"/proc/{thread}/syscall").read_text().startswith("-1"):
            return True
        libc.ptrace(_DETACH, thread, None, None)
        return False

    eventually(stopped_in_call)
    try:
        yield
    finally:
        libc.ptrace(_DETACH, thread, None, None)
