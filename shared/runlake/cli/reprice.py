"""`runlake reprice`: puts a price list in force, and waits until the runs show costs by it."""

from __future__ import annotations

import argparse
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runlake import settings as settings_module
from runlake.cli.api import Api, Unreachable
from runlake.cli.failure import CommandFailed
from runlake.cli.lakewriting import write_lake
from runlake.cli.prices import PATH
from runlake.cli.progress import progress_bar
from runlake.cli.subcommands import Subcommands
from runlake.prices import PriceList, built_in_prices, parse_prices
from runlake.settings import Settings

if TYPE_CHECKING:
    import duckdb

_PAUSE_S = 0.1


def add_to(commands: Subcommands) -> None:
    parser = commands.add_parser(
        "reprice",
        help="put a price list in force, and compute costs by it",
        description="Write a price list to the lake, as its new version, and wait until the query process at --http has"
        " computed all costs by it. Works while RunLake runs. Without a list, only wait. Reported costs stay."
        " Exit status 0 when it is done, else 1.",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--prices", metavar="FILE", type=Path, help="a list in TOML; docs/cost.md has the format")
    which.add_argument("--built-in", action="store_true", help="the list that comes with this RunLake")
    parser.add_argument(
        "--timeout", type=float, default=3600.0, metavar="SECONDS", help="how long to wait (default: 3600)"
    )
    settings_module.add_flags(parser, "data", "catalog", "storage", "http")
    parser.set_defaults(run=reprice)


def reprice(arguments: argparse.Namespace) -> int:
    """Do it. Raises CommandFailed, InvalidPrices, LakeError."""
    settings = settings_module.from_arguments(arguments)
    added = _chosen(arguments)
    version = 0
    if added is not None:
        version = _write(settings, added)
        print(f"Version {version} of the price list is in force: {len(added.prices):,} prices, {added.source}.")
    _await(Api(settings.http, settings.token), version, arguments.timeout)
    return 0


def _chosen(arguments: argparse.Namespace) -> PriceList | None:
    if arguments.built_in:
        return built_in_prices()
    if arguments.prices is None:
        return None
    try:
        text = arguments.prices.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandFailed(f"the price list {arguments.prices} cannot be read: {error}") from None
    return parse_prices(text, str(arguments.prices))


def _write(settings: Settings, added: PriceList) -> int:
    """Add the list to the lake; returns its version. While the worker writes, tries again."""
    from runlake.ids import Uuid7Source  # noqa: PLC0415

    def write(connection: duckdb.DuckDBPyConnection) -> int:
        from runlake.lake.attach import CATALOG  # noqa: PLC0415 (an extra)
        from runlake.lake.prices import write_list  # noqa: PLC0415

        return write_list(connection, f"{CATALOG}.prices", added, Uuid7Source()(), datetime.now(UTC))

    return write_lake(settings, write)


def _await(api: Api, version: int, timeout_s: float) -> None:
    """Wait until the query process shows costs by this version, or a later one, alone."""
    deadline = time.monotonic() + timeout_s
    said: dict[str, Any] = {}

    def left() -> int | None:
        """How many runs are still to do; None while the process does not have the list yet."""
        said.update(api.get(PATH))
        if time.monotonic() >= deadline:
            raise CommandFailed(f"{api.url} has not done it within {timeout_s:g} s; it goes on with it.")
        return said["runs_to_reprice"] if said["version"] >= version else None

    try:
        while (first := left()) is None:
            time.sleep(_PAUSE_S)
        with progress_bar("Repricing", first) as advance:
            now = first
            while now:
                time.sleep(_PAUSE_S)
                before, now = now, left() or 0
                advance(before - now)
    except Unreachable as error:
        raise CommandFailed(f"{error.message} The lake has the list; query processes take it when they run.") from None
    print(f"All costs of {api.url} are by version {said['version']} of the price list.")
