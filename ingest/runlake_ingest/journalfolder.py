"""Where the journal is in what somebody names as a worker's folder, or has kept of it."""

from __future__ import annotations

from pathlib import Path

from runlake.errors import LakeError


def journal_in(folder: Path) -> Path:
    """The journal in a data folder, an ingest folder, or a folder of segments. Raises LakeError without one."""
    for found in (folder / "ingest" / "journal", folder / "journal", folder):
        if found.is_dir() and (found.name == "journal" or any(found.glob("*.ndjson"))):
            return found
    raise LakeError(f"There is no journal in {folder}: give the data folder of the worker that is gone, or a copy.")
