"""Changes are folded with no more fields than they set: that is the same as folding all fields."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from runlake.logs import Log
from runlake.messages import CommitAssociated, Message, RunStarted, RunUpdated
from runlake_query.apply import Applier
from runlake_query.applystatements import ALL_FIELDS, fields_of
from runlake_query.folder import Folder
from runlake_query.merges import MAX_KEPT, Merges
from runlake_query.model import ReadModel, open_model
from support.journals import WORKER, batch_lines

NOW = datetime(2026, 4, 15, 10, tzinfo=UTC)
FIELDS: dict[str, Any] = {
    "status": "success",
    "end_time": NOW + timedelta(seconds=2),
    "product": "p",
    "items_failed": 3,
    "error_summary": "e",
    "git_branch": "main",
    "model": "small",
    "input_tokens": 900,
    "metrics_json": {"n": 1},
    "cost_usd": Decimal("0.5"),
    "duration_ms": 7,
}


@pytest.fixture
def models(tmp_path: Path) -> Iterator[tuple[ReadModel, ReadModel]]:
    folders = [Folder(tmp_path / name) for name in ("one", "other")]
    log = Log("query", stream=io.StringIO())
    one, other = (open_model(folder, datetime(2020, 1, 1, tzinfo=UTC), log) for folder in folders)
    yield one, other
    for model, folder in zip((one, other), folders, strict=True):
        model.close()
        folder.close()


def changes(dice: random.Random, count: int) -> list[Message]:
    """Starts, updates and commits of a few runs, each with a few fields of its own."""
    runs = [UUID(int=dice.getrandbits(128), version=4) for _ in range(6)]
    made: list[Message] = []
    for number in range(count):
        run, key = dice.choice(runs), UUID(int=dice.getrandbits(128), version=4)
        fields = {name: FIELDS[name] for name in dice.sample(sorted(FIELDS), dice.randrange(3))}
        match dice.randrange(4):
            case 0:
                fields.pop("end_time", None)
                name = f"run-{run.int % 3}"
                made.append(
                    RunStarted(event_id=run, run_id=name, agent_name="a", job_type="j", start_time=NOW, **fields)
                )
            case 1:
                sha, author = f"{dice.getrandbits(160):040x}", dice.choice((None, f"author {number}"))
                made.append(
                    CommitAssociated(
                        event_id=key, run_event_id=run, ts=NOW, commit_hash=sha, commit_source="manual",
                        commit_author=author,
                    )
                )  # fmt: skip
            case _:
                made.append(RunUpdated(event_id=key, run_event_id=run, ts=NOW, **fields))
    return made


def runs_of(model: ReadModel) -> list[tuple[Any, ...]]:
    return model.cursor().execute("SELECT * FROM runs ORDER BY event_id").fetchall()


@pytest.mark.parametrize("seed", [1, 2])
def test_p4_changes_applied_one_by_one_and_all_at_once_give_the_same_runs(
    seed: int, models: tuple[ReadModel, ReadModel]
) -> None:
    one_by_one, at_once = models
    messages = changes(random.Random(seed), 60)
    lines = [b"".join(batch_lines([message], seq)) for seq, message in enumerate(messages, 1)]
    applier = Applier(one_by_one.cursor())
    for seq, line in enumerate(lines, 1):
        applier.apply_feed(WORKER, 1, seq, line)
    Applier(at_once.cursor()).apply_feed(WORKER, 1, len(lines), b"".join(lines))
    assert runs_of(one_by_one) == runs_of(at_once)


def test_a_statement_serves_all_sets_of_fields_that_it_holds_and_their_number_is_bounded(
    models: tuple[ReadModel, ReadModel],
) -> None:
    cursor = models[0].cursor()
    Applier(cursor).apply_feed(WORKER, 1, 1, b"".join(batch_lines(changes(random.Random(1), 1), 1)))  # makes the tables
    merges = Merges(cursor)
    few = merges.name(WORKER, fields_of(frozenset(("status", "product", "host"))), stored=False)
    assert merges.name(WORKER, fields_of(frozenset(("status", "host"))), stored=False) == few
    assert merges.name(WORKER, fields_of(ALL_FIELDS), stored=False) != few
    names = {merges.name(WORKER, fields_of(frozenset((name,))), stored=True) for name in sorted(ALL_FIELDS)}
    assert len(names) <= MAX_KEPT
    commits = fields_of(frozenset(("commit_author",)))
    assert commits >= {"commit_hash", "commit_source", "commit_author", "commit_timestamp"}
