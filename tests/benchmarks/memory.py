"""The memory of a process that is measured, as the kernel counts it."""

from __future__ import annotations

from pathlib import Path

from support.processes import Process


def peak_mib(process: Process) -> float:
    """The highest resident memory that a process has had, since it began or since `forget_peak`."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    (peak,) = (line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return int(peak) / 1024


def forget_peak(process: Process) -> float:
    """Have the highest be what is resident now, MiB, which it returns (`proc_pid_clear_refs(5)`)."""
    Path(f"/proc/{process.pid}/clear_refs").write_text("5")
    return peak_mib(process)
