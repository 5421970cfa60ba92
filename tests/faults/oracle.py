"""The oracle of the fault suite, always the same: what agents counted as acknowledged is in the lake, once; positions
have no gap; the books balance; each producer's messages stand in the order in which it sent them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import duckdb

from runlake.lake import duck
from runlake.lake.sqlitecatalog import attach_copy


class LakeFacts(NamedTuple):
    messages: int
    distinct_ids: int
    positions_without_gap: bool
    unbalanced_batches: int
    accepted_in_books: int
    out_of_order: int
    flushes_contiguous: bool


def lake_facts(catalog: Path) -> LakeFacts:
    """Read the lake of a stopped worker, whose catalog is a file, with plain DuckDB."""
    connection = duck.connect()
    try:
        attach_copy(connection, catalog)
        return read_facts(connection)
    finally:
        connection.close()


def read_facts(connection: duckdb.DuckDBPyConnection) -> LakeFacts:
    """The facts of the lake that is attached as `lake`."""

    def one(sql: str) -> Any:
        row = connection.execute(sql).fetchone()
        assert row is not None
        return row[0] if len(row) == 1 else row

    columns = "worker, seq, event_id"
    log = f"(SELECT {columns} FROM lake.run_changes UNION ALL SELECT {columns} FROM lake.events)"
    messages, distinct = one(f"SELECT count(*), count(DISTINCT event_id) FROM {log}")
    gapless = one(
        f"SELECT coalesce(bool_and(first = 1 AND last = n AND n = seqs), true) FROM (SELECT min(seq) AS first,"
        f" max(seq) AS last, count(*) AS n, count(DISTINCT seq) AS seqs FROM {log} GROUP BY worker)"
    )
    unbalanced = one("SELECT count(*) FROM lake.deliveries WHERE received <> accepted + duplicate + rejected")
    accepted = one("SELECT coalesce(sum(accepted), 0)::BIGINT FROM lake.deliveries")
    numbers = (
        "SELECT run_id::VARCHAR AS run, seq, (payload->>'number')::BIGINT AS number FROM lake.events"
        " WHERE run_id LIKE 'run-%' UNION ALL"
        " SELECT run_event_id::VARCHAR, seq, items_succeeded FROM lake.run_changes WHERE kind = 'run.updated'"
    )
    disorder = one(
        "SELECT count(*) FROM (SELECT number, lag(number) OVER (PARTITION BY run ORDER BY seq) AS before"
        f" FROM ({numbers})) WHERE number <= before"
    )
    contiguous = one(
        "SELECT coalesce(bool_and(first_seq = coalesce(before, 0) + 1), true) FROM (SELECT first_seq,"
        " lag(last_seq) OVER (PARTITION BY worker ORDER BY segment) AS before FROM lake.flushes)"
    )
    return LakeFacts(messages, distinct, gapless, unbalanced, accepted, disorder, contiguous)


def assert_all_there_once(catalog: Path, expected: int) -> LakeFacts:
    """Exactly `expected` messages, each once, with balanced books."""
    facts = lake_facts(catalog)
    judge(facts, expected)
    return facts


def judge(facts: LakeFacts, expected: int) -> None:
    """Are these the facts of a lake with exactly `expected` messages, each once, in order, with balanced books?"""
    wanted = LakeFacts(
        messages=expected,
        distinct_ids=expected,
        positions_without_gap=True,
        unbalanced_batches=0,
        accepted_in_books=expected,
        out_of_order=0,
        flushes_contiguous=True,
    )
    assert facts == wanted, f"{facts}, and not {wanted}"
