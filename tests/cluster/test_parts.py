"""The parts of a cluster that are not ours do for the tests what they are taken for."""

from __future__ import annotations

import subprocess
import sys

import psycopg
import pytest

from support.network import Network
from support.objectstore import ObjectStore
from support.postgres import Postgres
from support.processes import wait_until


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


def test_hosts_reach_each_other_until_the_cable_is_pulled(network: Network) -> None:
    one, another = network.add_host(), network.add_host()
    serve = (
        "import socket, sys; server = socket.create_server((sys.argv[1], 7000)); print('up', flush=True);"
        " server.accept()[0].close(); server.close()"
    )
    connect = "import socket, sys; socket.create_connection((sys.argv[1], 7000), 0.5).close()"

    def reaches(prefix: tuple[str, ...]) -> bool:
        command = [*prefix, sys.executable, "-c", connect, another.address]
        return subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode == 0

    with subprocess.Popen(
        [*another.prefix, sys.executable, "-c", serve, another.address], stdout=subprocess.PIPE
    ) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"up\n"
        another.cut()
        assert not reaches(one.prefix)
        assert not reaches(())
        another.mend()
        wait_until(lambda: reaches(one.prefix), "the address is asked for again")
        assert server.wait(20) == 0
