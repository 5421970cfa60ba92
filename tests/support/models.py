"""The reading side inside the test process: a read model and its follower, without HTTP."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TypeVar
from uuid import UUID

from runlake.fields import CHANGE_FIELDS, RUN_FIELD_NAMES
from runlake.lake.place import LakePlace
from runlake.logs import Log
from runlake_query.copies import Copies
from runlake_query.feedlink import FeedLink
from runlake_query.folder import Folder
from runlake_query.follower import Follower
from runlake_query.live import Live
from runlake_query.model import open_model, read_lake_positions, read_positions
from runlake_query.positions import reaches
from runlake_query.progress import Progress
from runlake_query.reader import Reader, Snapshot
from runlake_query.recent import Recent
from runlake_query.subscribers import Subscribers
from support.lakes import LakeWriter, Worker
from support.processes import wait_until

T = TypeVar("T")
NOW = datetime(2026, 4, 15, tzinfo=UTC)
_MISCOUNTED = """
    SELECT agent_name, job_type, status, sum(runs)
    FROM (
        SELECT * FROM run_counts
        UNION ALL
        SELECT agent_name, job_type, status, -1 FROM runs WHERE created_at IS NOT NULL
    )
    GROUP BY agent_name, job_type, status
    HAVING sum(runs) <> 0
"""


class HasCatalog(Protocol):
    """A lake as its reader knows it."""

    @property
    def catalog(self) -> Path: ...


class Model:
    """A read model of `lake`, kept in step by a follower. Use as a context manager."""

    def __init__(
        self, lake: HasCatalog, folder: Path, *, days: int = 3650, span_messages: int = 1_000_000, feed: str = "",
        reprice_runs: int = 100_000,
    ) -> None:  # fmt: skip
        self.log = io.StringIO()
        log = Log("query", stream=self.log)
        window = timedelta(days=days)
        self.folder = Folder(folder)
        self.model = open_model(self.folder, NOW - window, log)
        self.copies = Copies(self.folder, self.model.cursor())
        self.progress = Progress()
        self.reader = Reader(self.model, self.copies, threads=2)
        self.recent = Recent()
        self.subscribers = Subscribers()
        self._follower = Follower(
            place=LakePlace.of_files(lake.catalog, lake.catalog.with_name("lake")),
            folder=self.folder, model=self.model, copies=self.copies, progress=self.progress,
            log=log, refresh_s=0.005, window=window, utcnow=lambda: NOW, on_damage=lambda: None,
            span_messages=span_messages, reprice_runs=reprice_runs, feed=FeedLink(feed) if feed else None,
            changes=Live(self.recent, self.subscribers),
        )  # fmt: skip
        self._cursor = self.model.cursor()

    def caught_up(self, *workers: Worker) -> Model:
        """Wait until all that the workers have flushed is applied."""

        def there() -> bool:
            positions = self.progress.positions
            return self.progress.state.caught_up and all(positions.get(w.id, 0) >= w.flushed for w in workers)

        wait_until(there, f"the read model has caught up; its log: {self.log.getvalue()}")
        return self

    def reached(self, positions: Mapping[UUID, int]) -> Model:
        """Wait until all of this is visible, by whatever way it came."""
        wait_until(lambda: reaches(self.progress.positions, positions), f"{positions} are reached")
        return self

    def confirmed(self, positions: Mapping[UUID, int]) -> Model:
        """Wait until the lake has confirmed all of this."""

        def there() -> bool:
            confirmed = read_lake_positions(self._cursor)
            return self.progress.state.caught_up and all(confirmed.get(w, 0) >= seq for w, seq in positions.items())

        wait_until(there, f"the lake has confirmed {positions}; the log: {self.log.getvalue()}")
        return self

    def read(self, work: Callable[[Snapshot], T]) -> T:
        """Run a read here and now."""
        self._cursor.execute("BEGIN")
        try:
            with self.copies.borrow() as copy:
                return work(Snapshot(self._cursor, read_positions(self._cursor), copy))
        finally:
            self._cursor.execute("ROLLBACK")

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        return self.read(lambda snapshot: snapshot.rows(query))

    def shown(self) -> list[list[Any]]:
        """Every run that is shown, every field as text."""
        return sorted([list(row) for row in self.rows(shown_runs("shown"))])

    def miscounted(self) -> list[tuple[Any, ...]]:
        """The kinds of runs of which the read model has other counts than there are runs, and by how many."""
        return self._cursor.execute(_MISCOUNTED).fetchall()

    def __enter__(self) -> Model:
        self._follower.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._follower.stop()
        if kind is None:
            assert self.miscounted() == []
        self.reader.close()
        self.copies.close()
        self.model.close()
        self.folder.close()


def shown_runs(table: str, fields: Iterable[str] = RUN_FIELD_NAMES) -> str:
    """A query of run fields as texts, to compare runs of two databases."""
    return f"SELECT {', '.join(f'coalesce({name}::VARCHAR, chr(0))' for name in fields)} FROM {table}"


def lake_runs(lake: LakeWriter) -> list[list[Any]]:
    """Every run of the lake's own `runs` view, as `Model.shown` gives them."""
    return sorted(lake.sql(shown_runs("lake.runs")))


def fields_missed(model: Model) -> set[str]:
    """The fields that a run has, and of which the read model says that no run ever had them."""
    names = [field.name for field in CHANGE_FIELDS if field.name != "cost_usd"]  # that one may have been computed
    (counts,) = model.rows(f"SELECT {', '.join(f'count({name})' for name in names)} FROM runs")
    used = {name for (name,) in model.rows("SELECT name FROM used_fields")}
    assert used < set(names) | {"cost_usd"}
    return {name for name, count in zip(names, counts, strict=True) if count} - used
