"""How many connections to a catalog in PostgreSQL a query process has: as `docs/deploy.md` says."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import duckdb

from runlake.lake import attach, duck, schema
from runlake.lake.attach import CATALOG, open_watch
from runlake.lake.durability import file_sync
from runlake.lake.place import LakePlace
from runlake.logs import Log
from runlake_query.copies import Copies
from runlake_query.folder import Folder
from runlake_query.lookout import Lookout
from runlake_query.model import open_model
from support.postgres import Postgres
from support.processes import wait_until
from support.workers import Workers

_CONNECTIONS = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND backend_type = 'client backend'"


def make(place: LakePlace) -> None:
    """A lake with nothing in it."""
    with duck.connect(place=place) as connection:
        attach.attach_for_writing(connection, place)
        schema.migrate(connection, CATALOG, uuid4(), file_sync(place))


def ask(cursor: duckdb.DuckDBPyConnection, name: str) -> None:
    """Ask a version of the lake, in a transaction that stays open, as a read does."""
    cursor.execute("BEGIN")
    assert cursor.execute(f"SELECT count(*) FROM {name}.events").fetchall() == [(0,)]


@contextmanager
def reading(copies: Copies) -> Iterator[None]:
    """A read that takes its time."""
    with copies.borrow() as copy, copy.cursor() as cursor:
        ask(cursor, copy.name)
        yield
        cursor.execute("ROLLBACK")


def test_a_query_process_has_three_connections_to_the_catalog_and_at_most_nine_while_two_long_reads_hold_versions(
    workers: Workers, database: str, postgres: Postgres, tmp_path: Path
) -> None:
    make(workers.place)
    name = database.rpartition("/")[2]

    def connections() -> int:
        ((count,),) = postgres.rows(_CONNECTIONS, name)
        return int(count)

    wait_until(lambda: connections() == 0, "those that made the lake are gone")
    with ExitStack() as stack:
        folder = stack.enter_context(closing(Folder(tmp_path / "model")))
        model = stack.enter_context(
            closing(open_model(folder, datetime(2020, 1, 1, tzinfo=UTC), Log("query", stream=io.StringIO())))
        )
        copies = Copies(folder, model.cursor())
        lookout = stack.enter_context(closing(Lookout(workers.place, folder.path)))
        stack.callback(copies.close)
        watch = stack.enter_context(closing(open_watch(workers.place)))

        def follow() -> int:
            """Have another version, as the follower does; returns how many connections there are meanwhile."""
            with copies.make(watch, lookout) as (copy, cursor):
                ask(cursor, copy.name)
            count = connections()
            copies.publish(copy, {})
            cursor = model.cursor()
            ask(cursor, copy.name)
            cursor.execute("ROLLBACK")
            copies.sweep()
            return count

        assert follow() == 3
        assert follow() == 5  # until the one before it is dropped
        wait_until(lambda: connections() == 3, "the connections of the version before are gone")
        with reading(copies):
            follow()
            with reading(copies):
                follow()
                assert follow() == 9
        copies.sweep()
        wait_until(lambda: connections() == 3, "the connections of the versions that were held are gone")
    wait_until(lambda: connections() == 0, "all are gone")
