"""How far an import has come: a small file beside the database, so that the same command goes on where it was.

It says which lake it is of. Losing it costs time and nothing else: what is sent again is known again.
"""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import msgspec
from msgspec import Struct


class ImportState(Struct):
    """The last row of each table that is stored, or was skipped."""

    lake: UUID
    runs: int = 0
    events: int = 0

    def row(self, table: str) -> int:
        return int(getattr(self, table))


def state_file(database: Path) -> Path:
    return database.with_name(f"{database.name}.runlake-import.json")


def load_state(database: Path, lake: UUID) -> ImportState:
    """Where the last import of this file into this lake ended."""
    try:
        state = msgspec.json.decode(state_file(database).read_bytes(), type=ImportState)
    except (OSError, msgspec.DecodeError):
        return ImportState(lake)
    return state if state.lake == lake else ImportState(lake)


def save_state(database: Path, state: ImportState) -> bool:
    """Replace the file as a whole. False when it cannot be written."""
    path = state_file(database)
    new = path.with_suffix(".new")
    try:
        new.write_bytes(msgspec.json.encode(state))
        new.replace(path)
    except OSError:
        return False
    return True
