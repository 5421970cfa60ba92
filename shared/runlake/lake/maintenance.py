"""What keeps a lake that is written in small flushes fast to read: its steps, and when each is due.

Every flush leaves a few small Parquet files, a snapshot, and a row of `flushes` in the catalog itself. The steps, in
their order:

    retain    runs whose last change is older than a horizon are removed (`retention.py`)
    forget    runs that somebody asked to forget are removed
    refused   rows of the quarantine that are too old are removed
    rewrite   files of which rows were removed are written anew, without them
    inline    the rows of `flushes` go from the catalog to a Parquet file
    merge     small files that follow each other become one, sorted by time
    expire    snapshots that are older than `keep_s` are forgotten
    remove    files that were replaced more than `keep_s` ago are deleted
    orphans   files of transactions that were never committed are deleted, when they are older than `keep_s`

Constraints. Who reads an older snapshot, or a copy of the catalog, still needs the files that a merge replaced: so
nothing goes before `keep_s`, the longest that a read may take. A merged file and its folder are on disk before the
COMMIT that lets go of its sources. Each step is a transaction of its own, is bounded in what it takes on, and may be
killed anywhere. The rows never change: a merge moves them. A rewrite takes on the files with the most removed rows.

Sizes. Files of one class (up to a 32nd, up to a quarter, up to the whole of `merge_bytes`) are merged when there are
`_MERGE_AT` of them, into one that belongs to the next class or is of the same with room for more: so a row is rewritten
a few times and not with every cycle.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

import duckdb
from msgspec import Struct

from runlake.lake.attach import CATALOG
from runlake.lake.duck import quote
from runlake.lake.filedoor import FileDoor
from runlake.lake.filehold import may_delete
from runlake.lake.place import LakePlace
from runlake.lake.quarantine import expire_rows
from runlake.lake.retention import remove_forgotten, remove_old
from runlake.sqlfile import load_queries

_SQL = load_queries("runlake.lake", "maintenance.sql")
_MERGE_AT = 8
_INLINED_AT = 8
_SNAPSHOTS_AT_ONCE = 1_000
_FILES_AT_ONCE = 1_000
_ALMOST = 0.999
_OUR_FILE = re.compile(r"ducklake-[0-9a-f-]{36}(-delete)?\.parquet")
SORTED_TABLES = ("run_changes", "events")
StepName = Literal["retain", "forget", "refused", "rewrite", "inline", "merge", "expire", "remove", "orphans"]
_DELETING = frozenset(("remove", "orphans"))


class Limits(Struct, frozen=True):
    """`keep_s`: for how long what was replaced stays readable. `merge_bytes`: about how much one merge takes on."""

    keep_s: float
    merge_bytes: int


DEFAULTS = Limits(keep_s=3_600, merge_bytes=32 * 1024 * 1024)


class File(NamedTuple):
    """A live Parquet file."""

    table: str
    size: int
    rows: int


class Deletes(NamedTuple):
    """A table with files of which rows were deleted; `part` is the largest part of one that is."""

    table: str
    files: int
    part: float


class Survey(Struct, frozen=True):
    """How a lake stands. The old ones are those past `keep_s`."""

    files: list[File]
    inlined_rows: int
    snapshots: int
    old_snapshots: int
    replaced_files: int
    old_replaced_files: int
    deletes: list[Deletes] = []

    @property
    def bytes(self) -> int:
        return sum(file.size for file in self.files)


class Step(Struct, frozen=True):
    """One bounded piece of work. A merge is of the files of `table` from `least` up to below `below` bytes; `retain`
    and `refused` are of what is older than `least`, in Unix seconds; a rewrite is of files of which `part` is gone."""

    name: StepName
    count: int
    """How many rows, files or snapshots it is about, as far as the survey could tell."""
    table: str = ""
    least: int = 0
    below: int = 0
    size: int = 0
    part: float = 0.0


class Done(Struct, frozen=True):
    """What a step did: `count` rows, files or snapshots are not there any more, and `made` files are new."""

    step: Step
    count: int = 0
    made: int = 0


def plan(survey: Survey, limits: Limits) -> list[Step]:
    """What is due, in order. [] when nothing is."""
    steps = [Step("rewrite", found.files, table=found.table, part=found.part) for found in survey.deletes]
    if survey.inlined_rows >= _INLINED_AT:
        steps.append(Step("inline", survey.inlined_rows, table="flushes"))
    tables = dict.fromkeys(file.table for file in survey.files)
    for table in tables:
        steps += _merges(table, [file.size for file in survey.files if file.table == table], limits.merge_bytes)
    if survey.old_snapshots:
        steps.append(Step("expire", survey.old_snapshots))
    if survey.old_replaced_files:
        steps.append(Step("remove", survey.old_replaced_files))
    return steps


def _merges(table: str, sizes: Sequence[int], most: int) -> Iterator[Step]:
    least = 0
    for below in (max(most // 32, 1), max(most // 4, 2), most):
        of_class = [size for size in sizes if least <= size < below]
        if len(of_class) >= _MERGE_AT:
            yield Step("merge", len(of_class), table=table, least=least, below=below, size=sum(of_class))
        least = below


def survey(connection: duckdb.DuckDBPyConnection, limits: Limits, now: datetime, lake: str = CATALOG) -> Survey:
    """Ask the catalog attached as `lake` how it stands. Raises duckdb.Error."""
    names = {"lake": lake, "meta": _meta(lake)}
    before = {"before": (now - timedelta(seconds=limits.keep_s)).isoformat()}

    def pair(query: str) -> tuple[int, int]:
        row = connection.execute(_SQL[query].format(**names), before).fetchone()
        return (int(row[0]), int(row[1])) if row else (0, 0)

    files = [File(*row) for row in connection.execute(_SQL["files"].format(**names)).fetchall()]
    inlined = 0
    for (table,) in connection.execute(_SQL["inlined_tables"].format(**names)).fetchall():
        row = connection.execute(_SQL["inlined_rows"].format(table=table, **names)).fetchone()
        inlined += int(row[0]) if row else 0
    snapshots, old_snapshots = pair("snapshots")
    replaced, old_replaced = pair("scheduled")
    deletes = [Deletes(*row) for row in connection.execute(_SQL["deletes"].format(**names)).fetchall()]
    return Survey(files, inlined, snapshots, old_snapshots, replaced, old_replaced, deletes)


def orphans(
    connection: duckdb.DuckDBPyConnection, storage: Path, before: datetime, lake: str = CATALOG
) -> Iterable[Path]:
    """The files that DuckLake wrote below `storage` before a time and that the catalog does not know. Where a
    transaction may be under way, `before` must be older than it. Raises duckdb.Error, OSError."""
    found = [
        path for path in storage.rglob("*.parquet") if _is_ours(path.name) and path.stat().st_mtime < before.timestamp()
    ]
    return map(Path, _unknown(connection, map(str, found), lake))


def _unknown(connection: duckdb.DuckDBPyConnection, paths: Iterable[str], lake: str) -> list[str]:
    """Those that the catalog does not know."""
    found = list(paths)
    if not found:
        return []
    rows = connection.execute(_SQL["known_files"].format(meta=_meta(lake))).fetchall()
    known = {name for (name,) in rows}
    return [path for path in found if PurePosixPath(path).name not in known]


def _is_ours(path: str) -> bool:
    return _OUR_FILE.fullmatch(PurePosixPath(path).name) is not None


def old_orphans(connection: duckdb.DuckDBPyConnection, place: LakePlace, limits: Limits, now: datetime) -> list[str]:
    """The orphans that the next `orphans` step removes. Raises duckdb.Error, OSError."""
    before = now - timedelta(seconds=limits.keep_s)
    folder = place.storage_folder
    if folder is not None:
        return [str(path) for path in orphans(connection, folder, before)]
    query = _SQL["old_objects"].format(pattern=quote(f"{place.storage}**/*.parquet"))
    found = [path for (path,) in connection.execute(query, {"before": before.isoformat()}).fetchall()]
    return _unknown(connection, filter(_is_ours, found), CATALOG)


def sort_by_time(connection: duckdb.DuckDBPyConnection) -> None:
    """Have merged files sorted by `ts`, so that bounds on it skip what cannot matter. Flushes stay as they come."""
    for table in SORTED_TABLES:
        row = connection.execute(_SQL["is_sorted"].format(meta=_meta(CATALOG)), {"table": table}).fetchone()
        if not row or not row[0]:
            connection.execute(f"CALL {CATALOG}.set_option('sort_on_insert', false, table_name => '{table}')")
            connection.execute(f"ALTER TABLE {CATALOG}.{table} SET SORTED BY (ts ASC)")


class Maintainer:
    """Runs steps on the connection that writes the lake. Not thread-safe.

    `sync` makes the Parquet files written so far durable; the connection reaches them through `door`; `passing` is told
    the name of each place that the fault suite may kill at. After an error the transaction is rolled back and the lake
    is as it was; but when `door.stays_shut`, what was to be committed may have been, whole.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        place: LakePlace,
        limits: Limits,
        sync: Callable[[], object],
        door: FileDoor,
        passing: Callable[[str], None] = lambda name: None,
    ) -> None:
        self._connection = connection
        self._place = place
        self._limits = limits
        self._sync = sync
        self._door = door
        self._passing = passing

    def survey(self) -> Survey:
        """How the lake stands. Raises duckdb.Error."""
        return survey(self._connection, self._limits, datetime.now(UTC))

    def plan(self) -> tuple[Survey, list[Step]]:
        """How the lake stands, and what is due."""
        found = self.survey()
        return found, plan(found, self._limits)

    def run(self, step: Step) -> Done:
        """Do one step. While somebody holds the files (`filehold.py`) none is deleted. Raises duckdb.Error, OSError."""
        if step.name not in _DELETING:
            return self._run(step)
        with may_delete(self._place) as allowed:
            return self._run(step) if allowed else Done(step)

    def _run(self, step: Step) -> Done:
        connection = self._connection
        connection.execute("BEGIN")
        try:
            done = self._do(step)
            self._sync()
            self._passing(f"{step.name}.before_commit")
            self._door.commit(connection)
        except BaseException:
            with suppress(duckdb.Error):  # the connection may be beyond use
                connection.execute("ROLLBACK")
            raise
        self._passing(f"{step.name}.after_commit")
        return done

    def _do(self, step: Step) -> Done:
        connection, now = self._connection, datetime.now(UTC)
        match step.name:
            case "retain":
                return Done(step, remove_old(connection, CATALOG, step.least, now))
            case "forget":
                return Done(step, remove_forgotten(connection, CATALOG, now))
            case "refused":
                return Done(step, expire_rows(connection, CATALOG, datetime.fromtimestamp(step.least, UTC)))
            case "rewrite":
                # Of those with as many: DuckLake takes on all files with more than a part, and can be told no number.
                rewritten = self._call("rewrite", table=step.table, part=step.part * _ALMOST)
                return Done(step, sum(row[2] for row in rewritten), sum(row[3] for row in rewritten))
            case "inline":
                moved = self._call("inline")
                return Done(step, sum(row[-1] for row in moved), len(moved))
            case "merge":
                self._call("target", size=step.below, table=step.table)
                merged = self._call("merge", table=step.table, least=step.least, below=step.below)
                return Done(step, sum(row[2] for row in merged), sum(row[3] for row in merged))
            case "expire":
                values = {"before": self._before().isoformat(), "most": _SNAPSHOTS_AT_ONCE}
                rows = self._connection.execute(_SQL["old_snapshots"].format(meta=_META), values).fetchall()
                versions = [int(version) for (version,) in rows]
                return Done(step, len(self._call("expire", versions=versions)) if versions else 0)
            case "remove":
                values = {"before": self._before().isoformat(), "most": _FILES_AT_ONCE}
                row = self._connection.execute(_SQL["removable_until"].format(meta=_META), values).fetchone()
                if row is None or row[0] is None:
                    return Done(step)
                return Done(step, len(self._call("remove", until=quote(row[0]))))
            case "orphans":
                found = old_orphans(connection, self._place, self._limits, now)
                if self._place.storage_folder is None:
                    return Done(step, self._remove_objects(set(found)) if found else 0)
                for path in found[:_FILES_AT_ONCE]:
                    Path(path).unlink(missing_ok=True)
                return Done(step, min(len(found), _FILES_AT_ONCE))

    def _remove_objects(self, found: set[str]) -> int:
        """Have DuckLake delete what it does not know below the storage; nothing when that is more than we found."""
        until = quote(self._before().isoformat())
        known = self._connection.execute(_SQL["orphans"].format(lake=CATALOG, until=until, dry_run=True)).fetchall()
        return len(self._call("orphans", until=until, dry_run=False)) if {path for (path,) in known} <= found else 0

    def _call(self, name: str, **names: object) -> list[tuple[int, ...]]:
        return self._connection.execute(_SQL[name].format(lake=CATALOG, meta=_META, **names)).fetchall()

    def _before(self) -> datetime:
        return datetime.now(UTC) - timedelta(seconds=self._limits.keep_s)


def _meta(lake: str) -> str:
    """What DuckLake calls its own database of metadata."""
    return f"__ducklake_metadata_{lake}"


_META = _meta(CATALOG)
