"""The lake's schema: its version, and the migrations that lead to it.

`migrations/NNNN_<what>.sql` are applied in the order of their numbers, each in a transaction of its own; the lake's
`schema_migrations` says which were. A lake newer than this RunLake is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from datetime import UTC, datetime
from importlib.resources import files
from uuid import UUID

import duckdb

from runlake.errors import LakeError
from runlake.fields import CHANGE_FIELDS
from runlake.ids import Uuid7Source
from runlake.lake.prices import in_force_query, priced_query, write_list
from runlake.prices import built_in_prices
from runlake.sqlfile import load_queries

_FOLD = load_queries("runlake.lake", "fold.sql")
FOLDED_FIELDS = tuple(field.name for field in CHANGE_FIELDS)
COMMIT_FIELDS = ("commit_hash", "commit_source", "commit_author", "commit_timestamp")
"""They are folded as one thing."""
_PRICES = 2
"""The migration that makes the table of prices, to which the list that comes with RunLake is added."""


def fold_query(ranked: str, more: str = "", fields: Collection[str] = FOLDED_FIELDS) -> str:
    """SQL that folds the rows of the query `ranked` into one row per run (`fold.sql`). `more`: further aggregates.

    `fields`: the run fields to fold, of those that a change can set; `COMMIT_FIELDS` all or none of them.
    """
    rules = [
        _FOLD["fold_of_commit" if name in COMMIT_FIELDS[1:] else "fold_field"].format(name=name)
        for name in FOLDED_FIELDS
        if name in fields
    ]
    return _FOLD["fold"].format(ranked=ranked, more=more, fields=",\n    ".join(rules))


def changes_query(changes: str) -> str:
    """SQL that gives the rows of `changes` (a table or a parenthesised query like `run_changes`) their rank."""
    return _FOLD["changes"].format(changes=changes)


def present_query(folded: str, prices: str = "") -> str:
    """SQL for the run fields as they are shown, from folded rows (a table or a parenthesised query).

    Costs that were not reported are computed by the table `prices`; without one they are not.
    """
    if not prices:
        return _FOLD["present"].format(folded=folded, **shown_expressions())
    priced = priced_query(folded, f"({in_force_query(prices)})")
    shown = {name: _FOLD[f"priced_{name}"] for name in ("cost_usd", "cost_source", "cost_table_version")}
    return _FOLD["present"].format(folded=f"({priced})", **(shown_expressions() | shown))


def shown_expressions() -> dict[str, str]:
    """For each run field that is computed after the fold, SQL on the columns of a folded row without a price."""
    return {name: _FOLD[name] for name in ("duration_ms", "cost_usd", "cost_source", "cost_table_version")}


def runs_view_query() -> str:
    """The lake's `runs` view."""
    return present_query(f"({fold_query(changes_query('run_changes'))})", "prices")


def _migrations() -> list[tuple[int, str]]:
    folder = files("runlake.lake").joinpath("migrations")
    found = [(int(file.name[:4]), file.read_text("utf-8")) for file in folder.iterdir() if file.name.endswith(".sql")]
    return sorted(found)


def latest_version() -> int:
    """The schema version that this RunLake writes."""
    return _migrations()[-1][0]


def stored_version(connection: duckdb.DuckDBPyConnection, catalog: str) -> int:
    """The schema version of the lake attached as `catalog`; 0 when there is none yet."""
    found = connection.execute(
        "SELECT count(*) FROM duckdb_tables() WHERE database_name = ? AND table_name = 'schema_migrations'", [catalog]
    ).fetchone()
    if not found or not found[0]:
        return 0
    row = connection.execute(f"SELECT max(version) FROM {catalog}.schema_migrations").fetchone()
    return int(row[0]) if row and row[0] is not None else 0


def check_version(connection: duckdb.DuckDBPyConnection, catalog: str) -> int:
    """The stored version, once it is known to be one that this RunLake can read. Raises LakeError for a newer lake."""
    version = stored_version(connection, catalog)
    if version > latest_version():
        raise LakeError(
            f"The lake has schema version {version}, and this RunLake knows versions up to {latest_version()}."
            " Use the RunLake that wrote it, or a newer one."
        )
    return version


def migrate(
    connection: duckdb.DuckDBPyConnection,
    catalog: str,
    new_lake_id: UUID,
    sync_files: Callable[[], object],
    commit: Callable[[duckdb.DuckDBPyConnection], object] = lambda connection: connection.execute("COMMIT"),
) -> None:
    """Bring the lake attached as `catalog` to the latest schema. Raises LakeError for a lake that is newer.

    `sync_files` is called before each `commit`: it makes the Parquet files written so far durable.
    """
    version = check_version(connection, catalog)
    for number, sql in _migrations():
        if number <= version:
            continue
        connection.execute(f"USE {catalog}")
        connection.execute("BEGIN")
        try:
            connection.execute(sql)
            now = datetime.now(UTC)
            if number == 1:
                connection.execute(
                    "INSERT INTO identity VALUES (?, ?::TIMESTAMPTZ)", [str(new_lake_id), now.isoformat()]
                )
            if number == _PRICES:
                write_list(connection, "prices", built_in_prices(), Uuid7Source()(), now)
            connection.execute("INSERT INTO schema_migrations VALUES (?, ?::TIMESTAMPTZ)", [number, now.isoformat()])
            if number == latest_version():  # the view may name what an earlier schema lacks
                connection.execute(f"CREATE OR REPLACE VIEW runs AS {runs_view_query()}")
            sync_files()
            commit(connection)
        except BaseException:
            with suppress(duckdb.Error):  # after a COMMIT that failed there is nothing to roll back
                connection.execute("ROLLBACK")
            raise
        finally:
            connection.execute("USE memory")


def lake_id(connection: duckdb.DuckDBPyConnection, catalog: str) -> UUID:
    """The UUID of the lake attached as `catalog`. Raises LakeError when it has none."""
    row = connection.execute(f"SELECT lake::VARCHAR FROM {catalog}.identity").fetchone()
    if row is None:
        raise LakeError("The lake has no identity row; it was not made by RunLake.")
    return UUID(row[0])
