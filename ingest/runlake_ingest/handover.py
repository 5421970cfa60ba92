"""`python -m runlake_ingest.handover WORKER [--journal FOLDER]`: for `runlake workers retire`.

Under the lease of a worker that is gone, which nobody else may have: marks it as retired, so that it never starts
again, and brings what its journal holds to the lake, under its own id and numbers. It may be killed anywhere, and run
again.
Prints one JSON object: `segments` and `messages` that it brought.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import msgspec

from runlake import settings as settings_module
from runlake.errors import LakeError, RunLakeError
from runlake.lake.durability import make_folder
from runlake.lake.members import Members, lock_key
from runlake.logs import Log
from runlake.settings import Settings
from runlake_ingest.crashpoints import CrashPoints
from runlake_ingest.flusher import flush_segment
from runlake_ingest.journal import Segment
from runlake_ingest.lakewriter import LakeWriter
from runlake_ingest.recovery import recover


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status; what went wrong is on standard error."""
    parser = argparse.ArgumentParser()
    parser.add_argument("worker", type=UUID)
    parser.add_argument("--journal", type=Path)
    asked = parser.parse_args(arguments)
    try:
        settings = settings_module.load(listens=False)
        brought = _retire(settings, asked.worker, asked.journal)
    except (RunLakeError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(
        msgspec.json.encode({"segments": len(brought), "messages": sum(one.messages for one in brought)}).decode()
    )
    return 0


def _retire(settings: Settings, worker: UUID, folder: Path | None) -> list[Segment]:
    members = Members(settings.lake, f"runlake lease {worker}")
    try:
        if not members.try_lock(lock_key("lease", worker)):
            raise LakeError(f"Worker {worker} runs, or is being retired: there is nothing to hand over.")
        journal = None if folder is None else _journal_in(folder)
        if not members.retire(worker):
            raise LakeError(f"No worker {worker} has ever run on this catalog.")
        return [] if journal is None else _bring(settings, members, worker, journal)
    finally:
        members.close()


def _journal_in(folder: Path) -> Path:
    """The journal in a data folder, an ingest folder, or a folder of segments."""
    for found in (folder / "ingest" / "journal", folder / "journal", folder):
        if found.is_dir() and (found.name == "journal" or any(found.glob("*.ndjson"))):
            return found
    raise LakeError(f"There is no journal in {folder}: give the data folder of the worker that is gone, or a copy.")


def _bring(settings: Settings, members: Members, worker: UUID, journal: Path) -> list[Segment]:
    log, crash = Log("ingest", settings.log_level), CrashPoints()
    lake = LakeWriter(settings.lake, crash, log, before_commit=members.confirm)
    try:
        uuid = lake.open()
        aside = journal.with_name("aside")
        make_folder(aside)
        segments = recover(journal, aside, uuid, lambda of: lake.flushed(of)[0], log)
        for segment in segments:
            if segment.worker != worker:
                raise LakeError(f"The journal segment {segment.path} is of worker {segment.worker}, not of {worker}.")
        for done, segment in enumerate(segments):
            log.info("recovering", segment=segment.number, messages=segment.messages, left=len(segments) - done)
            flush_segment(lake, segment, crash, log)
        return segments
    finally:
        lake.close()


if __name__ == "__main__":
    sys.exit(main())
