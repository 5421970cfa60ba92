"""The memory that a process has now, as the kernel counts it."""

from __future__ import annotations

from pathlib import Path


def resident_mib(pid: int) -> float:
    """How much of its memory is resident (VmRSS). Raises OSError, LookupError when it has ended."""
    for line in Path(f"/proc/{pid}/status").read_text("ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise LookupError(f"process {pid} has no VmRSS")
