"""The read model: a local DuckDB database that can be thrown away at any time, because the lake has it all."""

from __future__ import annotations

import hashlib
import os
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import duckdb

from runlake.fields import CHANGE_FIELDS
from runlake.lake.duck import connect, quote
from runlake.lake.prices import priced_query
from runlake.lake.schema import changes_query, fold_query, present_query
from runlake.logs import Log
from runlake.sqlfile import load_queries
from runlake_query.folder import Folder
from runlake_query.plans import Plans
from runlake_query.positions import Positions

_SQL = load_queries("runlake_query", "model.sql")
_UNPACKED = ("parent_run_id", "commit_hash")
"""Fields of runs that are ids: see the table `runs`."""
MANY_RUNS = 500_000
"""From so many on, several threads scan them faster than one: DuckDB shares them out by 122,880."""


def model_version() -> str:
    """A digest of the tables and of the rules that fill them: a read model of another version is built anew."""
    rules = [*_SQL.values(), *load_queries("runlake_query", "apply.sql").values()]
    rules += load_queries("runlake_query", "largespan.sql").values()
    rules += load_queries("runlake_query", "runcounts.sql").values()
    rules += [*load_queries("runlake_query", "pricing.sql").values(), priced_query("rows", "prices")]
    rules += [changes_query("changes"), fold_query("ranked"), present_query("folded")]
    rules += [f"{field.name} {field.sql_type}" for field in CHANGE_FIELDS]
    rules += _UNPACKED
    return hashlib.sha256("\0".join(rules).encode()).hexdigest()[:16]


class State(NamedTuple):
    """What answers depend on. Of two equal ones they are the same."""

    positions: Positions
    generation: int


class ReadModel:
    """An open read model. Threads take a `cursor` each; one of them, the follower's, writes."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, lake: UUID | None) -> None:
        self._connection = connection
        self.lake = lake
        """The lake that the rows are of; None while there are none."""
        self._alone = True
        self.generation = 0
        """How often answers have changed and positions have not: costs were computed anew, or runs removed. Answers are
        kept for a `State`, of which this is a part: read before the transaction that they come from begins, and raised
        when that of a change has been committed."""

    def changed(self) -> None:
        """A change was committed that no position tells of. Of the follower's thread."""
        self.generation += 1

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A connection for one thread, to this database and to what is attached beside it."""
        cursor = self._connection.cursor()
        cursor.execute(_SQL["use"])
        return cursor

    def fit_threads(self, cursor: duckdb.DuckDBPyConnection, coming: int = 0) -> bool:
        """Have DuckDB's background threads once there are many runs; `coming`: how many more there may soon be. Returns
        whether it has them.

        DuckDB hands the work of every statement, however small, to its background threads, wakes them for it, and has
        the thread that asked wait in a loop that takes Python's lock each time. Where scans are long that is what makes
        them fast; where they are short, applying a message of the feed takes three times as long by it (measured: 20 ms
        and 6 ms). They come and never go again: DuckDB 1.5 takes a lock while it ends them that a query in one of them
        may be waiting for, and both wait for good.
        """
        if self._alone:
            ((runs,),) = cursor.execute(_SQL["count_runs"]).fetchall()
            if runs + coming >= MANY_RUNS:
                self._alone = False
                cursor.execute("SET GLOBAL external_threads = 1")  # the thread that asks; DuckDB starts the others
        return not self._alone

    def belong_to(self, cursor: duckdb.DuckDBPyConnection, lake: UUID) -> None:
        """Stamp a new read model with its lake."""
        cursor.execute(_SQL["set_lake"], {"lake": str(lake)})
        self.lake = lake

    def empty(self, cursor: duckdb.DuckDBPyConnection, lake: UUID, events_since: datetime) -> None:
        """Forget every row, in one transaction: what follows is the log of `lake` from its start."""
        values = {"lake": str(lake), "events_since": events_since.isoformat()}
        cursor.execute("BEGIN")
        try:
            for statement in _SQL["empty"].split(";\n"):
                cursor.execute(statement, values if "$" in statement else None)
            cursor.execute("COMMIT")
        except BaseException:
            cursor.execute("ROLLBACK")
            raise
        self.lake = lake
        self.changed()

    def close(self) -> None:
        """Write to the file what is in memory alone, and close. Idempotent."""
        self._connection.close()


def read_positions(cursor: duckdb.DuckDBPyConnection, plans: Plans | None = None) -> dict[UUID, int]:
    """What the read model reflects, as this cursor's transaction sees it. `plans`: those of the cursor."""
    query = _SQL["positions"]
    rows = plans.rows(query) if plans is not None else cursor.execute(query).fetchall()
    return {UUID(worker): seq for worker, seq in rows}


def read_lake_positions(cursor: duckdb.DuckDBPyConnection) -> dict[UUID, int]:
    """How much of what the read model reflects the lake has confirmed."""
    return {UUID(worker): seq for worker, seq in cursor.execute(_SQL["lake_positions"]).fetchall()}


def open_model(folder: Folder, events_since: datetime, log: Log) -> ReadModel:
    """Open the read model of a folder. One that is damaged, or of another version, is set aside and made anew."""
    if folder.rebuild_mark.exists():
        _set_aside(folder, "it was found damaged while in use", log)
        folder.rebuild_mark.unlink()
    if folder.model.exists():
        try:
            connection = _connect(folder)
        except duckdb.Error as error:
            _set_aside(folder, str(error), log)
        else:
            try:
                rows = connection.execute(_SQL["read_stamp"]).fetchall()  # to the end: else it stays a transaction
                row = rows[0] if rows else None
            except duckdb.Error as error:
                row = (f"unknown: {error}", None)
            if row and row[0] == model_version():
                return ReadModel(connection, UUID(row[1]) if row[1] else None)
            connection.close()
            _set_aside(folder, f"it has version {row[0] if row else None}, and this is {model_version()}", log)
    return _make(folder, events_since)


def _make(folder: Folder, events_since: datetime) -> ReadModel:
    unpacked = dict.fromkeys(_UNPACKED, " USING COMPRESSION uncompressed")
    columns = ",\n    ".join(f"{field.name} {field.sql_type}{unpacked.get(field.name, '')}" for field in CHANGE_FIELDS)
    connection = _connect(folder)
    connection.execute("BEGIN")
    connection.execute(_SQL["tables"].replace("{run_columns}", columns))
    connection.execute(_SQL["stamp"], {"version": model_version(), "events_since": events_since.isoformat()})
    connection.execute("COMMIT")
    connection.execute("CHECKPOINT")
    return ReadModel(connection, None)


def _connect(folder: Folder) -> duckdb.DuckDBPyConnection:
    memory_mib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**21  # half of the machine's
    connection = connect(memory_limit=f"{memory_mib}MiB")
    try:
        connection.execute(f"SET GLOBAL temp_directory = {quote(f'{folder.model}.tmp')}")
        connection.execute(_SQL["attach"].format(path=quote(str(folder.model))))
        connection.execute(_SQL["use"])
    except BaseException:
        connection.close()
        raise
    # None in the background, until `fit_threads` has them.
    connection.execute("SET GLOBAL external_threads = current_setting('threads')")
    connection.execute("SET GLOBAL TimeZone = 'UTC'")  # for cursors too, whatever the machine's zone
    # What is read of the lake here is read once; the files that it goes through would be kept up to the memory limit.
    connection.execute("SET GLOBAL enable_external_file_cache = false")
    # Pages are searched in narrow columns, and read in a query of their own: to have DuckDB do that once more costs
    # more (10 million runs, one page: 31 ms of processor time without it, 93 with).
    connection.execute("SET GLOBAL late_materialization_max_rows = 0")
    # DuckDB plans a prepared statement once, with the statistics that the tables have at that moment: what was empty
    # then is taken as empty for good, texts are packed into fewer bytes than later ones need. So neither is used.
    connection.execute("SET GLOBAL disabled_optimizers = 'statistics_propagation,compressed_materialization'")
    return connection


def _set_aside(folder: Folder, reason: str, log: Log) -> None:
    log.warning("read_model_set_aside", reason=reason, kept=str(folder.damaged))
    if folder.model.exists():
        folder.model.replace(folder.damaged)
    folder.model.with_name(folder.model.name + ".wal").unlink(missing_ok=True)
