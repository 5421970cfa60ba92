"""The parts of a cluster that are not ours do for the tests what they are taken for."""

from __future__ import annotations

import psycopg
import pytest

from support.objectstore import ObjectStore
from support.postgres import Postgres


def test_postgres_keeps_what_was_committed_when_all_of_it_is_killed(postgres: Postgres, database: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
        connection.commit()
        connection.execute("INSERT INTO kept VALUES (8)")
        postgres.kill()
        with pytest.raises(psycopg.OperationalError):
            connection.commit()
    postgres.start()
    assert postgres.rows("SELECT number FROM kept", database=database.rpartition("/")[2]) == [(7,)]


def test_postgres_knows_nobody_without_the_password(postgres: Postgres, database: str) -> None:
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(database.replace(postgres.password, "another"))


def test_each_test_has_a_bucket_of_its_own(object_store: ObjectStore, bucket: str) -> None:
    assert object_store.create_bucket() != bucket
    assert object_store.keys(bucket) == []
