"""Where a lake is: its catalog and its storage, each of one of two kinds."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

from msgspec import Struct
from msgspec.structs import replace

from runlake.errors import LakeError

POSTGRESQL = "postgresql://"
SQLITE = "sqlite:"
S3 = "s3://"
CATALOG_ALLOWED = "sqlite:<path> or postgresql://user@host:port/database, with a port from 1 to 65535"
STORAGE_ALLOWED = (
    "a folder of this machine or s3://bucket/prefix/, with a bucket of 3 to 63 lower-case letters, digits, '.' and '-',"
    " and a prefix of letters, digits and '_.=+-'; credentials are in the AWS_* variables, not here"
)
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX = re.compile(r"(/[A-Za-z0-9_.=+-]+)*/?")
_USER_PASSWORD = re.compile(r"(://[^:/@]*):.*@")
_NO_PORT = re.compile(r"(://[^@/?#\[\]]*?:)(?![0-9]{1,5}(?:[,/?#]|$))[^/?#@]*(?=[/?#]|$)")
"""A password that stands where a port should, because user or host is missing."""
_NO_URL = re.compile(r"^(\w+:)(?!//).*@")
_MOST_PORT = 65_535
_ODD = re.compile(r"\s|%(?![0-9A-Fa-f]{2})")
_PASSWORD_PARAMETER = re.compile(r"((?:^|[?&\s])(?:ssl)?password\s*=)[^&#]*", re.IGNORECASE)
_STORAGE_SECRETS = re.compile(r"^(\w+:(?://)?).*@|(\?).*$", re.DOTALL)


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
    def application(self) -> str:
        """What connections to a catalog in PostgreSQL call themselves by its address; "" when that says nothing."""
        return parse_qs(urlsplit(self.catalog).query).get("application_name", [""])[-1] if self.is_clustered else ""

    def named(self, application: str) -> LakePlace:
        """The same lake, by connections to its PostgreSQL that call themselves so."""
        mark = "&" if "?" in self.catalog else "?"
        return replace(self, catalog=CatalogAddress(f"{self.catalog}{mark}application_name={quote(application)}"))

    @property
    def told(self) -> str:
        """The catalog as it may be told: a path, or a URL without a password."""
        return without_password(self.catalog) if self.is_clustered else self.catalog.removeprefix(SQLITE)


def without_password(text: str) -> str:
    """What was given as a catalog, right or wrong, without what may be a password in it."""
    told = _NO_URL.sub(r"\1…@", _USER_PASSWORD.sub(r"\1:…@", text))
    return _PASSWORD_PARAMETER.sub(r"\1…", _NO_PORT.sub(r"\1…", told))


def without_secrets(text: str) -> str:
    """What was given as a storage, right or wrong, without what may be a key in it."""
    return _STORAGE_SECRETS.sub(lambda found: f"{found[1]}…@" if found[1] else "?…", text)


def check_catalog(text: str) -> str:
    """What is allowed, when `text` is no catalog; else ""."""
    if text.startswith(SQLITE):
        return "" if len(text) > len(SQLITE) else CATALOG_ALLOWED
    try:
        parts = urlsplit(text)
        hosts, named = parts.netloc.rpartition("@")[2], parse_qs(parts.query)
        has_host = bool(hosts) or "host" in named
        ports = [host.rpartition("]")[2].partition(":")[2] for host in hosts.split(",")]
        ports += [port for ports in named.get("port", ()) for port in ports.split(",")]
    except ValueError:
        return CATALOG_ALLOWED
    has_database = len(parts.path) > 1 and "@" not in parts.path
    good = text.startswith(POSTGRESQL) and has_host and has_database and not _ODD.search(text)
    return "" if good and all(map(_is_port, ports)) else CATALOG_ALLOWED


def _is_port(text: str) -> bool:
    """Whether it is one; none is the usual one."""
    return not text or (text.isascii() and text.isdigit() and 0 < int(text) <= _MOST_PORT)


def check_storage(text: str) -> str:
    """What is allowed, when `text` is no storage; else ""."""
    if "://" not in text and not text.startswith("s3:"):
        return ""
    bucket, slash, prefix = text.removeprefix(S3).partition("/")
    good = text.startswith(S3) and _BUCKET.fullmatch(bucket) and _PREFIX.fullmatch(slash + prefix)
    return "" if good else STORAGE_ALLOWED
