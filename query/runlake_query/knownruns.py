"""Which event_ids are surely new: a Bloom filter of the event_ids of all runs, so that most creations need no SQL.

The read model has no index, and ids need not be ordered by time: to look for one reads the ids of all runs. Here a new
id is told in microseconds, whatever the history; one in a hundred or so, and every known one, is looked up as before.

Words of 64 bits, four bits for each id, about five ids to a word. What DuckDB computes of many ids (`knownruns.sql`)
and Python of a few are the same bits. The follower adds ids before it commits them, so that the filter holds at least
what the read model shows. When it is full, a larger one is filled from the read model on a thread of its own; what is
added meanwhile goes into both.
"""

from __future__ import annotations

import hashlib
import threading
from array import array
from collections.abc import Iterable
from uuid import UUID

import duckdb

from runlake.logs import Log
from runlake.sqlfile import load_queries
from runlake_query.model import ReadModel

_SQL = load_queries("runlake_query", "knownruns.sql")
_LEAST_WORDS = 2**16
_IDS_PER_WORD = 5
_FETCH = 10_000


class _Filter:
    """`words` is a power of two, at most 2**32."""

    def __init__(self, words: int) -> None:
        self._mask = words - 1
        self._words = array("Q", bytes(8 * words))
        self._lock = threading.Lock()  # two threads write; readers need none
        self.ids = 0
        """How many were added that were not there, roughly."""

    @property
    def full(self) -> bool:
        return self.ids > _IDS_PER_WORD * len(self._words)

    def add(self, event_id: UUID) -> None:
        word, bits = self._place(event_id)
        self._set(((word, bits, 1),))

    def add_table(self, cursor: duckdb.DuckDBPyConnection, table: str) -> None:
        """Add the event_ids of a table of ours."""
        found = cursor.execute(_SQL["words"].format(ids=table, mask=self._mask))
        while rows := found.fetchmany(_FETCH):
            self._set(rows)

    def may_hold(self, event_id: UUID) -> bool:
        word, bits = self._place(event_id)
        return self._words[word] & bits == bits

    def _set(self, rows: Iterable[tuple[int, int, int]]) -> None:
        words = self._words
        with self._lock:
            for word, bits, ids in rows:
                old = words[word]
                if old & bits != bits:
                    words[word] = old | bits
                    self.ids += ids

    def _place(self, event_id: UUID) -> tuple[int, int]:
        digest = hashlib.md5(str(event_id).encode(), usedforsecurity=False).digest()
        h = int.from_bytes(digest[8:], "little")
        bits = 1 << (h >> 32 & 63) | 1 << (h >> 38 & 63) | 1 << (h >> 44 & 63) | 1 << (h >> 50 & 63)
        return h & self._mask, bits


class KnownRuns:
    """Filled by the follower's thread, asked by any. Until it is filled for the first time, every id may be known."""

    def __init__(self, model: ReadModel, log: Log, least_words: int = _LEAST_WORDS) -> None:
        self._model = model
        self._log = log
        self._least_words = least_words
        self._lock = threading.Lock()
        self._filter: _Filter | None = None
        self._next: _Filter | None = None
        self._filling: threading.Thread | None = None
        self._failed = False

    def may_be_known(self, event_id: UUID) -> bool:
        """False when there is surely no run of this event_id at the positions that were applied before."""
        found = self._filter
        return found is None or found.may_hold(event_id)

    def add(self, event_ids: Iterable[UUID]) -> None:
        """These are about to be committed. On the follower's thread."""
        filters = self._filters()
        for event_id in event_ids:
            for each in filters:
                each.add(event_id)

    def add_table(self, cursor: duckdb.DuckDBPyConnection, table: str) -> None:
        """The event_ids of a table of ours are about to be committed. On the follower's thread."""
        for each in self._filters():
            each.add_table(cursor, table)

    def committed(self) -> None:
        """What was added is committed: the time to grow. On the follower's thread, between transactions."""
        if self._filter is not None and self._filter.full and self._next is None and not self._failed:
            self._begin(2 * self._filter.ids)

    def fill(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """Take in all runs of the read model, unless that was done. On the follower's thread, between transactions."""
        if self._filter is None and self._next is None:
            (count,) = cursor.execute(_SQL["count"]).fetchone() or (0,)
            self._begin(2 * count)

    def close(self) -> None:
        """Wait for the thread that fills, if there is one. Once, when nothing is added any more."""
        if self._filling is not None:
            self._filling.join()

    def _filters(self) -> list[_Filter]:
        with self._lock:
            return [each for each in (self._filter, self._next) if each is not None]

    def _begin(self, ids: int) -> None:
        words = self._least_words
        while words * _IDS_PER_WORD < ids:
            words *= 2
        with self._lock:
            self._next = _Filter(words)
        self._filling = threading.Thread(target=self._fill, args=(self._next,), name="known-runs")
        self._filling.start()

    def _fill(self, fresh: _Filter) -> None:
        try:
            cursor = self._model.cursor()
            try:
                fresh.add_table(cursor, "runs")
            finally:
                cursor.close()
        except duckdb.Error as error:
            self._log.warning("known_runs_not_filled", reason=str(error))
            with self._lock:
                self._next, self._failed = None, True
            return
        with self._lock:
            self._filter, self._next = fresh, None
