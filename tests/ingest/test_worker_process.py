"""A real worker as a process: what is acknowledged is on disk, how it stops, and when it refuses to start."""

from __future__ import annotations

import fcntl
import shutil
import signal
import socket
from pathlib import Path

import pytest

from runlake.messages import RunEvent
from runlake_ingest.journal import scan_segment, segment_files
from support.processes import Site
from support.producer import Producer
from support.reading import assert_stored_once, rows
from support.samples import events


def journal(site: Site) -> Path:
    return site.data / "ingest" / "journal"


def test_p1_a_message_is_acknowledged_only_when_its_line_is_on_disk(site: Site) -> None:
    """Every ack is held against the file at the moment when it comes."""
    with site.ingest("--flush-interval-ms", "600000") as process, Producer(site.ingest_endpoint) as producer:
        sent = {producer.send(batch): batch for batch in (events(20) for _ in range(16))}
        for _ in sent:
            ack = producer.ack()
            (path,) = segment_files(journal(site))
            groups = scan_segment(path).groups
            good = path.read_bytes()[: groups[-1][2]]
            assert groups[-1][0].last_seq >= ack.first_seq + ack.accepted - 1
            for offset, message in enumerate(sent[ack.batch]):
                seq = ack.first_seq + offset
                assert b'{"seq":%d,' % seq in good and str(message.event_id).encode() in good
        process.kill()
    with site.ingest() as process:
        assert process.terminate() == 0
    assert_stored_once(site.catalog, 320)


def test_p1_sigterm_while_producers_send_leaves_all_that_was_acknowledged_in_the_lake(site: Site) -> None:
    acknowledged: dict[str, list[RunEvent]] = {}
    with site.ingest("--flush-interval-ms", "50") as process:
        producers = [Producer(site.ingest_endpoint, f"p{number}") for number in range(3)]
        sent: dict[tuple[str, int], list[RunEvent]] = {}

        def send_one_each() -> None:
            for producer in producers:
                batch = events(50, first=producer.number)
                sent[producer.name, producer.send(batch)] = batch

        def collect(producer: Producer) -> None:
            ack = producer.ack()
            assert not ack.duplicate and not ack.rejected
            acknowledged.setdefault(producer.name, []).extend(sent[producer.name, ack.batch])

        for _ in range(24):
            send_one_each()
        collect(producers[0])
        process.send(signal.SIGTERM)
        for _ in range(5):
            send_one_each()
        assert process.wait() == 0
        for producer in producers:
            while producer.answered(0.1):
                collect(producer)
            producer.close()
    assert list(journal(site).iterdir()) == []
    with (site.data / "ingest" / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    for name, messages in acknowledged.items():
        stored = [
            row[0] for row in rows(site.catalog, "SELECT event_id FROM events WHERE producer = ? ORDER BY seq", name)
        ]
        assert stored[: len(messages)] == [message.event_id for message in messages]
    assert_stored_once(site.catalog, process.wait_for("stopped")["position"]["accepted"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_worker_stops_at_once_and_cleanly(number: signal.Signals, site: Site) -> None:
    with site.ingest() as process:
        process.send(number)
        assert process.wait() == 0
        assert [line["event"] for line in process.log][-2:] == ["stopping", "stopped"]


def test_positions_and_the_workers_id_go_on_after_restarts(site: Site) -> None:
    workers = set()
    for turn in range(3):
        with site.ingest("--flush-interval-ms", "600000") as process, Producer(site.ingest_endpoint) as producer:
            ack = producer.deliver(events(4))
            assert ack.first_seq == turn * 4 + 1
            workers.add(ack.worker)
            if turn == 1:
                process.kill()
            else:
                assert process.terminate() == 0
    assert len(workers) == 1
    assert_stored_once(site.catalog, 12)
    found = rows(site.catalog, "SELECT segment, first_seq, last_seq FROM flushes ORDER BY segment")
    assert found == [(1, 1, 4), (2, 5, 8), (3, 9, 12)]


def test_a_second_worker_on_the_folder_refuses_and_says_why(site: Site) -> None:
    with site.ingest() as first, Producer(site.ingest_endpoint) as producer:
        with site.ingest(ready=False) as second:
            assert second.wait() == 1
            (line,) = [line for line in second.log if line["event"] == "cannot_run"]
        assert f"process {first.pid}" in line["reason"]
        assert str(site.data / "ingest") in line["reason"]
        assert producer.deliver(events(1)).accepted == 1
        first.kill()
    with site.ingest() as third:
        assert third.terminate() == 0


@pytest.mark.parametrize("setting", ["ingest", "push", "feed"])
def test_an_address_that_is_taken_is_a_wrong_setting_and_named(setting: str, site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        with site.ingest(f"--{setting}", address, ready=False) as process:
            assert process.wait() == 2
    (line,) = [line for line in process.log if line["event"] == "cannot_run"]
    assert address in line["reason"]
    assert f"RUNLAKE_{setting.upper()}_BIND" in line["reason"]
    assert "in use" in line["reason"]


def test_an_ipc_address_is_not_taken_away_from_the_worker_that_has_it(site: Site, tmp_path: Path) -> None:
    other = Site(tmp_path / "other")
    with site.ingest() as first, Producer(site.ingest_endpoint) as producer:
        with other.ingest("--ingest", site.ingest_endpoint, ready=False) as second:
            assert second.wait() == 2
            assert "in use" in second.wait_for("cannot_run")["reason"]
        assert producer.deliver(events(1)).accepted == 1
        first.kill()
    with site.ingest() as again:  # the path that a killed worker left behind is nobody's
        assert again.terminate() == 0


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--flush-interval-ms", "soon"), "--flush-interval-ms: 'soon' cannot be used; allowed is"),
        (("--ingest", "tcp://0.0.0.0:8766"), "`runlake keys create server`"),
    ],
)
def test_a_wrong_setting_ends_the_worker_before_it_starts(flags: tuple[str, ...], words: str, site: Site) -> None:
    with site.ingest(*flags, ready=False) as process:
        assert process.wait() == 2
    assert words in "".join(process.text)
    assert not site.data.exists()


def test_a_journal_of_another_lake_is_refused_and_kept(site: Site) -> None:
    with site.ingest("--flush-interval-ms", "600000") as process, Producer(site.ingest_endpoint) as producer:
        producer.deliver(events(3))
        process.kill()
    for path in site.data.glob("catalog.sqlite*"):
        path.rename(path.with_name(f"old-{path.name}"))
    before = {path.name: path.read_bytes() for path in journal(site).iterdir()}
    with site.ingest(ready=False) as process:
        assert process.wait() == 1
        assert "belongs to the lake" in process.wait_for("cannot_run")["reason"]
    assert {path.name: path.read_bytes() for path in journal(site).iterdir()} == before


def test_a_copy_of_the_folder_goes_on_under_a_new_id(site: Site, tmp_path: Path) -> None:
    """What the original had not flushed is flushed from the copy under the original's id, and the copy numbers on from
    there: changes fold by their numbers."""
    with site.ingest("--flush-interval-ms", "600000") as process, Producer(site.ingest_endpoint) as producer:
        original = producer.deliver(events(3)).worker
        process.kill()
    copy = Site(tmp_path / "copy")
    shutil.copytree(site.data, copy.data)
    with copy.ingest("--storage", f"{site.data}/lake/") as process, Producer(copy.ingest_endpoint) as producer:
        ack = producer.deliver(events(2))
        assert (ack.first_seq, ack.worker != original) == (4, True)
        assert process.terminate() == 0
    found = rows(copy.catalog, "SELECT worker = ?, seq FROM events ORDER BY 1, 2", str(original))
    assert found == [(False, 4), (False, 5), (True, 1), (True, 2), (True, 3)]


def test_a_torn_end_of_the_journal_is_cut_off_and_the_worker_goes_on(site: Site) -> None:
    with site.ingest("--flush-interval-ms", "600000") as process, Producer(site.ingest_endpoint) as producer:
        producer.deliver(events(3))
        process.kill()
    (path,) = segment_files(journal(site))
    with path.open("ab") as file:
        file.write(b'{"seq":4,"received_at":"20')
    with site.ingest() as process, Producer(site.ingest_endpoint) as producer:
        assert process.wait_for("journal_tail_cut")["bytes"] == 26
        assert producer.deliver(events(1)).first_seq == 4
        assert process.terminate() == 0
    assert_stored_once(site.catalog, 4)
    assert [path.read_bytes() for path in (site.data / "ingest" / "aside").iterdir()] == [b'{"seq":4,"received_at":"20']
