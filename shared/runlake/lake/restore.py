"""A new data folder from a backup: complete, or not there."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from runlake.errors import LakeError
from runlake.lake.backup import CATALOG_NAME, LAKE_NAME, SQL, BackedUp, Manifest, read_manifest
from runlake.lake.durability import make_folder, sync_file, sync_folder
from runlake.lake.schema import latest_version

_BLOCK = 1 << 20


def readable_manifest(backup: Path) -> Manifest:
    """The manifest of a backup that this RunLake can restore. Raises LakeError, which says why it cannot."""
    manifest = read_manifest(backup)
    if manifest is None:
        raise LakeError(f"There is no backup in {backup}: it has no manifest.json.")
    if manifest.schema_version > latest_version():
        raise LakeError(
            f"The backup in {backup} has schema version {manifest.schema_version}, and this RunLake knows versions up"
            f" to {latest_version()}. Use the RunLake that wrote it, or a newer one."
        )
    return manifest


def restore(backup: Path, manifest: Manifest, data: Path, advance: Callable[[int], None] = lambda _: None) -> None:
    """Make the data folder `data`, which must not be there, or be empty. `advance` is told of bytes as they are done.

    Every checksum is checked on the way. A worker that starts there takes an id of its own. Raises LakeError, OSError.
    """
    if data.exists() and any(data.iterdir()):
        raise LakeError(f"{data} is not empty. Restore into a folder that is not there yet.")
    making = data.with_name(f"{data.name}.restoring")
    if making.exists():
        shutil.rmtree(making)
    try:
        for file in manifest.files:
            _copy(backup, file, _place(making, manifest, file.path), advance)
        _adapt(making / CATALOG_NAME, f"{data / LAKE_NAME}/")
        (making / LAKE_NAME).mkdir(exist_ok=True)
        for folder in (making, *(path for path in making.rglob("*") if path.is_dir())):
            sync_folder(folder)
        if data.exists():
            data.rmdir()
        making.rename(data)
        sync_folder(data.parent)
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _place(data: Path, manifest: Manifest, path: str) -> Path:
    """Where a file of the backup belongs in a data folder. Raises LakeError for a path that leads elsewhere."""
    parts = Path(path).parts
    if ".." in parts or Path(path).is_absolute():
        raise LakeError(f"The manifest names {path!r}, which is not in the backup.")
    if parts[0] != manifest.snapshot:
        return data / path
    inside = Path(*parts[1:])
    return data / inside if inside.name == CATALOG_NAME else data / "ingest" / inside


def _copy(backup: Path, file: BackedUp, target: Path, advance: Callable[[int], None]) -> None:
    make_folder(target.parent)
    digest = hashlib.sha256()
    try:
        with (backup / file.path).open("rb") as source, target.open("xb") as copy:
            while block := source.read(_BLOCK):
                digest.update(block)
                copy.write(block)
                advance(len(block))
    except FileNotFoundError:
        raise LakeError(f"{backup / file.path} is missing from the backup; nothing was restored.") from None
    if digest.hexdigest() != file.sha256:
        raise LakeError(f"{backup / file.path} is damaged: its checksum is another one. Nothing was restored.")
    sync_file(target)


def _adapt(catalog: Path, storage: str) -> None:
    """The catalog names its storage, and files that the backup does not have."""
    with closing(sqlite3.connect(catalog)) as connection, connection:
        connection.execute(SQL["move"], {"storage": storage})
        connection.execute(SQL["forget_scheduled"])
    sync_file(catalog)
