"""`runlake backup` and `runlake restore`: a copy of a live system, and a data folder from it."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from runlake import settings as settings_module
from runlake.cli.failure import CommandFailed
from runlake.cli.lakehere import need_duckdb, need_lake
from runlake.cli.output import print_json
from runlake.cli.progress import progress_bar
from runlake.cli.subcommands import Subcommands
from runlake.lake.place import LakePlace

_LAYOUT = ("catalog.sqlite", "lake")
_OF_A_CLUSTER = (
    "a lake whose catalog is in PostgreSQL or whose storage is in S3 is backed up by their own means: turn on"
    " versioning of the bucket, and dump the catalog's database with `pg_dump`; keep removed versions of objects for"
    " longer than the dumps. `runlake replay --to FILE` writes the whole log to a file."
)


def add_to(commands: Subcommands) -> None:
    backup = commands.add_parser(
        "backup",
        help="copy the lake and the journal into a folder, while RunLake runs",
        description="Make a consistent copy of the catalog, the Parquet files and the journal, with checksums, while"
        " RunLake runs. Again into the same folder, it adds what is new and removes what is not needed any more."
        " Parquet files are linked where the folder is on the same file system: then it protects from mistakes, and not"
        " from the loss of the disk.",
    )
    backup.add_argument("folder", type=Path, metavar="DIR")
    backup.add_argument("--json", action="store_true", help="print the result as JSON")
    settings_module.add_flags(backup, "data", "catalog", "storage")
    backup.set_defaults(run=make_backup)
    restore = commands.add_parser(
        "restore",
        help="make a data folder from a backup",
        description="Make the data folder --data, which must not be there yet, from a backup, and check every checksum"
        " on the way. Start the worker on it then; `runlake verify` says whether it is whole.",
    )
    restore.add_argument("folder", type=Path, metavar="DIR")
    restore.add_argument("--json", action="store_true", help="print the result as JSON")
    settings_module.add_flags(restore, "data")
    restore.set_defaults(run=restore_backup)


def make_backup(arguments: argparse.Namespace) -> int:
    """Make a backup, or bring it up to date. Raises CommandFailed, LakeError."""
    settings = settings_module.from_arguments(arguments)
    need_lake(settings)
    import duckdb  # noqa: PLC0415 (an extra)

    from runlake.lake.backup import back_up  # noqa: PLC0415

    target = arguments.folder.absolute()
    place = settings.lake
    storage = place.storage_folder
    if place.is_clustered or storage is None:
        raise CommandFailed(_OF_A_CLUSTER)
    if target == storage or storage in target.parents:
        raise CommandFailed(f"{target} is inside the lake that it is to be a copy of.")
    try:
        journal = settings.ingest_folder / "journal"
        taken = back_up(place.catalog_file, storage, journal, target, partial(progress_bar, "Backing up, bytes"))
    except duckdb.Error as error:
        raise CommandFailed(f"the lake at {settings.lake.told} cannot be read: {error}") from None
    except OSError as error:
        raise CommandFailed(f"the backup cannot be made: {error}") from None
    manifest = taken.manifest
    if arguments.json:
        print_json({
            "folder": str(target), "lake": manifest.lake, "positions": manifest.positions,
            "files": len(manifest.files), "bytes": manifest.bytes,
            "new_files": taken.new_files, "new_bytes": taken.new_bytes,
        })  # fmt: skip
        return 0
    print(
        f"The backup in {target} has {len(manifest.files):,} files, {manifest.bytes:,} bytes;"
        f" {taken.new_files:,} Parquet files, {taken.new_bytes:,} bytes, are new."
    )
    return 0


def restore_backup(arguments: argparse.Namespace) -> int:
    """Make a data folder. Raises CommandFailed, LakeError."""
    settings = settings_module.from_arguments(arguments)
    need_duckdb()
    place = settings.lake
    if place != LakePlace.of_files(*(settings.data / name for name in _LAYOUT)):
        raise CommandFailed(
            f"a backup is restored below {settings.data}; leave RUNLAKE_CATALOG and RUNLAKE_STORAGE at their defaults."
        )
    from runlake.lake.restore import readable_manifest, restore  # noqa: PLC0415 (an extra)

    backup = arguments.folder.absolute()
    manifest = readable_manifest(backup)
    try:
        with progress_bar("Restoring, bytes", manifest.bytes) as advance:
            restore(backup, manifest, settings.data, advance)
    except OSError as error:
        raise CommandFailed(f"the backup cannot be restored: {error}") from None
    if arguments.json:
        print_json({"data": str(settings.data), "lake": manifest.lake, "made_at": manifest.made_at,
                    "files": len(manifest.files), "bytes": manifest.bytes})  # fmt: skip
        return 0
    moment = f"{manifest.made_at:%Y-%m-%d %H:%M:%S} UTC"
    print(f"{settings.data} is as it was on {moment}. Check it with:")
    print(f"  runlake verify --without-read-model --data {settings.data}")
    return 0
