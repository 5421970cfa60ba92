"""Agents in processes of their own: small programs that emit numbered events, and end as a test wants.

A program knows `endpoint`, `spool`, `arguments`, `emit(n)`, and the modules that agents need.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

PRELUDE = """
import asyncio, atexit, datetime, multiprocessing, os, signal, sys, threading, uuid
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests are a shell's background job
import runlake
endpoint, spool, *arguments = sys.argv[1:]
runlake.configure(endpoint=endpoint, spool=spool, exit_timeout_s=float(os.environ.get("EXIT_S", "5")))
def emit(n):
    runlake.emit(runlake.RunEvent(event_id=uuid.uuid4(), run_id="r", type="t", payload={"n": n},
                 ts=datetime.datetime.now(datetime.UTC)))
"""


def start_agent(
    program: str, endpoint: str, spool: Path | str, *arguments: object, folder: Path | None = None
) -> subprocess.Popen[str]:
    """Start a program; in `folder` as a file, for those that are imported by their children."""
    command: Sequence[str] = ["-c", PRELUDE + program]
    if folder is not None:
        (folder / "agent.py").write_text(PRELUDE + program, "utf-8")
        command = [str(folder / "agent.py")]
    return subprocess.Popen(
        [sys.executable, *command, endpoint, str(spool), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_agent(
    program: str, endpoint: str, spool: Path | str, *arguments: object, folder: Path | None = None
) -> tuple[int, str, str]:
    """Run a program to its end: its exit status (negative for a signal), and what it printed."""
    with start_agent(program, endpoint, spool, *arguments, folder=folder) as agent:
        said, errors = agent.communicate(timeout=60)
        return agent.returncode, said, errors
