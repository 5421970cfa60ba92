"""`runlake forget`: has one run removed from the lake, and whatever comes for it refused."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from runlake import settings as settings_module
from runlake.cli.failure import CommandFailed
from runlake.cli.lakehere import need_lake
from runlake.cli.lakewriting import write_lake
from runlake.cli.output import printable
from runlake.cli.subcommands import Subcommands
from runlake.cli.worker_client import flush_if_there
from runlake.settings import Settings

if TYPE_CHECKING:
    import duckdb

    from runlake.lake.retention import Found


def add_to(commands: Subcommands) -> None:
    parser = commands.add_parser(
        "forget",
        help="remove one run from the lake for good",
        description="Have the worker remove a run, with all its changes and events, and refuse what comes for it. Its"
        " children are runs of their own, and stay. Done in the worker's next cycle of maintenance, or by `runlake"
        " maintain` while none runs. Backups that were made before still have it.",
    )
    parser.add_argument("name", metavar="RUN", help="an event_id, or a run_id: the latest created run of it")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    settings_module.add_flags(parser, "data", "catalog", "storage", "ingest")
    parser.set_defaults(run=forget)


def forget(arguments: argparse.Namespace) -> int:
    """Ask for it, or say what it would be. Raises CommandFailed, LakeError."""
    settings = settings_module.from_arguments(arguments)
    need_lake(settings)
    flush_if_there(settings.ingest, settings.client_keys)
    found = _find(settings, arguments.name)
    what = f"run {printable(found.run_id)} ({found.event_id}): {found.changes:,} changes, {found.events:,} events"
    if arguments.dry_run:
        print(f"Would forget {what}.")
        return 0

    def write(connection: duckdb.DuckDBPyConnection) -> None:
        from runlake.lake.attach import CATALOG  # noqa: PLC0415 (an extra)
        from runlake.lake.retention import ask_to_forget  # noqa: PLC0415

        ask_to_forget(connection, CATALOG, found.event_id, datetime.now(UTC))

    write_lake(settings, write)
    print(f"To be forgotten: {what}. The worker removes it in its next cycle, or `runlake maintain` while none runs.")
    return 0


def _find(settings: Settings, name: str) -> Found:
    import duckdb  # noqa: PLC0415 (an extra)

    from runlake.lake.attach import CATALOG, read_lake  # noqa: PLC0415
    from runlake.lake.retention import find_run  # noqa: PLC0415
    from runlake.lake.schema import check_version  # noqa: PLC0415

    try:
        with read_lake(settings.lake) as connection:
            check_version(connection, CATALOG)
            found = find_run(connection, CATALOG, name)
    except duckdb.Error as error:
        raise CommandFailed(f"the lake at {settings.lake.told} cannot be read: {error}") from None
    if found is None:
        raise CommandFailed(f"Run not found: {name}")
    return found
