"""Where a lake is: its catalog and its storage, each of one of two kinds."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from msgspec import Struct

from runlake.errors import LakeError

POSTGRESQL = "postgresql://"
SQLITE = "sqlite:"
S3 = "s3://"
CATALOG_ALLOWED = "sqlite:<path> or postgresql://user@host:port/database"
STORAGE_ALLOWED = "a folder of this machine or s3://bucket/prefix/"
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX = re.compile(r"(/[A-Za-z0-9_.=+-]+)*/?")
_USER_PASSWORD = re.compile(r"(://[^:/@]*):.*@")
_ODD = re.compile(r"\s|%(?![0-9A-Fa-f]{2})")
_PASSWORD_PARAMETER = re.compile(r"([?&](?:ssl)?password=)[^&#]*", re.IGNORECASE)


class CatalogAddress(str):
    """A catalog as it is given, which shows no password where settings are printed."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(without_password(self))


class LakePlace(Struct, frozen=True):
    """`catalog`: `sqlite:/path` or `postgresql://…`, which may hold a password: tell `told` instead.

    `storage`: `/folder/` or `s3://bucket/prefix/`; it ends with a slash.
    """

    catalog: CatalogAddress
    storage: str

    @classmethod
    def of_files(cls, catalog: Path, storage: Path) -> LakePlace:
        """A lake on this machine: a SQLite file and a folder."""
        return cls(CatalogAddress(f"{SQLITE}{catalog.absolute()}"), f"{storage.absolute()}/")

    @property
    def is_clustered(self) -> bool:
        """Whether several workers may write it: the catalog is in PostgreSQL."""
        return self.catalog.startswith(POSTGRESQL)

    @property
    def is_remote(self) -> bool:
        """Whether any part of it may be on another machine."""
        return self.is_clustered or self.storage_folder is None

    @property
    def catalog_file(self) -> Path:
        """The file of a SQLite catalog. Raises LakeError for another."""
        if self.is_clustered:
            raise LakeError(f"The catalog {self.told} is no file of this machine.")
        return Path(self.catalog.removeprefix(SQLITE))

    @property
    def storage_folder(self) -> Path | None:
        """The folder of this machine that holds the Parquet files; None when they are in object storage."""
        return None if self.storage.startswith(S3) else Path(self.storage)

    @property
    def told(self) -> str:
        """The catalog as it may be told: a path, or a URL without a password."""
        return without_password(self.catalog.removeprefix(SQLITE))


def without_password(text: str) -> str:
    """What was given as a catalog, right or wrong, without what may be a password in it."""
    return _PASSWORD_PARAMETER.sub(r"\1…", _USER_PASSWORD.sub(r"\1:…@", text))


def check_catalog(text: str) -> str:
    """What is allowed, when `text` is no catalog; else ""."""
    if text.startswith(SQLITE):
        return "" if len(text) > len(SQLITE) else CATALOG_ALLOWED
    try:
        parts = urlsplit(text)
        has_host = bool(parts.netloc.rpartition("@")[2]) or "host" in parse_qs(parts.query)
    except ValueError:
        return CATALOG_ALLOWED
    has_database = len(parts.path) > 1 and "@" not in parts.path
    good = text.startswith(POSTGRESQL) and has_host and has_database and not _ODD.search(text)
    return "" if good else CATALOG_ALLOWED


def check_storage(text: str) -> str:
    """What is allowed, when `text` is no storage; else ""."""
    if "://" not in text:
        return ""
    bucket, slash, prefix = text.removeprefix(S3).partition("/")
    good = text.startswith(S3) and _BUCKET.fullmatch(bucket) and _PREFIX.fullmatch(slash + prefix)
    return "" if good else STORAGE_ALLOWED
