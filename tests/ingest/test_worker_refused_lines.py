"""A message that was accepted and that the lake then refuses is in quarantine, and may come again at once, mended."""

from __future__ import annotations

import pytest

from support.processes import Site, wait_until
from support.producer import Producer
from support.reading import one
from support.samples import events


@pytest.mark.parametrize("window_ids", ["2000000", "1"], ids=["in the window", "before its horizon"])
def test_a_message_that_the_lake_refused_is_no_duplicate_when_it_comes_again(window_ids: str, site: Site) -> None:
    first, refused, last = events(3)
    flags = ("--flush-interval-ms", "600000", "--maintenance-interval-ms", "0", "--window-ids", window_ids)
    with site.ingest(*flags) as worker, Producer(site.ingest_endpoint) as producer:
        producer.deliver(events(1))
        producer.flush()
        assert producer.deliver([first, refused, last]).accepted == 3
        (segment,) = (site.data / "ingest" / "journal").iterdir()
        line = next(
            line for line in segment.read_bytes().splitlines() if str(refused.event_id).encode() in line
        )  # as the lake cannot take it: here the disk is to blame
        with segment.open("r+b") as file:
            file.seek(segment.read_bytes().index(line) + line.index(b'"ts":"') + len(b'"ts":"'))
            file.write(b"x")
        producer.flush()
        worker.wait_for("line_quarantined")
        wait_until(lambda: producer.deliver([refused]).accepted == 1, "it is accepted again")
        again = producer.deliver([first, refused, last])
        assert (again.accepted, again.duplicate) == (0, [0, 1, 2])
        assert worker.terminate() == 0
    assert one(site.catalog, "SELECT count(*) FROM events") == 4
    assert one(site.catalog, "SELECT count(DISTINCT event_id) FROM events") == 4
    assert one(site.catalog, "SELECT count(*) FROM quarantine") == 1
