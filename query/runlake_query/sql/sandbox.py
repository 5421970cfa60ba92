"""`python -m runlake_query.sql.sandbox STORAGE FOLDER`: runs users' statements, one after the other, confined.

Questions come on standard input, answers go to standard output, results into files. DuckDB is imported after this
process was confined: its import starts threads, which would keep their priority, and with which a process cannot leave
the user namespace (`unshare(2)`).
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from runlake_query.sql.confinement import Limits, confine, library_folders
from runlake_query.sql.messages import Ask


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(prog="sandbox")
    parser.add_argument("storage", type=Path, help="the folder of the lake's Parquet files")
    parser.add_argument("folder", type=Path, help="where extracts and results are; results below `work`")
    parser.add_argument("--address-space-mib", type=int, required=True)
    parser.add_argument("--file-mib", type=int, required=True)
    chosen = parser.parse_args(argv)
    work = chosen.folder / "work"
    readable = [chosen.storage, chosen.folder, *library_folders()]
    confined = confine(Limits(chosen.address_space_mib, chosen.file_mib), readable, work)
    from runlake_query.sql.answering import answer  # noqa: PLC0415 (see above)

    out = sys.stdout.buffer
    out.write(msgspec.json.encode(confined) + b"\n")
    out.flush()
    for line in sys.stdin.buffer:
        told = answer(msgspec.json.decode(line, type=Ask))
        gc.collect()
        out.write(msgspec.json.encode(told) + b"\n")
        out.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
