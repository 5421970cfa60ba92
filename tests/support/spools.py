"""What is in the folder of spools."""

from __future__ import annotations

import os
from pathlib import Path


def segments(spool: Path) -> list[Path]:
    """The segments of all spools below a folder, in the order of their names."""
    found = [Path(folder, name) for folder, _, names in os.walk(spool) for name in names]  # folders come and go
    return sorted(path for path in found if path.suffix == ".seg" and path.parent.parent == spool)
