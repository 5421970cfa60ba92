"""A backup of a lake and its journal, made while a worker goes on writing both.

    <backup>/manifest.json              what belongs to it, with sizes and SHA-256; replaced last, in one step
    <backup>/lake/…                     the Parquet files, shared by every backup that was made here
    <backup>/<snapshot>/catalog.sqlite  the catalog
    <backup>/<snapshot>/journal/        the segments

Order of operations. The journal is copied first and the catalog after it: a segment that is in neither copy was flushed
in between, and so is in the catalog's. A segment that is in both is not stored again (`flushes` says so), and the torn
end of the newest one was not acknowledged when the copy was made. The catalog is copied by SQLite's online backup: one
snapshot. Parquet files never change: they are linked where the file system is the same, else copied; what an earlier
backup has is not read again. As long as it lasts nobody deletes a file of the lake (`filehold.py`). Everything is on
disk before the manifest says so; what only earlier manifests named goes then. So at any moment a whole backup is there.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from runlake.errors import LakeError
from runlake.lake.duck import CATALOG, connect
from runlake.lake.durability import make_folder, sync_file, sync_folder
from runlake.lake.filehold import hold_files
from runlake.lake.schema import check_version, lake_id
from runlake.lake.sqlitecatalog import SqliteWatch, attach_copy
from runlake.lake.verify import flushed
from runlake.sqlfile import load_queries

SQL = load_queries("runlake.lake", "backup.sql")
FORMAT = 1
MANIFEST = "manifest.json"
CATALOG_NAME = "catalog.sqlite"
JOURNAL_NAME = "journal"
LAKE_NAME = "lake"


Progress = Callable[[int], AbstractContextManager[Callable[[int], object]]]
"""Is told how many bytes there are, and gives what is told how many more are done."""


class BackedUp(Struct, frozen=True):
    """A file of a backup: its path in it, its bytes, and their SHA-256 in hexadecimal."""

    path: str
    bytes: int
    sha256: str


class Manifest(Struct, frozen=True, kw_only=True):
    """What a backup holds. `positions`: by worker, what its catalog has; the journal may have more."""

    format: int = FORMAT
    lake: str
    schema_version: int
    made_at: datetime
    snapshot: str
    positions: dict[str, int]
    files: list[BackedUp]

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)


class Taken(Struct, frozen=True):
    """What a backup did: of how many files it took anew, and of how many it had from before."""

    manifest: Manifest
    new_files: int
    new_bytes: int


def read_manifest(backup: Path) -> Manifest | None:
    """The manifest of a backup; None where there is none yet. Raises LakeError for one that cannot be read."""
    path = backup / MANIFEST
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise LakeError(f"The manifest {path} cannot be read: {error}") from None
    if manifest.format != FORMAT:
        raise LakeError(f"{path} has the format {manifest.format}; this RunLake knows {FORMAT}. Use a newer one.")
    return manifest


def no_progress(total: int) -> AbstractContextManager[Callable[[int], object]]:
    """Shows nothing."""
    return nullcontext(lambda more: None)


def back_up(catalog: Path, storage: Path, journal: Path, target: Path, progress: Progress = no_progress) -> Taken:
    """Bring the backup in `target` up to date, or make it.

    Raises LakeError when the lake cannot be read or the folder holds something else, OSError, duckdb.Error.
    """
    make_folder(target)
    before = read_manifest(target)
    if before is None and not all(map(_is_ours, target.iterdir())):
        raise LakeError(f"{target} holds something that is no backup. Give the backup a folder of its own.")
    with _alone(target), hold_files(storage):
        before = read_manifest(target)
        now = datetime.now(UTC)
        snapshot = f"snapshot-{now:%Y%m%dT%H%M%S.%f}Z"
        folder = target / snapshot
        make_folder(folder / JOURNAL_NAME)
        copied = [*_copy_journal(journal, folder / JOURNAL_NAME), _copy_catalog(catalog, folder / CATALOG_NAME)]
        lake, version, positions = _facts(folder / CATALOG_NAME)
        if before is not None and before.lake != lake:
            raise LakeError(f"{target} is the backup of the lake {before.lake}; this is {lake}. Use another folder.")
        known = {file.path: file for file in before.files} if before else {}
        wanted = list(_wanted(folder / CATALOG_NAME, storage))
        files = [_described(target, path) for path in copied]
        new_files = new_bytes = 0
        with progress(sum(source.stat().st_size for _, source in wanted)) as advance:
            for name, source in wanted:
                path = f"{LAKE_NAME}/{name}"
                kept = known.get(path)
                if kept is None or not _has(target / path, kept.bytes):
                    _take(source, target / path)
                    kept = _described(target, target / path)
                    new_files, new_bytes = new_files + 1, new_bytes + kept.bytes
                files.append(kept)
                advance(kept.bytes)
        for place in sorted({(target / file.path).parent for file in files}):
            sync_folder(place)
        manifest = Manifest(
            lake=lake, schema_version=version, made_at=now, snapshot=snapshot, positions=positions, files=files
        )
        _put_manifest(target, manifest)
        _forget_others(target, manifest)
        return Taken(manifest, new_files, new_bytes)


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    lock = os.open(target / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LakeError(f"Another backup is being made in {target}.") from None
        yield
    finally:
        os.close(lock)


def _is_ours(path: Path) -> bool:
    """What a backup that was cut short leaves."""
    return path.name in ("lock", LAKE_NAME) or path.name.startswith(("snapshot-", MANIFEST))


def _copy_journal(journal: Path, target: Path) -> Iterable[Path]:
    copied = []
    for segment in sorted(journal.glob("*.ndjson")):
        copy = target / segment.name
        with suppress(FileNotFoundError):  # flushed meanwhile: the catalog, which is copied later, has it
            shutil.copyfile(segment, copy)
            sync_file(copy)
            copied.append(copy)
    return copied


def _copy_catalog(catalog: Path, target: Path) -> Path:
    with closing(SqliteWatch(catalog)) as watch:
        watch.copy_to(target)
    sync_file(target)
    return target


def _facts(copy: Path) -> tuple[str, int, dict[str, int]]:
    with connect() as connection:
        attach_copy(connection, copy)
        version = check_version(connection, CATALOG)
        positions = {worker: seq for worker, (_, seq) in flushed(connection).items()}
        return str(lake_id(connection, CATALOG)), version, positions


def _wanted(copy: Path, storage: Path) -> Iterator[tuple[str, Path]]:
    """The name below `lake/` and the place of each file that the copied catalog reads. Raises LakeError for a missing
    one that the newest snapshot needs."""
    with closing(sqlite3.connect(f"{copy.as_uri()}?mode=ro", uri=True)) as connection:
        rows = connection.execute(SQL["files"]).fetchall()
    for name, relative, whole, live in rows:
        if not relative:
            raise LakeError(f"The file {whole} is not below {storage}; such a lake cannot be backed up.")
        source = storage / name
        if source.is_file():
            yield name, source
        elif live:
            raise LakeError(f"The file {source} of the lake is missing; `runlake verify` says what else is.")


def _take(source: Path, target: Path) -> None:
    make_folder(target.parent)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)
    sync_file(target)


def _described(target: Path, path: Path) -> BackedUp:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return BackedUp(str(path.relative_to(target)), file.tell(), digest)


def _has(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except FileNotFoundError:
        return False


def _put_manifest(target: Path, manifest: Manifest) -> None:
    new = target / f"{MANIFEST}.new"
    new.write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1))
    sync_file(new)
    new.replace(target / MANIFEST)
    sync_folder(target)


def _forget_others(target: Path, manifest: Manifest) -> None:
    """Remove what this manifest does not name."""
    named = {target / file.path for file in manifest.files}
    for folder in target.glob("snapshot-*"):
        if folder.name != manifest.snapshot:
            shutil.rmtree(folder)
    for path in (target / LAKE_NAME).rglob("*.parquet"):
        if path not in named:
            path.unlink()
