"""`runlake replay --journal`: the journal of a worker that was retired without it turns up after all."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from msgspec import structs

from runlake.homes import home_of
from runlake.messages import CommitAssociated, Message
from support.processes import Process
from support.producer import Producer
from support.runlake_command import Command
from support.samples import event, started, updated
from support.workers import Workers

NEVER = ("--flush-interval-ms", "600000")
_ALL = (
    "SELECT count(*), count(DISTINCT event_id) FROM"
    " (SELECT event_id FROM {lake}.events UNION ALL SELECT event_id FROM {lake}.run_changes)"
)


def id_of(process: Process) -> UUID:
    return UUID(process.wait_for("ready")["worker"])


@pytest.fixture
def command(tmp_path: Path, workers: Workers) -> Command:
    """On the cluster, of which `a` is an entry point."""
    command = Command(tmp_path)
    command.more = {
        "RUNLAKE_CATALOG": str(workers.place.catalog),
        "RUNLAKE_STORAGE": workers.place.storage,
        "RUNLAKE_INGEST": f"ipc://{tmp_path / 'a' / 's' / 'i'}",
    }
    return command


def commit(run: UUID, sha: str) -> CommitAssociated:
    return CommitAssociated(
        event_id=uuid4(), run_event_id=run, ts=datetime.now(UTC), commit_hash=sha, commit_source="ci"
    )


def test_p2_what_a_journal_holds_that_comes_back_is_there_once_and_what_was_said_since_stays(
    workers: Workers, command: Command, tmp_path: Path
) -> None:
    a, b = workers.site("a"), workers.site("b")
    found = tmp_path / "found"
    bring = ("replay", "--journal", str(found), "--to", a.ingest_endpoint)
    with a.ingest(*NEVER) as first, b.ingest(*NEVER) as second:
        ids = [id_of(first), id_of(second)]
        assert workers.change("add") == 2
        runs = [run for run in (started(f"r{n}") for n in range(40)) if home_of(run.event_id.bytes, ids) == ids[1]][:4]
        one, two, three, four = (run.event_id for run in runs)
        lost: list[Message] = [
            *runs[:3],
            updated(one, items_failed=1, product="lost"),
            updated(one, items_failed=2),
            updated(two, items_failed=1),
            commit(two, "aaaaaaa1"),
            commit(three, "bbbbbbb1"),
            *(structs.replace(event(number), run_event_id=one) for number in range(30)),
        ]
        with Producer(b.ingest_endpoint) as to_b:
            assert to_b.deliver(runs[3:]).accepted == 1
            to_b.flush()
            assert to_b.deliver(lost[:5]).accepted == 5
            assert to_b.deliver(lost[5:]).accepted == len(lost) - 5
        second.kill()
        shutil.copytree(b.data, found)
        early = command(*bring)
        assert (early.returncode, f"workers retire {ids[1]} --journal" in early.stderr) == (1, True), early.stderr
        assert workers.change("retire", str(ids[1]), "--journal-lost") == 3
        since: list[Message] = [updated(one, items_failed=9), updated(two, items_failed=8), commit(two, "ccccccc1")]
        with Producer(a.ingest_endpoint) as to_a:
            assert to_a.deliver([lost[0], *lost[8:11], *since]).accepted == 7, "whose ack was lost, and what is new"
            to_a.flush()
        back = workers.run("retire", str(ids[1]), "--journal", str(found))
        assert (back.returncode, "runlake replay --journal" in back.stderr) == (1, True), back.stderr
        assert workers.rows(_ALL) == [(8, 8)]
        for accepted, duplicate in ((len(lost) - 7, 4), (0, len(lost) - 3)):
            brought = command(*bring)
            assert brought.returncode == 0, brought.stderr
            said = f"{accepted} messages accepted, {duplicate} were there already, 0 refused. 3 left out"
            assert said in brought.stdout
            assert f"commit aaaaaaa1 of run {two}" in brought.stdout
        with Producer(a.ingest_endpoint) as to_a:
            to_a.flush()
        assert workers.rows(_ALL) == [(8 + len(lost) - 7,) * 2]
        assert first.terminate() == 0
    shown = workers.rows("SELECT event_id, items_failed, product, commit_hash FROM {lake}.runs ORDER BY ALL")
    expected = [
        (one, 9, "lost", None), (two, 8, None, "ccccccc1"), (three, None, None, "bbbbbbb1"), (four, None, None, None),
    ]  # fmt: skip
    assert shown == sorted(expected)
    file = command("replay", "--journal", str(found), "--to", str(tmp_path / "file"))
    assert (file.returncode, "--to is its endpoint" in file.stderr) == (2, True)


def test_p1_what_an_older_copy_of_the_journal_lacked_comes_from_the_journal_itself(
    workers: Workers, command: Command, tmp_path: Path
) -> None:
    a, b = workers.site("a"), workers.site("b")
    with a.ingest(*NEVER) as first, b.ingest(*NEVER) as second, Producer(b.ingest_endpoint) as to_b:
        ids = [id_of(first), id_of(second)]
        assert workers.change("add") == 2
        runs = [run for run in (started(f"r{n}") for n in range(60)) if home_of(run.event_id.bytes, ids) == ids[1]]
        assert to_b.deliver(runs[:5]).accepted == 5
        shutil.copytree(b.data, tmp_path / "copy")
        assert to_b.deliver(runs[5:]).accepted == len(runs) - 5
        second.kill()
        assert workers.change("retire", str(ids[1]), "--journal", str(tmp_path / "copy")) == 3
        back = workers.run("retire", str(ids[1]), "--journal", str(b.data))
        assert (back.returncode, "from 7 on" in back.stderr) == (1, True), back.stderr
        brought = command("replay", "--journal", str(b.data), "--to", a.ingest_endpoint)
        assert f"{len(runs) - 5} messages accepted, 5 were there already" in brought.stdout, brought.stderr
        with Producer(a.ingest_endpoint) as to_a:
            to_a.flush()
        assert workers.rows(_ALL) == [(len(runs),) * 2]
        assert first.terminate() == 0
