"""S3-compatible object storage as DuckDB reaches it: credentials from the standard variables, and patience.

A store that does not answer is an error after a while, so that what waits for it can say so and try again.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

import duckdb

from runlake.errors import LakeError
from runlake.lake.duck import STORAGE_SECRET, quote
from runlake.sqlfile import load_queries

_SQL = load_queries("runlake.lake", "attach.sql")
_TIMEOUT_S = 10
_RETRIES = 3
_FIRST_WAIT_MS = 100
_BACKOFF = 3
_REGION = "us-east-1"
_NOWHERE = "127.0.0.1:0"


def prepare_storage(connection: duckdb.DuckDBPyConnection, storage: str, environ: Mapping[str, str]) -> None:
    """Let a DuckDB that has httpfs read and write below `storage`, with patience. Raises LakeError for credentials that
    cannot be used; no error shows them."""
    patience = _SQL["storage_patience"].format(
        timeout_s=_TIMEOUT_S, retries=_RETRIES, first_wait_ms=_FIRST_WAIT_MS, backoff=_BACKOFF
    )
    connection.execute(patience)
    give_credentials(connection, storage, environ)


def give_credentials(connection: duckdb.DuckDBPyConnection, storage: str, environ: Mapping[str, str]) -> None:
    """Let a DuckDB reach what is below `storage`, from now on. Raises LakeError for credentials that cannot be used; no
    error shows them."""
    options = ", ".join(f"{name} {value}" for name, value in _options(storage, environ).items())
    try:
        connection.execute(_SQL["storage_secret"].format(secret=STORAGE_SECRET, options=options, scope=quote(storage)))
    except duckdb.Error as error:
        raise LakeError(f"DuckDB does not take the AWS_* variables for {storage} ({type(error).__name__}).") from None


def take_credentials(connection: duckdb.DuckDBPyConnection, storage: str) -> None:
    """Let a DuckDB reach nothing below `storage`, until `give_credentials`: requests fail at once, and leave this
    machine nowhere. Raises duckdb.Error."""
    options = f"KEY_ID '', SECRET '', ENDPOINT {quote(_NOWHERE)}, URL_STYLE 'path', USE_SSL false"
    connection.execute(_SQL["storage_secret"].format(secret=STORAGE_SECRET, options=options, scope=quote(storage)))


def _options(storage: str, environ: Mapping[str, str]) -> dict[str, str]:
    key, secret = environ.get("AWS_ACCESS_KEY_ID"), environ.get("AWS_SECRET_ACCESS_KEY")
    if not key or not secret:
        raise LakeError(f"The storage {storage} needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment.")
    region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or _REGION
    options = {"KEY_ID": quote(key), "SECRET": quote(secret), "REGION": quote(region)}
    if token := environ.get("AWS_SESSION_TOKEN"):
        options["SESSION_TOKEN"] = quote(token)
    if url := environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL"):
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc or "@" in parts.netloc or parts.path.strip("/"):
            raise LakeError("AWS_ENDPOINT_URL_S3 (or AWS_ENDPOINT_URL) must be http://host:port or https://host:port.")
        options |= {"ENDPOINT": quote(parts.netloc), "URL_STYLE": "'path'"}
        options["USE_SSL"] = str(parts.scheme == "https").lower()
    return options
