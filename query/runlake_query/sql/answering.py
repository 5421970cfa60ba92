"""Running a user's statement, in a process that is confined already (`sandbox.py`).

For each there is a DuckDB of its own, in memory, that can read the given files and write the result, and whose
configuration is locked.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import duckdb

from runlake.lake.duck import quote
from runlake.sqlfile import load_queries
from runlake_query.formats import ARROW, CSV, NDJSON, PARQUET
from runlake_query.sql.confinement import allow_cpu
from runlake_query.sql.finite import with_nulls
from runlake_query.sql.messages import Ask, Column, Told
from runlake_query.sql.statement import Refused, limited

_SQL = load_queries("runlake_query.sql", "sandbox.sql")
_OPTIONS = {
    "json": "FORMAT json, ARRAY true, USE_TMP_FILE false",
    NDJSON.name: "FORMAT json, USE_TMP_FILE false",
    CSV.name: "FORMAT csv, HEADER true, USE_TMP_FILE false",
    PARQUET.name: "FORMAT parquet, COMPRESSION zstd, USE_TMP_FILE false",
}
_MAX_DETAIL = 2_000


def answer(ask: Ask) -> Told:
    """Run a statement; its result is in the file `result` of its folder."""
    allow_cpu(ask.deadline_s * ask.threads + 5)
    connection = _connect(ask)
    too_late = threading.Event()

    def interrupt() -> None:
        too_late.set()
        connection.interrupt()

    timer = threading.Timer(ask.deadline_s, interrupt)
    timer.daemon = True
    timer.start()
    try:
        _prepare(connection, ask)
        return _run(connection, ask)
    except Refused as refused:
        return Told(outcome="refused", detail=_tell(ask, str(refused)))
    except (duckdb.Error, MemoryError, OverflowError, UnicodeError, RuntimeError, ImportError) as error:
        if too_late.is_set():
            return Told(outcome="too_slow")
        return Told(outcome="failed", detail=_tell(ask, str(error) or "There is not enough memory."))
    finally:
        timer.cancel()
        connection.close()
        shutil.rmtree(_spill(ask), ignore_errors=True)


def _connect(ask: Ask) -> duckdb.DuckDBPyConnection:
    return duckdb.connect(
        ":memory:",
        config={
            "threads": ask.threads,
            "memory_limit": f"{ask.memory_mib}MiB",
            "temp_directory": str(_spill(ask)),
            "max_temp_directory_size": f"{ask.spill_mib}MiB",
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        },
    )


def _prepare(connection: duckdb.DuckDBPyConnection, ask: Ask) -> None:
    files = _list([ask.runs, ask.recent, *ask.events, *ask.deletes, _result(ask)])
    for statement in _SQL["settings"].split(";\n"):
        connection.execute(statement.replace("{files}", files))
    connection.execute(_SQL["runs"].format(runs=quote(ask.runs)))
    columns = _SQL["event_columns"]
    sources = ""
    if ask.events and ask.positions:
        reflected = " OR ".join(f"(worker = {quote(worker)} AND seq <= {seq})" for worker, seq in ask.positions.items())
        name = "events_of_lake_with_deletes" if ask.deletes else "events_of_lake"
        sources = _SQL[name].format(
            columns=columns, files=_list(ask.events), deletes=_list(ask.deletes), reflected=reflected
        )
    sources = f"{sources}\n{_SQL['recent_events'].format(columns=columns, recent=quote(ask.recent))}"
    connection.execute(_SQL["events"].format(sources=sources))
    connection.execute(_SQL["lock"])


def _run(connection: duckdb.DuckDBPyConnection, ask: Ask) -> Told:
    statement = limited(connection, ask.sql)
    query = _SQL["result"].format(statement=statement, limit=ask.max_rows + 1)
    connection.execute(query, ask.parameters or None)
    columns = [Column(*row) for row in connection.execute(_SQL["columns"]).fetchall()]
    fitting = _SQL["rows_that_fit"].format(max_rows=ask.max_rows, max_bytes=ask.max_bytes)
    rows, there = connection.execute(fitting).fetchone() or (0, 0)
    if ask.format == ARROW.name:
        _write_arrow(connection, rows, _result(ask))
    else:
        shown = ", ".join(_shown(column, ask.format) for column in columns)
        path, options = quote(_result(ask)), _OPTIONS[ask.format]
        connection.execute(_SQL["copy"].format(columns=shown, rows=rows, path=path, options=options))
        if ask.format in ("json", NDJSON.name):
            result = Path(_result(ask))
            result.write_bytes(with_nulls(result.read_bytes()))
    return Told(outcome="done", columns=columns, rows=rows, truncated=rows < there)


def _shown(column: Column, kind: str) -> str:
    """A column as it is written: as it is, but times as RFC 3339 where it is text."""
    name = _name(column.name)
    if kind != PARQUET.name and column.type == "TIMESTAMP WITH TIME ZONE":
        return _SQL["time"].format(column=name)
    if kind == PARQUET.name and column.type == "HUGEINT":  # the type of every sum; Parquet has none so large
        return _SQL["decimal"].format(column=name)
    return name


def _write_arrow(connection: duckdb.DuckDBPyConnection, rows: int, path: str) -> None:
    pa = import_module("pyarrow")  # it is optional, and large
    names = ", ".join(_name(name) for name, _ in connection.execute(_SQL["columns"]).fetchall())
    reader = connection.execute(_SQL["select"].format(columns=names, rows=rows)).to_arrow_reader()
    with pa.OSFile(path, "wb") as file, pa.ipc.new_stream(file, reader.schema) as stream:
        for batch in reader:
            stream.write_batch(batch)


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _list(paths: Sequence[str]) -> str:
    return f"[{', '.join(map(quote, paths))}]"


def _result(ask: Ask) -> str:
    return f"{ask.folder}/result"


def _spill(ask: Ask) -> Path:
    return Path(ask.folder) / "spill"


def _tell(ask: Ask, detail: str) -> str:
    """An error for who asked: without our own statement around his, and without paths of this machine."""
    text = detail.partition("\n\n")[0].strip()
    for folder in {str(Path(path).parent) for path in (ask.runs, ask.folder, *ask.events[:1])}:
        text = text.replace(folder, "…")
    return text[:_MAX_DETAIL]
