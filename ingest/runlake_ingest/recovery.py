"""What a worker does with the journal that it finds at start; `journal.py` states the rules.

The segments that it returns go to the lake before the worker opens a socket, so that the dedupe window is rebuilt from
one place, the lake.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

from runlake.errors import LakeError
from runlake.lake.durability import sync_folder
from runlake.logs import Log
from runlake_ingest.journal import Scan, Segment, scan_segment, segment_files

FlushedSegment = Callable[[UUID], int]
"""The number of a worker's last segment that is in the lake; 0 when there is none."""


def recover(journal: Path, aside: Path, lake: UUID, flushed_segment: FlushedSegment, log: Log) -> list[Segment]:
    """Bring the journal in order; returns the segments that are not in the lake yet, oldest first.

    Raises LakeError for a journal of another lake, and OSError when the disk fails.
    """
    for leftover in journal.glob("*.tmp"):
        leftover.unlink()
    files = segment_files(journal)
    found: list[Segment] = []
    for path in files:
        newest = path == files[-1]
        scan = scan_segment(path)
        _keep_damage(path, aside, scan, log, newest)
        if not scan.groups:
            path.unlink()
            continue
        first, last = scan.groups[0][0], scan.groups[-1][0]
        if first.lake != lake:
            raise LakeError(
                f"The journal segment {path} belongs to the lake {first.lake}, and this is the lake {lake}."
                " Give this worker the catalog that the journal was written for, or move the journal away."
            )
        if first.segment <= flushed_segment(first.worker):
            path.unlink()
            continue
        if newest or scan.torn or scan.broken:
            _write_anew(path, scan)
        found.append(
            Segment(
                path=path,
                worker=first.worker,
                number=first.segment,
                first_seq=first.first_seq,
                last_seq=last.last_seq,
                messages=sum(group.last_seq - group.first_seq + 1 for group, _, _ in scan.groups),
                size=sum(end - begin for _, begin, end in scan.groups),
            )
        )
    sync_folder(journal)
    return found


def _keep_damage(path: Path, aside: Path, scan: Scan, log: Log, newest: bool) -> None:
    """Keep aside what will not go on: the torn end of the newest segment, or the whole of a damaged one."""
    corrupt = scan.broken or (scan.torn and not newest)
    if not corrupt and not scan.torn:
        return
    lost = scan.size - sum(end - begin for _, begin, end in scan.groups)
    kept = aside / f"{path.stem}.{time.time_ns()}.{'damaged' if corrupt else 'tail'}"
    with path.open("rb") as source, kept.open("xb") as target:
        source.seek(0 if corrupt else scan.good_end)
        shutil.copyfileobj(source, target)
        target.flush()
        os.fsync(target.fileno())
    sync_folder(aside)
    if corrupt:
        log.error("journal_corrupt", segment=path.name, lost_bytes=lost, saved_groups=len(scan.groups), kept=kept.name)
    else:
        log.info("journal_tail_cut", segment=path.name, bytes=lost, kept=kept.name)


def _write_anew(path: Path, scan: Scan) -> None:
    """Replace a segment by a fresh copy of its good groups that is surely on disk."""
    temporary = path.with_suffix(".tmp")
    with path.open("rb") as source, temporary.open("xb") as target:
        for _, begin, end in scan.groups:
            source.seek(begin)
            target.write(source.read(end - begin))
        target.flush()
        os.fsync(target.fileno())
    temporary.rename(path)
    sync_folder(path.parent)
