"""Variables that look like settings and are none: a misspelt one would have no effect, and nobody would know."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec

from runlake.settings import PREFIX, Settings, variable

_OTHERS = frozenset(("RUNLAKE_CRASH_AT",))
"""Set by the fault tests."""


class Stray(NamedTuple):
    """A variable that nobody reads, and the nearest one that somebody does; "" when none is near."""

    name: str
    nearest: str

    def __str__(self) -> str:
        hint = f"; did you mean {self.nearest}?" if self.nearest else ""
        return f"the variable {self.name} is no setting, and has no effect{hint}"


def stray_variables(environ: Mapping[str, str]) -> Iterator[Stray]:
    """Those of an environment. Their values are not looked at: one may be a token."""
    known = {variable(field.name) for field in msgspec.structs.fields(Settings)} | _OTHERS
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in known:
            near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.75)
            yield Stray(name, near[0] if near else "")
