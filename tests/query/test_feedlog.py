"""What the feed had told is kept beside the read model until the next checkpoint."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

from runlake_query.feedlog import FeedLog

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
