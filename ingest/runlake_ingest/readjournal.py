"""`python -m runlake_ingest.readjournal FOLDER`: the accepted messages of a journal, for `runlake replay --journal`.

Prints NDJSON: a line for each good group of the journal (`lake`, `worker`, `first_seq`, `last_seq`), and behind it its
messages, as `runlake replay` writes those of a lake to a file. Touches nothing. What is damaged is left out, and told
on standard error.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from runlake.errors import LakeError
from runlake_ingest.journal import Group, scan_segment, segment_files
from runlake_ingest.journalfolder import journal_in

_MESSAGE = b'{"seq":'


def read_journal(folder: Path) -> Iterator[bytes]:
    """The lines to print. Raises OSError, LakeError."""
    for path in segment_files(journal_in(folder)):
        scan = scan_segment(path)
        if scan.broken:
            sys.stderr.write(f"{path} is damaged; what is whole of it is read\n")
        with path.open("rb") as file:
            for group, begin, end in scan.groups:
                yield _head(group)
                body = os.pread(file.fileno(), end - begin, begin)
                prefix = b'{"worker":"%b",' % str(group.worker).encode()
                yield from (prefix + line[1:] for line in body.splitlines(keepends=True) if line.startswith(_MESSAGE))


def _head(group: Group) -> bytes:
    said = {"lake": group.lake, "worker": group.worker, "first_seq": group.first_seq, "last_seq": group.last_seq}
    return msgspec.json.encode(said) + b"\n"


def main(folder: Path) -> int:
    """Returns the exit status; what went wrong is on standard error."""
    try:
        sys.stdout.buffer.writelines(read_journal(folder))
        sys.stdout.buffer.flush()
    except (LakeError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
