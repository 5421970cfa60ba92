"""Has the ingest side bring the journal of a worker that is gone to the lake: a process of its own, for the command
imports nothing of it."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import msgspec

from runlake.cli.failure import CommandFailed
from runlake.settings import PREFIX, Settings


def hand_over(settings: Settings, worker: UUID, journal: Path | None) -> None:
    """Retire a worker, and bring its journal to the lake, if there is one. Raises CommandFailed."""
    if importlib.util.find_spec("runlake_ingest") is None:
        raise CommandFailed("the ingest side is not installed here; install it with `pip install 'runlake[server]'`.")
    command = [sys.executable, "-P", "-m", "runlake_ingest.handover", str(worker)]
    if journal is not None:
        command += ["--journal", str(journal.absolute())]
    # Not by flags: a process listing would show the catalog's password.
    place = {f"{PREFIX}CATALOG": str(settings.catalog), f"{PREFIX}STORAGE": settings.storage}
    done = subprocess.run(command, stdout=subprocess.PIPE, env=os.environ | place, text=True, check=False)
    if done.returncode:
        raise CommandFailed(f"worker {worker} cannot be retired: the reason is above.")
    brought = msgspec.json.decode(done.stdout, type=dict[str, int])
    if journal is None:
        said = "Its journal is given up: what it had acknowledged and not flushed is lost."
    else:
        said = f"Brought {brought['messages']:,} messages of its journal to the lake."
    print(f"Worker {worker} is retired. {said}", file=sys.stderr)
