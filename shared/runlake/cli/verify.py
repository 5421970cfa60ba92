"""`runlake verify`: are the lake, its files and the journal whole, and do they say the same? Changes nothing.

It reads a copy of the catalog, and so it may run beside the worker. The journal is read first: what is in neither that
nor the lake, which is read later, is missing.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from runlake import settings as settings_module
from runlake.cli.failure import CommandFailed
from runlake.cli.lakehere import need_lake
from runlake.cli.output import print_json
from runlake.cli.subcommands import Subcommands
from runlake.cli.verify_read_model import check_read_model
from runlake.settings import Settings

if TYPE_CHECKING:
    from runlake.lake.verify import Check

_LEFT_OPEN = 3
"""The exit status when nothing is wrong, and not all could be looked at."""
_NOT_COMPARED = "not compared"
_SHOWN = 20
_TRIES = 20
"""How often to look anew at a lake that was maintained meanwhile."""
_OF_FILES = ("files", "rows")
"""The checks that name a file that is not there."""


def add_to(commands: Subcommands) -> None:
    parser = commands.add_parser(
        "verify",
        help="check that the lake, its files and the journal are whole",
        description="Check positions, ids, books, hash chains, Parquet files and journal, and compare the fold of the"
        " lake with what the HTTP API answers. Changes nothing, and may run beside the worker. Exit status 0 when all"
        " is right; 1 when something is wrong, or a query process that is named cannot be asked; 3 when nothing is"
        " wrong, and the read model could not be compared, because messages keep coming.",
    )
    parser.add_argument("--without-read-model", action="store_true", help="ask no query process")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    settings_module.add_flags(
        parser, "data", "catalog", "storage", "http", "ingest", "maintenance_keep_s", "token_file"
    )
    parser.set_defaults(run=verify)


def verify(arguments: argparse.Namespace) -> int:
    """Print the report. Returns 1 when something is wrong, 3 when something was left open. Raises CommandFailed,
    LakeError."""
    settings = settings_module.from_arguments(arguments)
    need_lake(settings)
    checks = []
    named = settings_module.is_given("http", arguments)
    asked = None if arguments.without_read_model else functools.partial(check_read_model, settings, named=named)
    for check in _checks(settings, asked):
        checks.append(check)
        if not arguments.json:
            _print(check)
    wrong = sum(len(check.wrong) for check in checks)
    if arguments.json:
        print_json({"wrong": wrong, "checks": [check._asdict() for check in checks]})
    else:
        print(_summary(checks, wrong))
    return 1 if wrong else _LEFT_OPEN if any(check.left_open for check in checks) else 0


def _summary(checks: list[Check], wrong: int) -> str:
    if wrong:
        return f"\n{wrong:,} wrong, marked ✗."
    left = [check.name for check in checks if check.left_open]
    return f"\nNothing is wrong; left open: {', '.join(left)}." if left else "\nAll is right."


def _print(check: Check) -> None:
    state = "✗" if check.wrong else "·" if check.looked_at.startswith(_NOT_COMPARED) else "✓"
    print(f"{state} {check.name}: {check.looked_at}", flush=True)
    for mark, texts in (("✗", check.wrong), ("?", check.left_open), ("·", check.notes)):
        for text in texts[:_SHOWN]:
            print(f"    {mark} {text}")
        if len(texts) > _SHOWN:
            print(f"    {mark} and {len(texts) - _SHOWN:,} more")


def _checks(settings: Settings, read_model: Callable[[], Check] | None) -> Iterator[Check]:
    """Each check. Where maintenance has taken away meanwhile what was being read, all that comes after the journal is
    looked at anew: that a file is gone which the catalog does not name any more, is no fault."""
    import duckdb  # noqa: PLC0415 (an extra)

    journal = _read_journal(settings.ingest_folder / "journal")
    checks: list[Check] = []
    try:
        for _ in range(_TRIES):
            checks, overtaken = _look(settings, journal, read_model)
            if not overtaken:
                break
    except duckdb.Error as error:
        raise CommandFailed(f"the lake at {settings.lake.told} cannot be read: {error}") from None
    yield from checks


def _look(
    settings: Settings, journal: dict[str, Any], read_model: Callable[[], Check] | None
) -> tuple[list[Check], bool]:
    """All checks, and whether what is wrong may be so only because the lake was maintained meanwhile."""
    import duckdb  # noqa: PLC0415 (an extra)

    from runlake.lake import verify as lake  # noqa: PLC0415
    from runlake.lake.attach import CATALOG, read_lake  # noqa: PLC0415
    from runlake.lake.maintenance import Limits  # noqa: PLC0415
    from runlake.lake.schema import check_version  # noqa: PLC0415

    with read_lake(settings.lake) as connection:
        check_version(connection, CATALOG)
        limits = Limits(settings.maintenance_keep_s, 1)
        named = lake.live_files(connection, settings.lake).keys()
        checks = [lake.check_files(connection, settings.lake, limits, datetime.now(UTC))]
        try:
            checks.insert(0, _check_journal(journal, lake.flushed(connection)))
            checks += lake.check_rows(connection)
            if read_model is not None:
                checks.append(read_model())
        except duckdb.Error as error:
            if len(checks) == 1:
                checks.insert(
                    0, lake.Check("journal", "not compared with the lake", journal["wrong"], journal["notes"])
                )
            checks.append(lake.Check("rows", "not all could be read", [str(error)], []))
    suspect = [text for check in checks if check.name in _OF_FILES for text in check.wrong]
    if not suspect:
        return checks, False
    with read_lake(settings.lake) as connection:
        replaced = named - lake.live_files(connection, settings.lake).keys()
    return checks, any(file in text for file in replaced for text in suspect)


def _read_journal(folder: Path) -> dict[str, Any]:
    """What the ingest side says of its journal: a process of its own, for the command imports nothing of it."""
    if importlib.util.find_spec("runlake_ingest") is None:
        raise CommandFailed("the ingest side is not installed here; install it with `pip install 'runlake[server]'`.")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "runlake_ingest.checkjournal", str(folder)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise CommandFailed(f"the journal in {folder} cannot be read: {done.stderr.strip().splitlines()[-1]}")
    return msgspec.json.decode(done.stdout, type=dict[str, Any])


def _check_journal(found: dict[str, Any], flushed: dict[str, tuple[int, int]]) -> Check:
    """The journal in itself, and whether it goes on where the lake ends."""
    from runlake.lake.verify import Check  # noqa: PLC0415

    wrong = list(found["wrong"])
    at = {worker: seq for worker, (_, seq) in flushed.items()}
    waiting = 0
    for worker, number, first_seq, last_seq in found["segments"]:
        if number <= flushed.get(worker, (0, 0))[0]:
            continue  # in the lake already
        begins_after_another = worker not in at and first_seq - 1 in at.values()  # in a folder that was restored
        before = first_seq - 1 if begins_after_another else at.get(worker, 0)
        if first_seq > before + 1:
            wrong.append(f"worker {worker}: positions {before + 1:,} to {first_seq - 1:,} are missing")
        waiting += last_seq - first_seq + 1
        at[worker] = last_seq
    return Check("journal", f"{waiting:,} messages that wait for the lake", wrong, found["notes"])
