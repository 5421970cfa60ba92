"""Processes that run as other users. Only root can start them."""

from __future__ import annotations

import stat
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

_NEEDED = (Path(sys.base_prefix), Path(sys.prefix), Path(__file__).parents[2])
"""Where the interpreter, its packages and ours are."""
_BECOME = 'umask "$0"; exec setpriv --no-new-privs --reuid "$1" --regid "$2" --clear-groups "${@:3}"'
_SHOW = """
number=0
for path in $NEEDED; do number=$((number + 1)); mkdir /mnt/$number; mount --bind "$path" /mnt/$number; done
for folder in $HIDDEN; do mount -t tmpfs -o mode=755 none "$folder"; done
number=0
for path in $NEEDED; do number=$((number + 1)); mkdir -p "$path"; mount --move /mnt/$number "$path"; done
"""


class Identity(NamedTuple):
    """A user by numbers, without any group but one and without privileges, and the umask it works with."""

    user: int
    group: int
    umask: int = 0o022

    def prefix(self) -> list[str]:
        """What to put before a command. The command takes this process's place, and keeps its number.

        What Python needs may be in a folder that others may not enter (/root): then the command has a mount namespace
        of its own, in which nothing of that folder is left but this.
        """
        run = ["bash", "-ec", _BECOME, f"{self.umask:o}", str(self.user), str(self.group)]
        shown = show_hidden()
        if not shown:
            return run
        return ["unshare", "--mount", "--propagation", "private", "bash", "-ec", f'{shown} exec "$@"', "-", *run]


def show_hidden() -> str:
    """What a shell runs in a mount namespace of its own, so that others may see what Python needs; "" when they do."""
    hidden = {path: folder for path in _NEEDED if (folder := _closed(path)) is not None}
    if not hidden:
        return ""
    return f"mount -t tmpfs none /mnt; NEEDED='{_words(hidden)}'; HIDDEN='{_words(hidden.values())}'; {_SHOW}"


def _closed(path: Path) -> Path | None:
    """The topmost folder on the way to `path` that others may not enter."""
    return next((folder for folder in reversed(path.parents) if not folder.stat().st_mode & stat.S_IXOTH), None)


def _words(paths: Iterable[Path]) -> str:
    return " ".join(sorted({str(path) for path in paths}))
