"""The feeds of several workers: one that is silent is noticed whatever the others say, and named."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from uuid import UUID, uuid4

import pytest
import zmq

from runlake.feed import encode_beat
from runlake.wire import Position
from runlake_query.feedlines import UnreadableLines, sort_lines
from runlake_query.feedlink import FeedLink
from runlake_query.progress import FEED_SILENCE_S, Progress
from support.processes import Site, wait_until

A, B, C = (UUID(int=number) for number in (1, 2, 3))


def test_the_feed_is_heard_when_that_is_so_of_every_worker() -> None:
    now = [10.0]
    progress = Progress(lambda: now[0], feeds=2)
    progress.in_step(progress.looked_at())
    assert (progress.feed_live, progress.feed_silence_s) == (False, None)
    progress.heard(A, 1)
    progress.heard(A, 2)
    assert (progress.feed_live, progress.feed_silence_s) == (False, None), "there are two feeds, and one was heard"
    now[0] += 1
    progress.heard(B, 1)
    assert (progress.feed_live, progress.feed_silence_s) == (True, 1.0)
    now[0] += FEED_SILENCE_S
    progress.heard(A, 2)
    assert (progress.feed_live, progress.feed_silence_s) == (False, FEED_SILENCE_S)
    assert progress.heard_workers == {A: True, B: False}
    assert progress.lag_ms() == 3_000, "what the silent one has may be lacking since the lake was looked at"


def test_a_worker_of_the_list_that_was_never_heard_is_silent_and_one_that_left_it_is_not() -> None:
    now = [10.0]
    progress = Progress(lambda: now[0], feeds=2)
    for worker in (A, B):
        progress.heard(worker, 1)
    assert progress.feed_live
    progress.expect((A, B, C))
    assert (progress.feed_live, progress.feed_silence_s) == (False, None)
    assert progress.heard_workers == {A: True, B: True, C: False}
    progress.applied({A: 1})
    progress.in_step(progress.looked_at())
    now[0] += 1
    progress.heard(A, 1)
    progress.expect((A,))
    assert (progress.feed_live, progress.feed_silence_s, progress.lag_ms()) == (True, 0.0, 0)


@pytest.fixture
def publishers() -> Iterator[list[zmq.Socket[bytes]]]:
    """Two feeds; XPUB: they see when somebody listens."""
    with ExitStack() as ends:
        context = ends.enter_context(zmq.Context())
        found = [ends.enter_context(context.socket(zmq.XPUB)) for _ in range(2)]
        yield found


def test_one_link_listens_to_all_feeds_and_does_so_again_when_it_was_closed(
    site: Site, publishers: list[zmq.Socket[bytes]]
) -> None:
    endpoints = [f"{site.feed_endpoint}{number}" for number in range(2)]
    for publisher, endpoint in zip(publishers, endpoints, strict=True):
        publisher.setsockopt(zmq.LINGER, 0)
        publisher.bind(endpoint)
    link = FeedLink(", ".join(endpoints))
    try:
        for _ in range(2):
            link.open()
            for number, publisher in enumerate(publishers):
                for _ in range(2):  # a subscription for each topic
                    while not publisher.poll(0):
                        link.poll(0.01)
                    publisher.recv()
                beat = Position(lake=uuid4(), worker=(A, B)[number], accepted=1, durable=1, flushed=1)
                publisher.send_multipart(encode_beat(beat))
            heard: set[UUID] = set()

            def all_are_heard(heard: set[UUID] = heard) -> bool:
                link.poll(0.01)
                heard |= {found.worker for found in link.take() if isinstance(found, Position)}
                return heard == {A, B}

            wait_until(all_are_heard, "both are heard")
            link.close()
            for publisher in publishers:
                for _ in range(2):  # and the end of each
                    assert publisher.poll(20_000)
                    publisher.recv()
    finally:
        link.close()


@pytest.mark.parametrize("where", [b'"status"', b'"unknown"'])
def test_text_that_is_not_utf_8_anywhere_in_a_line_makes_the_span_unreadable(where: bytes) -> None:
    line = b'{"seq":2,"kind":"run.updated","run_event_id":"%s",%s:"\xff"}\n' % (str(uuid4()).encode(), where)
    with pytest.raises(UnreadableLines):
        sort_lines(line, 1, 2)
