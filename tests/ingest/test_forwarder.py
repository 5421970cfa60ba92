"""What is pushed to a worker whose it is not, while the list of workers goes on."""

from __future__ import annotations

from ingest.test_worker_list import OFTEN, id_of, seen_once
from support.producer import payload, push
from support.samples import events
from support.waiting import eventually
from support.workers import Workers


def test_what_is_pushed_reaches_its_home_when_all_that_were_listed_at_first_are_gone(workers: Workers) -> None:
    a, b, c = (workers.site(name) for name in "abc")
    with a.ingest(*OFTEN) as first, c.ingest(*OFTEN) as third:
        third.wait_for("worker_not_listed")
        push(c.push_endpoint, payload(events(3)))
        eventually(lambda: seen_once(workers) == 3)
        with b.ingest(*OFTEN) as second:
            assert workers.change("add", str(id_of(second))) == 2
            assert workers.change("remove", str(id_of(first))) == 3
            assert first.terminate() == 0
            push(c.push_endpoint, payload(events(4, first=10)))
            eventually(lambda: seen_once(workers) == 7)
            assert {worker for (worker,) in workers.rows("SELECT worker FROM {lake}.events WHERE seq > 4")} == {
                id_of(second)
            }
            for process in (second, third):
                assert process.terminate() == 0
