"""`runlake maintain`: does by hand what the worker does between its flushes; or says what is due."""

from __future__ import annotations

import argparse
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from runlake import settings as settings_module
from runlake.cli.failure import CommandFailed
from runlake.cli.lakehere import need_lake
from runlake.cli.maintainlock import alone_with_lake
from runlake.cli.output import print_json
from runlake.cli.subcommands import Subcommands
from runlake.errors import LakeError
from runlake.settings import Settings

if TYPE_CHECKING:
    import duckdb

    from runlake.lake.maintenance import Done, Limits, Step, StepName, Survey

_DAY_S = 86_400

_SAID = {
    "retain": "runs removed that were older than the retention",
    "forget": "runs removed that were to be forgotten",
    "refused": "refused messages removed that were too old",
    "rewrite": "files of {table} written anew without what was removed",
    "inline": "rows of flushes moved from the catalog to a file",
    "merge": "small files of {table} merged",
    "expire": "old snapshots forgotten",
    "remove": "replaced files deleted",
    "orphans": "files that were never committed deleted",
}
_TO_DO = {
    " moved": " to move",
    " merged": " to merge",
    "snapshots forgotten": "snapshots to forget",
    " deleted": " to delete",
    " removed that": " to remove that",
    " written": " to write",
}


def _due_text(text: str) -> str:
    for done, due in _TO_DO.items():
        text = text.replace(done, due)
    return text


_DUE = {name: _due_text(text) for name, text in _SAID.items()}


def add_to(commands: Subcommands) -> None:
    parser = commands.add_parser(
        "maintain",
        help="merge small files of the lake and remove replaced ones",
        description="Merge the lake's small files and remove what was replaced. The running worker does this by itself;"
        " by hand it is done while no worker runs, or in turn with the workers of a cluster."
        " Exit status 0 when it is done, else 1.",
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what is due; works while the worker runs")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    settings_module.add_flags(
        parser, "data", "catalog", "storage", "maintenance_keep_s", "maintenance_merge_mb", "metrics",
        "retention_days", "quarantine_days",
    )  # fmt: skip
    parser.set_defaults(run=maintain)


def maintain(arguments: argparse.Namespace) -> int:
    """Do what is due, or say it. Raises CommandFailed, LakeError."""
    settings = settings_module.from_arguments(arguments)
    need_lake(settings)
    from runlake.lake.maintenance import Limits  # noqa: PLC0415 (an extra)

    limits = Limits(settings.maintenance_keep_s, settings.maintenance_merge_mb * 1024 * 1024)
    if arguments.dry_run:
        found, due, orphans, removals = _due(settings, limits)
        lines = [_DUE[step.name].format(table=step.table) for step in due]
        counts = [step.count for step in due]
        for name, count in removals.items():
            if count:
                lines.append(_DUE[name])
                counts.append(count)
        if orphans:
            lines.append(_DUE["orphans"])
            counts.append(orphans)
    else:
        with alone_with_lake(settings):
            found, done = _do(settings, limits)
        lines = [_SAID[each.step.name].format(table=each.step.table) for each in done]
        counts = [each.count for each in done]
    if arguments.json:
        steps = [{"count": count, "what": line} for count, line in zip(counts, lines, strict=True)]
        lake = {"files": len(found.files), "bytes": found.bytes, "snapshots": found.snapshots}
        print_json({"dry_run": arguments.dry_run, "steps": steps, "lake": lake})
        return 0
    for count, line in zip(counts, lines, strict=True):
        print(f"{count:>9,} {line}")
    if not lines:
        print("Nothing is due.")
    print(f"The lake has {len(found.files):,} live files, {found.bytes:,} bytes, and {found.snapshots:,} snapshots.")
    return 0


def _due(settings: Settings, limits: Limits) -> tuple[Survey, list[Step], int, dict[str, int]]:
    """What is due, from a copy of the catalog, which a running worker does not notice."""
    import duckdb  # noqa: PLC0415

    from runlake.lake.attach import CATALOG, read_lake  # noqa: PLC0415
    from runlake.lake.maintenance import old_orphans, plan, survey  # noqa: PLC0415
    from runlake.lake.schema import check_version, latest_version  # noqa: PLC0415

    try:
        with read_lake(settings.lake) as connection:
            version = check_version(connection, CATALOG)
            found = survey(connection, limits, datetime.now(UTC))
            orphans = old_orphans(connection, settings.lake, limits, datetime.now(UTC))
            removals = _removable(settings, connection) if version == latest_version() else {}
            return found, plan(found, limits), len(orphans), removals
    except duckdb.Error as error:
        raise CommandFailed(f"the lake at {settings.lake.told} cannot be read: {error}") from None


def _do(settings: Settings, limits: Limits) -> tuple[Survey, list[Done]]:
    """Do all that is due. The caller has the worker's lock."""
    import duckdb  # noqa: PLC0415

    from runlake.lake.attach import CATALOG, write_through_door  # noqa: PLC0415
    from runlake.lake.duck import connect  # noqa: PLC0415
    from runlake.lake.durability import file_sync  # noqa: PLC0415
    from runlake.lake.maintenance import Maintainer, Step, sort_by_time  # noqa: PLC0415
    from runlake.lake.schema import check_version, latest_version  # noqa: PLC0415

    place = settings.lake
    try:
        connection = connect(place=place)
        with write_through_door(connection, place) as door, closing(file_sync(place)) as sync:
            version = check_version(connection, CATALOG)
            if version != latest_version():
                raise LakeError(
                    f"The lake has schema version {version}; start the ingest worker once: it brings the lake to"
                    f" version {latest_version()}."
                )
            sort_by_time(connection)
            maintainer = Maintainer(connection, place, limits, sync, door)
            done = [maintainer.run(Step("orphans", 0)), maintainer.run(Step("forget", 0))]
            for name, least in _horizons(settings).items():
                step = Step(name, 0, least=least)
                while (removed := maintainer.run(step)).count:
                    done.append(removed)
            progress = True
            while progress:
                some = [maintainer.run(step) for step in maintainer.plan()[1]]
                progress = any(each.count for each in some)
                done += some
            return maintainer.survey(), _summed(done)
    except duckdb.Error as error:
        raise CommandFailed(f"the lake at {settings.lake.told} cannot be maintained: {error}") from None


def _horizons(settings: Settings) -> dict[StepName, int]:
    """Before when what goes, in Unix seconds: by the steps of those settings that keep less than everything."""
    now = int(datetime.now(UTC).timestamp())
    days: dict[StepName, int] = {"retain": settings.retention_days, "refused": settings.quarantine_days}
    return {name: now - count * _DAY_S for name, count in days.items() if count}


def _removable(settings: Settings, connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """How many runs and refused messages would be removed."""
    from runlake.lake.attach import CATALOG  # noqa: PLC0415
    from runlake.lake.quarantine import old_rows  # noqa: PLC0415
    from runlake.lake.retention import count_forgotten, count_old  # noqa: PLC0415

    horizons = _horizons(settings)
    found = {"forget": count_forgotten(connection, CATALOG)}
    if "retain" in horizons:
        found["retain"] = count_old(connection, CATALOG, horizons["retain"])
    if "refused" in horizons:
        found["refused"] = old_rows(connection, CATALOG, datetime.fromtimestamp(horizons["refused"], UTC))
    return found


def _summed(done: list[Done]) -> list[Done]:
    """One for each kind of step that did something."""
    from msgspec.structs import replace  # noqa: PLC0415

    summed: dict[tuple[str, str], Done] = {}
    for each in done:
        if each.count:
            key = (each.step.name, each.step.table)
            before = summed.get(key)
            summed[key] = each if before is None else replace(before, count=before.count + each.count)
    return list(summed.values())
