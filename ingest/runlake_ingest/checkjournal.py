"""`python -m runlake_ingest.checkjournal FOLDER`: reads a journal without touching it, for `runlake verify`.

Prints one JSON object: `segments` (whose they are, and from which position to which) and `wrong`, `notes` (texts).
Checks every group's checksum and that positions follow. The end of the newest segment may be torn: it was never
acknowledged.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import msgspec

from runlake_ingest.journal import Scan, scan_segment, segment_files


class SegmentFound(NamedTuple):
    worker: str
    number: int
    first_seq: int
    last_seq: int


class JournalFound(NamedTuple):
    segments: list[SegmentFound]
    wrong: list[str]
    notes: list[str]


def check_journal(folder: Path) -> JournalFound:
    """Read every segment. A segment that a running worker removes meanwhile is in the lake."""
    found = JournalFound([], [], [])
    files = segment_files(folder)
    for path in files:
        try:
            scan = scan_segment(path)
        except FileNotFoundError:
            continue
        _tell(path, scan, found, newest=path == files[-1])
    return found


def _tell(path: Path, scan: Scan, found: JournalFound, *, newest: bool) -> None:
    if scan.broken or (scan.torn and not newest):
        good = sum(end - begin for _, begin, end in scan.groups)
        found.wrong.append(f"{path}: {scan.size - good:,} of {scan.size:,} bytes are in no group whose checksum holds")
    elif scan.torn:
        found.notes.append(f"{path}: the last {scan.size - scan.good_end:,} bytes are not written to the end yet")
    if not scan.groups:
        return
    first, last = scan.groups[0][0], scan.groups[-1][0]
    after = first.first_seq - 1
    for group, _, _ in scan.groups:
        if group.first_seq != after + 1:
            found.wrong.append(f"{path}: position {group.first_seq:,} follows {after:,}")
        after = group.last_seq
    found.segments.append(SegmentFound(str(first.worker), first.segment, first.first_seq, last.last_seq))


if __name__ == "__main__":
    sys.stdout.write(msgspec.json.encode(check_journal(Path(sys.argv[1]))._asdict()).decode())
