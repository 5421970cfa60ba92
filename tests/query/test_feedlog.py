"""What the feed had told is kept beside the read model until the next checkpoint."""

from __future__ import annotations

import resource
from pathlib import Path
from uuid import UUID

import pytest

from runlake_query.feedlog import FeedLog
from support.api import Api
from support.contract import new_run
from support.processes import Site

LAKE, WORKER = UUID(int=1), UUID(int=2)


def kept(log: FeedLog) -> list[tuple[int, bytes]]:
    return [(span.upto, span.lines) for span in log.spans()]


def test_what_was_appended_is_there_for_the_next_process_in_order(tmp_path: Path) -> None:
    log = FeedLog(tmp_path / "feed.log")
    log.append(LAKE, WORKER, 1, 5, b"one\n")
    log.close()
    log = FeedLog(tmp_path / "feed.log")
    log.append(LAKE, WORKER, 2, 9, b"two\n")
    assert kept(log) == [(5, b"one\n"), (9, b"two\n")]
    log.clear()
    log.append(LAKE, WORKER, 2, 11, b"three\n")
    assert kept(log) == [(11, b"three\n")]
    log.close()


def test_a_record_that_was_cut_off_or_damaged_ends_it(tmp_path: Path) -> None:
    path = tmp_path / "feed.log"
    log = FeedLog(path)
    for upto in (1, 2, 3):
        log.append(LAKE, WORKER, 1, upto, b"line %d\n" % upto)
    log.close()
    whole = path.read_bytes()
    for damaged, left in ((whole[:-1], 2), (whole.replace(b"line 2", b"line 7"), 1), (whole[:2], 0), (b"", 0)):
        path.write_bytes(damaged)
        log = FeedLog(path)
        assert len(kept(log)) == left
        log.close()


def test_it_is_bounded(tmp_path: Path) -> None:
    log = FeedLog(tmp_path / "feed.log", max_bytes=1_000)
    for upto in range(100):
        log.append(LAKE, WORKER, 1, upto, b"x" * 100)
    assert 1 < len(kept(log)) < 10
    assert (tmp_path / "feed.log").stat().st_size <= 1_000
    log.close()


def test_after_one_that_did_not_fit_none_is_kept_until_it_is_cleared(tmp_path: Path) -> None:
    log = FeedLog(tmp_path / "feed.log", max_bytes=300)
    for upto, lines in ((1, b"small\n"), (2, b"x" * 300), (3, b"small\n")):
        log.append(LAKE, WORKER, 1, upto, lines)
    assert kept(log) == [(1, b"small\n")]
    log.clear()
    assert log.empty
    log.append(LAKE, WORKER, 1, 4, b"small\n")
    assert kept(log) == [(4, b"small\n")]
    log.close()


def test_a_full_disk_is_told_once_and_leaves_no_gap() -> None:
    log = FeedLog(Path("/dev/full"))
    with pytest.raises(OSError, match="No space left"):
        log.append(LAKE, WORKER, 1, 1, b"one\n")
    log.append(LAKE, WORKER, 1, 2, b"two\n")
    log.close()


def test_a_feed_that_cannot_be_kept_is_applied_and_told_all_the_same(site: Site) -> None:
    """The file size limit (RLIMIT_FSIZE) stands for a full disk: nothing of the process can grow any more."""
    with site.ingest("--flush-interval-ms", "600000"), site.query()[0] as query:
        query.wait_for("feed_heard")
        resource.prlimit(query.pid, resource.RLIMIT_FSIZE, (0, 0))
        api = Api(f"http://{query.wait_for('listening')['http']}")
        for number in range(3):
            assert api.post("/api/v1/runs", new_run(run_id=f"run {number}")).status == 201
            assert api.ok(f"/api/v1/runs/run%20{number}")["status"] == "running"
        assert api.ok("/api/v1/rollups", measures="runs")["totals"]["runs"] == 3
        api.close()
        assert query.wait_for("feed_log_stopped")["reason"]
        assert len([line for line in query.log if line["event"] == "feed_log_stopped"]) == 1


def test_after_half_a_record_the_log_begins_anew(site: Site) -> None:
    """A disk that was full leaves half a record; what the next process keeps must not stand behind it."""
    with site.ingest("--flush-interval-ms", "600000"):
        query, _ = site.query()
        with query:
            query.wait_for("feed_heard")
            query.kill()
        path = site.data / "query" / "feed.log"
        path.write_bytes(path.read_bytes() + b"\0\0\1")
        for number in range(2):
            query, url = site.query()
            with query:
                query.wait_for("feed_heard")
                api = Api(url)
                assert api.post("/api/v1/runs", new_run(run_id=f"run {number}")).status == 201
                assert api.ok("/api/v1/rollups", measures="runs")["totals"]["runs"] == number + 1
                api.close()
                query.kill()
