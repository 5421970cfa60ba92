"""`runlake verify` says that a whole lake is whole, and names what was damaged: each test damages a real thing."""

from __future__ import annotations

import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from runlake.lake import duck
from runlake.messages import RunEvent
from support.lakes import LakeWriter, Worker
from support.processes import Site
from support.producer import Producer
from support.runlake_command import Command
from support.samples import event, started

_TOKEN = "a-token-of-this-test-0123456789"


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def report(command: Command) -> dict[str, Any]:
    """What each check found wrong. The exit status says whether anything was."""
    done = command("verify", "--json")
    found = json.loads(done.stdout)
    wrong = {check["name"]: check["wrong"] for check in found["checks"] if check["wrong"]}
    assert done.returncode == (1 if wrong else 0), done.stderr
    assert found["wrong"] == sum(map(len, wrong.values()))
    return wrong


def filled(site: Site, *, flushed: int = 3, waiting: int = 0) -> None:
    """A site whose worker was killed: so many messages in the lake, and so many in the journal, each a group."""
    with site.ingest("--flush-interval-ms", "600000") as worker, Producer(site.ingest_endpoint) as producer:
        for number in range(flushed):
            producer.deliver([started(f"run-{number}")])
        producer.flush()
        for number in range(waiting):
            producer.deliver([event(number)])
        worker.kill()


def segment(site: Site) -> Path:
    (path,) = (site.data / "ingest" / "journal").iterdir()
    return path


def events_file(site: Site) -> Path:
    return next((site.data / "lake" / "main" / "run_changes").iterdir())


def written(command: Command, *workers: Worker) -> None:
    """A lake with the rows of these workers, each with books that agree with what it collected."""
    with LakeWriter(command.data) as lake:
        for worker in workers:
            worker.delivery("p", 1, accepted=worker.seq, first_seq=1)
        lake.flush(*workers)


def test_a_whole_lake_is_right_beside_a_running_worker_and_after_a_kill(site: Site, command: Command) -> None:
    with site.ingest("--flush-interval-ms", "600000") as worker, Producer(site.ingest_endpoint) as producer:
        producer.deliver([started("r"), event(1), b"\x81\xa4kind\xa1?"])
        producer.flush()
        producer.deliver([event(2), event(3)])
        done = command("verify")
        assert done.returncode == 0, done.stdout
        assert "All is right." in done.stdout
        assert "✓ positions: 2 messages" in done.stdout
        assert "✓ journal: 2 messages that wait for the lake" in done.stdout
        worker.kill()
    assert report(command) == {}


def test_files_that_are_replaced_while_they_are_looked_at_are_no_fault(site: Site, command: Command) -> None:
    often = ("--flush-interval-ms", "20", "--maintenance-interval-ms", "50", "--maintenance-keep-s", "1")
    done = threading.Event()

    def go_on() -> None:
        with Producer(site.ingest_endpoint) as producer:
            number = 0
            while not done.is_set():
                producer.deliver([started(f"run-{number}"), event(number)])
                number += 1

    with site.ingest(*often), ThreadPoolExecutor(1) as pool:
        busy = pool.submit(go_on)
        try:
            for _ in range(3):
                assert report(command) == {}
        finally:
            done.set()
        busy.result()


def test_a_bit_that_flipped_in_the_journal_is_told(site: Site, command: Command) -> None:
    filled(site, waiting=3)
    content = bytearray(segment(site).read_bytes())
    content[40] ^= 1
    segment(site).write_bytes(content)
    wrong = report(command)
    assert "in no group whose checksum holds" in wrong["journal"][0]
    assert any("positions 4 to 4 are missing" in text for text in wrong["journal"])


def test_a_segment_that_is_gone_is_told(site: Site, command: Command) -> None:
    with site.ingest("--flush-interval-ms", "600000", "--flush-messages", "1") as worker:
        with Producer(site.ingest_endpoint) as producer:
            producer.deliver([event(0)])
            producer.flush()
        worker.kill()
    other = Site(site.data.parent / "other")
    filled(other, waiting=2)
    (site.data / "ingest" / "journal" / "000000000009.ndjson").write_bytes(segment(other).read_bytes())
    wrong = report(command)
    assert "positions 1 to 3 are missing" in wrong["journal"][0]


def test_a_file_that_is_missing_cut_or_of_other_content_is_told(site: Site, command: Command) -> None:
    filled(site)
    path = events_file(site)
    good = path.read_bytes()
    for damaged, said in (
        (None, "No such file"),
        (good[:-100], f"it has {len(good) - 100:,} bytes; the catalog says {len(good):,}"),
        (b"PAR1" + b"\0" * (len(good) - 8) + b"PAR1", "it cannot be read"),
    ):
        if damaged is None:
            path.unlink()
        else:
            path.write_bytes(damaged)
        (text,) = report(command)["files"]
        assert said in text and path.name in text
    path.write_bytes(good)
    assert report(command) == {}


def test_without_the_file_of_the_flushes_all_else_is_told_yet(site: Site, command: Command) -> None:
    with site.ingest("--maintenance-interval-ms", "0") as worker, Producer(site.ingest_endpoint) as producer:
        for number in range(9):
            producer.deliver([event(number)])
            producer.flush()
        assert worker.terminate() == 0
    assert "9 rows of flushes to move" in command("maintain", "--dry-run").stdout
    assert command("maintain").returncode == 0
    with site.ingest("--flush-interval-ms", "600000") as worker, Producer(site.ingest_endpoint) as producer:
        producer.deliver([event(9)])
        producer.deliver([event(10)])
        worker.kill()
    (flushes,) = (site.data / "lake" / "main" / "flushes").iterdir()
    flushes.unlink()
    damaged = bytearray(segment(site).read_bytes())
    damaged[40] ^= 1
    segment(site).write_bytes(damaged)
    wrong = report(command)
    assert list(wrong) == ["journal", "files", "rows"]
    assert flushes.name in wrong["files"][0] and flushes.name in wrong["rows"][0]


def test_a_file_that_no_transaction_committed_is_noted_and_is_no_fault(site: Site, command: Command) -> None:
    filled(site)
    orphan = events_file(site).with_name("ducklake-01a205ee-d6a3-72fb-8499-54e6c92c2bfe.parquet")
    orphan.write_bytes(b"PAR1")
    import os

    os.utime(orphan, (0, 0))
    done = command("verify")
    assert done.returncode == 0
    assert f"· {orphan}: no transaction has committed it" in done.stdout


def test_positions_that_are_missing_or_repeated_are_told(command: Command) -> None:
    gap, twice = Worker(), Worker()
    gap.start("a")
    gap.seq += 1
    gap.start("b")
    twice.start("c")
    twice.start("d")
    twice.run_changes[1]["seq"] = 1
    written(command, gap, twice)
    wrong = report(command)
    assert f"worker {gap.id}: 0 positions repeated, 1 missing" in wrong["positions"]
    assert f"worker {twice.id}: 1 positions repeated, 1 missing" in wrong["positions"]


def test_a_message_that_is_there_twice_is_told(command: Command) -> None:
    worker, key = Worker(), uuid4()
    worker.start("a", key)
    worker.start("a", key)
    written(command, worker)
    assert report(command) == {"ids": [f"{key} is there 2 times"]}


def test_books_that_do_not_balance_are_told(command: Command) -> None:
    worker = Worker()
    worker.start("a")
    worker.delivery("agent", 1, accepted=1)
    worker.deliveries[0]["received"] = 5
    written(command, worker)
    wrong = report(command)
    assert wrong == {"books": ["batch 1 of agent does not balance", f"worker {worker.id} does not balance"]}


def test_a_flush_that_does_not_go_on_where_the_last_one_ended_is_told(command: Command) -> None:
    worker = Worker()
    worker.start("a")
    with LakeWriter(command.data) as lake:
        worker.delivery("p", 1, accepted=2, first_seq=1)
        lake.flush(worker)
        worker.flushed = 0
        worker.start("b")
        lake.flush(worker)
    (text,) = report(command)["positions"]
    assert "segment 2 begins at 1, and the one before ended at 1" in text


def test_where_the_list_of_workers_changed_positions_are_left_out_and_nothing_is_missing(command: Command) -> None:
    """A flush of nothing says so, for a worker that goes on, one that is new, and one that is gone."""
    goes_on, new, gone = Worker(), Worker(), Worker()
    with LakeWriter(command.data) as lake:
        for worker in (goes_on, gone):
            worker.start(f"before {worker.id}")
            worker.delivery("p", 1, accepted=1, first_seq=1)
        lake.flush(goes_on, gone)
        for worker in (goes_on, new, gone):
            worker.seq = worker.flushed = 40
            lake.flush(worker)
        for worker in (goes_on, new):
            worker.start(f"after {worker.id}")
            worker.delivery("p", 2, accepted=1, first_seq=41)
        lake.flush(goes_on, new)
        assert report(command) == {}
        goes_on.flushed = 50
        goes_on.seq = 51
        lake.flush(goes_on)
    assert "segment 4 begins at 51, and the one before ended at 41" in report(command)["positions"][-1]


def test_a_broken_hash_chain_is_told_and_a_whole_one_is_right(site: Site, command: Command) -> None:
    def link(number: int, before: str | None, own: str | None) -> RunEvent:
        usual = event(number, "chained")
        return RunEvent(
            event_id=usual.event_id, run_id="chained", ts=usual.ts, type="step", prev_hash=before, event_hash=own
        )

    whole = [link(1, None, "h1"), link(2, "h1", "h2"), link(3, None, None), link(4, "h2", "h3")]
    broken = link(5, "h2", "h4")
    with site.ingest() as worker, Producer(site.ingest_endpoint) as producer:
        producer.deliver(whole)
        producer.flush()
        assert report(command) == {}
        producer.deliver([broken])
        producer.flush()
        assert report(command) == {
            "hash chains": [f"event {broken.event_id} of run chained does not follow the one before"]
        }
        assert worker.terminate() == 0


def test_p4_a_read_model_that_is_not_the_fold_of_the_lake_is_told(site: Site, command: Command) -> None:
    kept, lost = started("kept", metrics_json={"a": [1, 2.5, None]}, cost_usd="0.25"), started("lost")
    with site.ingest("--flush-interval-ms", "600000") as worker, Producer(site.ingest_endpoint) as producer:
        producer.deliver([kept, lost, event(1, "kept")])
        producer.flush()
        query, url = site.query()
        with query:
            command.http = url.removeprefix("http://")
            done = command("verify")
            assert done.returncode == 0, done.stdout
            assert "✓ read model: 2 runs" in done.stdout
            assert query.terminate() == 0
        with duck.connect(next((site.data / "query").glob("*.duckdb"))) as model:
            model.execute("DELETE FROM runs WHERE event_id = ?", [lost.event_id])
            model.execute("UPDATE runs SET agent_name = 'another' WHERE event_id = ?", [kept.event_id])
        query, url = site.query()
        with query:
            command.http = url.removeprefix("http://")
            assert report(command) == {
                "read model": [
                    *sorted([f"run {kept.event_id} differs", f"run {lost.event_id} is in the lake alone"]),
                    "lists tell of 2 runs with status 'running', and there are 1",
                    "agent_name 'another' is not listed",
                    "lists tell of 2 runs with agent_name 'agent', and there are 0",
                    "lists tell of 2 runs with job_type 'job', and there are 1",
                ]
            }
            assert query.terminate() == 0
        assert worker.terminate() == 0
    (told,) = report(command)["read model"]
    assert f"the query process at {command.http}: " in told and "cannot be asked" in told
    assert "✗ read model: not compared" in command("verify").stdout
    for quiet in (command("verify", "--without-read-model"), command("verify", "--http", "127.0.0.1:0")):
        assert (quiet.returncode, "All is right." in quiet.stdout) == (0, True), quiet.stdout


def test_a_query_process_that_does_not_let_us_in_is_told_as_wrong(site: Site, command: Command) -> None:
    filled(site)
    query, url = site.query(env={"RUNLAKE_TOKEN": _TOKEN})
    with query:
        command.http = url.removeprefix("http://")
        (told,) = report(command)["read model"]
        assert "answers 401: set RUNLAKE_TOKEN (or RUNLAKE_TOKEN_FILE)" in told
        command.more = {"RUNLAKE_TOKEN": _TOKEN}
        done = command("verify")
        assert done.returncode == 0, done.stdout
        assert "✓ read model: 3 runs" in done.stdout
        assert query.terminate() == 0


def test_a_read_model_that_is_never_at_the_position_of_the_lake_is_left_open_and_not_called_right(
    site: Site, command: Command, tmp_path: Path
) -> None:
    filled(site)
    shutil.copytree(site.data, tmp_path / "before")
    filled(site)
    query, url = site.query()
    with query:
        command.http = url.removeprefix("http://")
        done = command("verify", "--data", str(tmp_path / "before"))
        assert done.returncode == 3, done.stdout
        assert "Nothing is wrong; left open: read model." in done.stdout
        assert "All is right." not in done.stdout
        assert query.terminate() == 0
