"""Whom the folder of keys lets in, as it changes. A file is read when it is new or has changed.

What cannot be looked at for a moment (no descriptor is left, a disk hesitates) changes nothing: nobody is locked out
for it, and nobody is let in who was not before.
"""

from __future__ import annotations

import os
from pathlib import Path

from msgspec import Struct

from runlake.keyfolder import AllowedFile, KeyFolder

_Signature = tuple[int, int, int]


class Change(Struct, frozen=True):
    """What came and went since the last look, by name; `problems` are new ones."""

    come: list[str]
    gone: list[str]
    problems: list[str]


class AllowedKeys:
    """Of one thread."""

    def __init__(self, folder: KeyFolder) -> None:
        self.names: dict[str, str] = {}
        """Who is let in: names by public key."""
        self._folder = folder
        self._files: dict[str, tuple[_Signature, AllowedFile]] = {}
        self._trouble = ""

    def look(self) -> Change:
        """See what has changed."""
        files, problems = self._files, []
        try:
            seen = self._signatures()
            trouble = ""
        except OSError as error:
            seen = {name: signature for name, (signature, _) in files.items()}
            trouble = f"{self._folder.allowed_folder}: {error.strerror}"
        if trouble and trouble != self._trouble:
            problems.append(trouble)
        self._trouble = trouble
        self._files = {}
        for name, signature in seen.items():
            known = files.get(name)
            if known is not None and known[0] == signature and not known[1].problem:
                self._files[name] = known
                continue
            file = self._folder.allowed_file(self._folder.allowed_folder / name)
            self._files[name] = (signature, file)
            if file.problem and (known is None or file.problem != known[1].problem):
                problems.append(file.problem)
        before, self.names = self.names, {file.key: file.name for _, file in self._files.values() if file.key}
        return Change(
            sorted(name for key, name in self.names.items() if key not in before),
            sorted(name for key, name in before.items() if key not in self.names),
            problems,
        )

    def _signatures(self) -> dict[str, _Signature]:
        """What changes when a file does. Raises OSError, but not for a folder that is not there."""
        found = {}
        try:
            with os.scandir(self._folder.allowed_folder) as entries:
                for entry in entries:
                    if KeyFolder.allows(Path(entry.name)):
                        try:
                            status = entry.stat()
                        except FileNotFoundError:  # removed meanwhile
                            continue
                        found[entry.name] = (status.st_ino, status.st_mtime_ns, status.st_size)
        except FileNotFoundError:
            return {}
        return found
