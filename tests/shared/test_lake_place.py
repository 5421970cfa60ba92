"""Where a lake is: what may be said of it, and what is never shown."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from runlake.errors import LakeError, SettingsError
from runlake.lake import attach, duck
from runlake.lake.objectstore import prepare_storage
from runlake.lake.place import CatalogAddress, LakePlace
from runlake.settings import load

PASSWORD = "hunter-2-of-this-test"
CLUSTER = LakePlace(CatalogAddress(f"postgresql://lake:{PASSWORD}@db.example:5433/runs"), "s3://bucket/prefix/")


def test_two_settings_make_a_cluster(tmp_path: Path) -> None:
    place = load({"catalog": CLUSTER.catalog, "storage": "s3://bucket/prefix"}, {}).lake
    assert place == CLUSTER
    assert place.is_clustered
    assert place.storage_folder is None
    with pytest.raises(LakeError, match=r"postgresql://lake:…@db\.example:5433/runs is no file"):
        _ = place.catalog_file


def test_by_default_a_lake_is_a_file_and_a_folder_below_the_data_folder(tmp_path: Path) -> None:
    place = load({"data": tmp_path}, {}).lake
    assert place == LakePlace.of_files(tmp_path / "catalog.sqlite", tmp_path / "lake")
    assert not place.is_clustered
    assert (place.catalog_file, place.storage_folder) == (tmp_path / "catalog.sqlite", tmp_path / "lake")
    assert place.told == str(tmp_path / "catalog.sqlite")


@pytest.mark.parametrize(
    "catalog",
    [
        "postgresql://db/runs",
        "postgresql://lake@db:5432/runs?sslmode=verify-full",
        "postgresql://lake:secret@[::1]:5432/runs",
        "postgresql://one:5432,two:5433/runs?target_session_attrs=read-write",
        "postgresql:///runs?host=/run/postgresql",
    ],
)
def test_what_libpq_takes_is_a_catalog(catalog: str) -> None:
    assert load({"catalog": catalog}, {}).lake.catalog == catalog


@pytest.mark.parametrize(
    "catalog",
    [
        f"postgresql://lake:{PASSWORD}@db:5432",
        f"postgresql://lake:{PASSWORD}@db:5432/",
        f"postgresql://lake:{PASSWORD}@/runs",
        f"postgresql://lake:{PASSWORD}@db/a b",
        f"postgresql://lake:50%-{PASSWORD}@db/runs",
        f"postgresql://lake:a/b@{PASSWORD}@db",
        f"postgres://lake:{PASSWORD}@db/runs",
        f"mysql://lake:{PASSWORD}@db/runs",
        f"mysql://db/runs?user=lake&password={PASSWORD}",
        f"host=db user=lake password={PASSWORD} dbname=runs",
        f"postgresql:lake:{PASSWORD}@db/runs",
        f"postgresql://lake:{PASSWORD}/runs",
        f"postgresql://lake:{PASSWORD}@db:port/runs",
        f"postgresql://lake:{PASSWORD}@db:65536/runs",
        f"postgresql://lake:{PASSWORD}@one:5432,two:0/runs",
        f"postgresql://lake:{PASSWORD}@db/runs?port=none",
    ],
)
def test_what_is_no_catalog_is_refused_without_the_password_in_it(catalog: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load(environ={"RUNLAKE_CATALOG": catalog})
    assert "RUNLAKE_CATALOG" in str(refused.value)
    assert "allowed is sqlite:<path> or postgresql://user@host:port/database" in str(refused.value)
    assert PASSWORD not in str(refused.value)


@pytest.mark.parametrize("storage", ["s3://abc", "s3://abc/", "s3://my-bucket.eu/a/b_c/2026/"])
def test_a_bucket_and_a_prefix_are_a_storage(storage: str) -> None:
    assert load({"storage": storage}, {}).storage == f"{storage.rstrip('/')}/"


@pytest.mark.parametrize(
    "storage",
    [
        "s3://",
        "s3://ab",
        "s3://Bucket/",
        "s3://abc//x/",
        "s3://abc/*/",
        "s3://abc/?x",
        "gs://abc/",
        "s3:///x",
        "s3:abc",
    ],
)
def test_what_is_no_storage_is_refused_and_says_what_is(storage: str) -> None:
    with pytest.raises(SettingsError, match="a folder of this machine or s3://bucket/prefix/"):
        load(environ={"RUNLAKE_STORAGE": storage})


@pytest.mark.parametrize(
    "storage",
    [
        f"s3://AKIA:{PASSWORD}@bucket/prefix/",
        f"s3://AKIA:{PASSWORD}/more@bucket/prefix/",
        f"s3:AKIA:{PASSWORD}@bucket",
        f"s3://bucket/prefix/?secret_access_key={PASSWORD}",
        f"https://AKIA:{PASSWORD}@bucket.example.org/?x={PASSWORD}",
    ],
)
def test_what_is_no_storage_is_refused_without_the_key_in_it(storage: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load(environ={"RUNLAKE_STORAGE": storage})
    assert "credentials are in the AWS_* variables" in str(refused.value)
    assert "AKIA" not in str(refused.value)
    assert PASSWORD not in str(refused.value)
    assert "bucket" in str(refused.value).partition(" cannot")[0]


def test_a_bucket_that_is_too_short_is_told_how_long_it_may_be() -> None:
    with pytest.raises(SettingsError, match=r"'s3://ab' cannot be used; .* a bucket of 3 to 63"):
        load(environ={"RUNLAKE_STORAGE": "s3://ab"})


def test_what_is_told_of_a_right_catalog_is_all_but_its_password() -> None:
    for given, told in (
        ("postgresql://lake:secret@[::1]:5432/runs", "postgresql://lake:…@[::1]:5432/runs"),
        ("postgresql://one:5432,two:5433/runs", "postgresql://one:5432,two:5433/runs"),
        ("sqlite:/a:b@c/catalog", "/a:b@c/catalog"),
    ):
        assert load({"catalog": given}, {}).lake.told == told


def test_a_password_shows_nowhere_where_settings_or_places_are_printed() -> None:
    settings = load({"catalog": f"{CLUSTER.catalog}?sslpassword={PASSWORD}"}, {})
    for shown in (repr(settings), str(settings), repr(settings.lake), f"{settings.lake}", settings.lake.told):
        assert "db.example" in shown
        assert PASSWORD not in shown


@pytest.mark.parametrize(
    ("place", "needed"),
    [
        (None, ("ducklake", "sqlite_scanner")),
        (LakePlace.of_files(Path("c"), Path("s")), ("ducklake", "sqlite_scanner")),
        (LakePlace(CatalogAddress("sqlite:/c"), "s3://abc/"), ("ducklake", "sqlite_scanner", "httpfs")),
        (LakePlace(CLUSTER.catalog, "/shared/"), ("ducklake", "postgres_scanner")),
        (CLUSTER, ("ducklake", "postgres_scanner", "httpfs")),
    ],
)
def test_only_what_a_lake_needs_is_loaded(place: LakePlace | None, needed: tuple[str, ...]) -> None:
    assert duck.extensions_for(place) == needed


@pytest.mark.parametrize("missing", ["duckdb_extension_postgres_scanner", "duckdb_extension_httpfs", "psycopg"])
def test_a_missing_package_of_the_cluster_is_named_with_the_extra_that_has_it(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else found(name))
    with pytest.raises(LakeError, match=rf"{missing.replace('_', '-')} is missing\. Install runlake\[cluster\]"):
        duck.connect(place=CLUSTER)


def test_a_watch_over_postgresql_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(LakeError, match=r"psycopg is missing\. Install runlake\[cluster\]"):
        attach.open_watch(CLUSTER)


KEYS = {"AWS_ACCESS_KEY_ID": "a-key", "AWS_SECRET_ACCESS_KEY": PASSWORD}


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({}, "needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        ({"AWS_ACCESS_KEY_ID": "a"}, "needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        ({**KEYS, "AWS_ENDPOINT_URL": "127.0.0.1:9000"}, "must be http://host:port or https://host:port"),
        ({**KEYS, "AWS_ENDPOINT_URL": f"http://me:{PASSWORD}@h"}, "must be http://host:port or https://host:port"),
        ({**KEYS, "AWS_ENDPOINT_URL_S3": "http://h/path"}, "must be http://host:port or https://host:port"),
    ],
)
def test_credentials_that_cannot_be_used_are_an_error_that_shows_none(environ: dict[str, str], says: str) -> None:
    place = LakePlace(CatalogAddress("sqlite:/c"), "s3://abc/")
    with duck.connect() as connection:
        connection.load_extension(str(duck.extension_path("httpfs")))
        with pytest.raises(LakeError, match=says) as refused:
            prepare_storage(connection, place.storage, environ)
    assert PASSWORD not in str(refused.value)


def test_object_storage_has_deadlines_and_a_bounded_number_of_tries() -> None:
    names = ("http_timeout", "http_retries", "http_retry_wait_ms", "http_retry_backoff")
    with duck.connect() as connection:
        connection.load_extension(str(duck.extension_path("httpfs")))
        prepare_storage(connection, "s3://abc/", KEYS)
        found = connection.execute(f"SELECT {', '.join(f'current_setting({name!r})' for name in names)}").fetchone()
    assert found is not None
    timeout_s, retries, first_wait_ms, backoff = map(float, found)
    waits_s = sum(first_wait_ms * backoff**number for number in range(int(retries))) / 1000
    assert waits_s + timeout_s * (retries + 1) < 60, "what reads is told within a minute"
    assert retries >= 2


def _secret(environ: dict[str, str]) -> str:
    with duck.connect() as connection:
        connection.load_extension(str(duck.extension_path("httpfs")))
        prepare_storage(connection, "s3://abc/p/", environ)
        prepare_storage(connection, "s3://abc/p/", environ)
        ((secret,),) = connection.execute("SELECT secret_string FROM duckdb_secrets()").fetchall()
        return str(secret)


def test_the_standard_variables_say_how_s3_is_reached_and_the_keys_are_redacted() -> None:
    plain = _secret({**KEYS, "AWS_REGION": "eu-1", "AWS_SESSION_TOKEN": f"{PASSWORD}'; DROP"})
    for part in ("key_id=a-key", "region=eu-1", "scope=s3://abc/p/", "session_token=redacted", "secret=redacted"):
        assert part in plain
    assert PASSWORD not in plain
    assert "endpoint=;" in plain or "endpoint=" not in plain
    local = _secret({**KEYS, "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9000", "AWS_ENDPOINT_URL": "https://other"})
    for part in ("endpoint=127.0.0.1:9000", "url_style=path", "use_ssl=false", "region=us-east-1"):
        assert part in local
    assert "use_ssl=true" in _secret({**KEYS, "AWS_ENDPOINT_URL": "https://s3.example"})
