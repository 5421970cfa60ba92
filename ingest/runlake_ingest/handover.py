"""`python -m runlake_ingest.handover WORKER [--journal FOLDER]`: for `runlake workers retire`.

Under the lease of a worker that is gone, which nobody else may have: marks it as retired, so that it never starts
again, and brings what its journal holds to the lake, under its own id and numbers. It may be killed anywhere, and run
again.

What is gone may only be stopped, or cut off from the network, and come back. So before all else its connections are
ended, and the lake refuses what it tries to commit from then on (`Members.fence`). Its journal is read when it has
acknowledged for the last time, unless it cannot reach the catalog: then it goes on taking (`leasesight.py`).
Prints one JSON object: `segments` and `messages` that it brought.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from uuid import UUID, uuid4

import msgspec

from runlake import lockfile
from runlake import settings as settings_module
from runlake.errors import LakeError, RunLakeError
from runlake.lake.durability import make_folder
from runlake.lake.leaselock import SILENT_S, LeaseLock
from runlake.lake.members import Members, lease_name, writer_name
from runlake.lake.place import LakePlace
from runlake.logs import Log
from runlake.settings import Settings
from runlake_ingest.crashpoints import CrashPoints
from runlake_ingest.flusher import flush_segment
from runlake_ingest.givenup import refuse_given_up
from runlake_ingest.journal import Segment
from runlake_ingest.journalfolder import journal_in
from runlake_ingest.lakewriter import LakeWriter
from runlake_ingest.leasesight import SURE_FOR_S
from runlake_ingest.recovery import recover

_TRY_EVERY_S = 0.1


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
    log = Log("ingest", settings.log_level)
    with ExitStack() as ends:
        journal = None if folder is None else journal_in(folder)
        if journal is not None:
            ends.enter_context(_used_by_nobody(journal.parent))
        members = Members(settings.lake, lease_name(worker))
        ends.callback(members.close)
        _take_lease(members, worker, log)
        token = uuid4()
        members.end_writers(worker)  # one may be stopped in the midst of a COMMIT, and hold its row of the fence
        if not members.retire(worker, token):
            raise LakeError(f"No worker {worker} has ever run on this catalog.")
        members.fence()
        members.end_writers(worker)
        if journal is None:
            return []
        last_ack = time.monotonic() + SURE_FOR_S
        lake = settings.lake.named(writer_name(worker, token))
        return _bring(lake, members, worker, journal, last_ack, log)


def _take_lease(members: Members, worker: UUID, log: Log) -> None:
    lock, said = LeaseLock(worker), False
    while (held := lock.take(members)) != "mine":
        if held == "by one that runs":
            raise LakeError(f"Worker {worker} runs, or is being retired: stop it first.")
        if not said:
            said = True
            log.warning("lease_held_elsewhere", reason="its holder is silent", waits_up_to_s=SILENT_S)
        time.sleep(_TRY_EVERY_S)


@contextmanager
def _used_by_nobody(folder: Path) -> Iterator[None]:
    """Have the lock of a worker's folder, where it has one. Raises LakeError when a process still has it."""
    try:
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:  # a copy of the journal alone, or one that cannot be written
        yield
        return
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = lockfile.read(lock)
            raise LakeError(
                f"{f'Process {owner}' if owner else 'A process'} has {folder}: it runs, or was stopped. End it first."
            ) from None
        yield
    finally:
        os.close(lock)


def _bring(place: LakePlace, members: Members, worker: UUID, journal: Path, last_ack: float, log: Log) -> list[Segment]:
    """`last_ack`: on the monotonic clock, after which nothing is acknowledged into the journal any more."""
    crash = CrashPoints()
    lake = LakeWriter(place, crash, log, before_commit=members.confirm)
    try:
        uuid = lake.open()
        members.fence()
        time.sleep(max(0.0, last_ack - time.monotonic()))
        refuse_given_up(place, worker, journal)
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
