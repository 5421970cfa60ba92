"""The token by which a worker's folder shows that it is the one that ran last as this worker.

<data>/ingest/lease.json   the token of the lease that was taken last, and the one that is being taken

Whoever takes a worker's lease gives it a new token, here and in the catalog's database. A copy of the folder that has
run since, or one that was left behind, has another one: its journal must not go to the lake under this worker's id.
"""

from __future__ import annotations

import os
from pathlib import Path
from uuid import UUID

import msgspec

from runlake.lake.durability import sync_folder


class _Tokens(msgspec.Struct, frozen=True):
    now: UUID | None = None
    next: UUID | None = None


class LeaseToken:
    """Not thread-safe. Every method may raise OSError."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "lease.json"

    def holds(self, token: UUID) -> bool:
        """Whether this folder took the lease that has this token: a kill may have come before it had noted so."""
        tokens = self._read()
        return token in (tokens.now, tokens.next)

    def prepare(self, token: UUID, now: UUID | None) -> None:
        """A lease with this token is about to be taken; `now`: the one that the catalog has, which this folder holds.
        So it holds both, whatever was interrupted before."""
        self._write(_Tokens(now, token))

    def took(self, token: UUID) -> None:
        """The lease with this token is taken."""
        self._write(_Tokens(token))

    def _read(self) -> _Tokens:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=_Tokens)
        except (FileNotFoundError, msgspec.DecodeError):
            return _Tokens()

    def _write(self, tokens: _Tokens) -> None:
        temporary = self._path.with_suffix(".new")
        with temporary.open("wb") as file:
            file.write(msgspec.json.encode(tokens))
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(self._path)
        sync_folder(self._path.parent)
