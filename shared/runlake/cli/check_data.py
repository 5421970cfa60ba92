"""Can the data folder be written, is it on a disk that keeps what it is told, and can the lake in it be read?"""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from runlake.cli.findings import Finding, good, note, problem
from runlake.errors import LakeError, NoLakeYet
from runlake.settings import Settings

_GIB = 1024**3
_LITTLE_BYTES = 5 * _GIB
_TOO_LITTLE_BYTES = 1 * _GIB
_NETWORK = ("nfs", "cifs", "smb", "9p", "fuse.sshfs", "vboxsf", "afs", "ceph", "gluster", "lustre")
_MEMORY = ("tmpfs", "ramfs")
_LOOK_AT_FILE = "stop RunLake, and look at the file; a backup of it may be needed"
_RESTORE = "restore the data folder from a backup"
_ELSEWHERE = (
    "see that PostgreSQL and the object storage can be reached from here: with the address in RUNLAKE_CATALOG, the"
    " password (PGPASSWORD, ~/.pgpass), and the AWS_* variables"
)
_OTHER_FOLDER = "choose another with --data or RUNLAKE_DATA"


def check_data_folder(settings: Settings) -> Iterator[Finding]:
    """Writable, on what filesystem, and how much room is left."""
    folder = settings.data
    place = _nearest_existing(folder)
    if not place.is_dir():
        yield problem(f"data folder {folder}: {place} is no folder", _OTHER_FOLDER)
        return
    try:
        with tempfile.TemporaryFile(dir=place) as probe:
            probe.write(b"runlake")
            probe.flush()
    except OSError as error:
        yield problem(
            f"data folder {folder}: {place} cannot be written ({error.strerror})",
            f"give this user the right to write there, or {_OTHER_FOLDER}",
        )
        return
    yield good(f"data folder {folder} " + ("is writable" if place == folder else f"can be made in {place}"))
    yield _filesystem(place)
    yield _room(place)


def check_catalog(settings: Settings) -> Iterator[Finding]:
    """Whether the lake's catalog opens, and is of a version that this RunLake reads."""
    place = settings.lake
    none_yet = note(f"there is no lake yet at {place.told}; the ingest worker makes it at its first start")
    if not place.is_clustered and not place.catalog_file.exists():
        yield none_yet
        return
    if importlib.util.find_spec("duckdb") is None:
        yield note(f"the lake at {place.told} was not opened, because duckdb is missing")
        return
    from runlake.lake.attach import CATALOG, read_lake  # noqa: PLC0415 (an extra)
    from runlake.lake.schema import check_version, lake_id  # noqa: PLC0415

    try:
        with read_lake(place) as connection:
            schema = check_version(connection, CATALOG)
            identity = lake_id(connection, CATALOG)
    except NoLakeYet:
        yield none_yet
    except LakeError as error:
        yield problem(str(error), _ELSEWHERE if place.is_remote else _LOOK_AT_FILE)
    except Exception as error:  # noqa: BLE001 (whatever DuckDB says about a damaged catalog)
        yield problem(
            f"the lake at {place.told} cannot be opened: {error}", _ELSEWHERE if place.is_remote else _RESTORE
        )
    else:
        yield good(f"lake {identity}, schema version {schema}, opens")


def _nearest_existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())


def _filesystem(place: Path) -> Finding:
    kind = filesystem(place, Path("/proc/self/mounts"))
    if kind is None:
        return note("the filesystem of the data folder is unknown here")
    if kind.startswith(_NETWORK):
        return problem(
            f"the data folder is on {kind}, a network filesystem: file locks and fsync cannot be relied on there",
            f"use a local disk: {_OTHER_FOLDER}",
        )
    if kind in _MEMORY:
        return note(f"the data folder is on {kind}, in memory: a reboot empties it", _OTHER_FOLDER)
    return good(f"the data folder is on {kind}, a local filesystem")


def filesystem(place: Path, mounts: Path) -> str | None:
    """The type of the filesystem that holds `place`, from a mount table as Linux writes it; None when it cannot say."""
    try:
        lines = mounts.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return None
    best: tuple[int, str] | None = None
    for line in lines:
        _, target, kind, *_ = line.split(" ")
        point = Path(target.encode("utf-8", "surrogateescape").decode("unicode_escape"))
        if place.resolve().is_relative_to(point) and (best is None or len(point.parts) >= best[0]):
            best = (len(point.parts), kind)
    return best[1] if best else None


def _room(place: Path) -> Finding:
    free = shutil.disk_usage(place).free
    text = f"{free / _GIB:,.1f} GiB free on the disk of the data folder"
    if free < _TOO_LITTLE_BYTES:
        return problem(text, f"make room, or {_OTHER_FOLDER}")
    return note(text, "that is little; make room soon") if free < _LITTLE_BYTES else good(text)
