"""Named places where the fault suite kills the worker.

`RUNLAKE_CRASH_AT=<name>[:<n>]` ends the process with SIGKILL the n-th time (default: the first) that it passes the
place of that name; unset, passing costs one comparison. The places are on the path of a whole group or flush, never on
that of one message.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping

MAINTENANCE_STEPS = ("orphans", "forget", "retain", "refused", "rewrite", "inline", "merge", "expire", "remove")
NAMES = (
    "journal.before_write",
    "journal.after_write",
    "journal.after_sync",
    "ack.before",
    "ack.after",
    "flush.before_begin",
    "flush.after_insert",
    "flush.before_commit",
    "flush.after_commit",
    "flush.after_remove",
    *(f"maintain.{step}.{place}" for step in MAINTENANCE_STEPS for place in ("before_commit", "after_commit")),
)

CHANGE_NAMES = ("change.before_report", "change.after_report", "change.after_number_on", "change.after_activate")
"""Passed by the workers of a cluster when their list changes."""


class CrashPoints:
    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        name, _, count = environ.get("RUNLAKE_CRASH_AT", "").partition(":")
        self._name = name
        self._left = int(count) if count else 1

    def passing(self, name: str) -> None:
        """Die here when this is the place."""
        if name != self._name:
            return
        self._left -= 1
        if self._left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
