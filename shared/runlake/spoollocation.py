"""The spool's options. Where it is: as told, else a folder of the user's own, by the XDG base directory rule.

https://specifications.freedesktop.org/basedir-spec/latest/ : state that should outlive restarts is in
`$XDG_STATE_HOME`, which is `~/.local/state` when it is unset, empty or not absolute.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

OFF = "off"
REFUSE = "refuse"
DROP_OLDEST = "drop-oldest"
DEFAULT_MAX_MB = 512
MIN_MAX_MB = 1


def spool_folder(told: str | os.PathLike[str] | None = None, environ: Mapping[str, str] = os.environ) -> Path | None:
    """The folder of all spools of this user: `told`, else the variable RUNLAKE_SPOOL, else the default. None for `off`.
    Raises OSError when there is no home folder to have one in."""
    said = os.fspath(told or environ.get("RUNLAKE_SPOOL") or "")
    if said == OFF:
        return None
    if said:
        return Path(os.path.expanduser(said)).absolute()  # noqa: PTH111 (Path's raises where there is no home)
    state = environ.get("XDG_STATE_HOME", "")
    if not state.startswith("/"):
        home = os.path.expanduser("~")  # noqa: PTH111
        if not home.startswith("/"):
            raise FileNotFoundError("there is no home folder")
        state = f"{home}/.local/state"
    return Path(state) / "runlake" / "spool"


class SpoolOptions(Struct, frozen=True, kw_only=True):
    """What an emitter makes of what it was told. `root` is None when there is no spool."""

    root: Path | None
    max_bytes: int
    full: str
    warnings: tuple[str, ...]


def spool_options(
    spool: str | os.PathLike[str] | None,
    max_mb: int | None,
    full: str | None,
    environ: Mapping[str, str] = os.environ,
) -> SpoolOptions:
    """What was told, else the variables, else the defaults. A variable that cannot be used is passed over with a
    warning; raises ValueError and TypeError for an argument that cannot."""
    warnings: list[str] = []
    root: Path | None = None
    try:
        root = spool_folder(spool, environ)
    except OSError as error:
        warnings.append(f"RunLake keeps messages in memory alone, since {error}; set RUNLAKE_SPOOL to a folder")
    if max_mb is None:
        max_mb = DEFAULT_MAX_MB
        said = environ.get("RUNLAKE_SPOOL_MAX_MB", str(max_mb))
        if said.isascii() and said.isdigit() and int(said) >= MIN_MAX_MB:
            max_mb = int(said)
        else:
            warnings.append(f"RUNLAKE_SPOOL_MAX_MB: {said!r} cannot be used; allowed is a number from {MIN_MAX_MB}")
    if full is None:
        full = environ.get("RUNLAKE_SPOOL_FULL", REFUSE)
        if full not in (REFUSE, DROP_OLDEST):
            warnings.append(f"RUNLAKE_SPOOL_FULL: {full!r} cannot be used; allowed is {REFUSE} or {DROP_OLDEST}")
            full = REFUSE
    if full not in (REFUSE, DROP_OLDEST):
        raise ValueError(f"spool_full: {full!r} cannot be used; allowed is {REFUSE} or {DROP_OLDEST}")
    return SpoolOptions(root=root, max_bytes=max(max_mb, MIN_MAX_MB) * 1024 * 1024, full=full, warnings=tuple(warnings))
