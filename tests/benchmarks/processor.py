"""The processor time of a process that is measured, as the kernel counts it."""

from __future__ import annotations

import os
from pathlib import Path
from time import perf_counter

from support.processes import Process, pauses

_IDLE_SHARE = 0.05
_IDLE_FOR_S = 1.0
_DEADLINE_S = 120.0


def cpu_s(process: Process) -> float:
    """Seconds that a process and its threads have used."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_until_idle(process: Process) -> None:
    """Wait until what a process does for itself is done: for a second it has used less than a twentieth of a core.

    Raises TimeoutError after two minutes.
    """
    until = perf_counter() + _DEADLINE_S
    since, used = perf_counter(), cpu_s(process)
    for _ in pauses(0.1):
        now, using = perf_counter(), cpu_s(process)
        if now - since >= _IDLE_FOR_S:
            if using - used < _IDLE_SHARE * (now - since):
                return
            since, used = now, using
        if now > until:
            raise TimeoutError(f"the process {process.pid} has been at work for {_DEADLINE_S} s")
