"""Closing the locks that a forked child has of its parent's spools.

A child knows those that its parent had noted down. Those that another thread of the parent was just opening or closing
are noted nowhere, and would keep a spool looking owned for as long as the child lives. So the child asks the system
which files it has open, where there is `/proc`.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from runlake.spoolfolder import OWNER

_OPEN_FILES = "/proc/self/fd"
_GONE = " (deleted)"


def close_inherited_locks(root: Path) -> None:
    """Close every lock of a spool below `root`. Called in a forked child, which has none of its own yet."""
    with suppress(OSError):
        below = f"{os.path.realpath(root)}/"
        for number in os.listdir(_OPEN_FILES):  # noqa: PTH208 (a fork should not wait for a thousand paths)
            with suppress(OSError):  # that of the list itself
                path = os.readlink(f"{_OPEN_FILES}/{number}")  # noqa: PTH115
                if path.startswith(below) and path.removesuffix(_GONE).endswith(f"/{OWNER}"):
                    os.close(int(number))
