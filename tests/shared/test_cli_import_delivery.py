"""An import's delivery to several workers: each message to its home, and one answer for each batch."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from runlake import wire
from runlake.cli.failure import CommandFailed
from runlake.cli.import_delivery import ImportDelivery
from support.emitting import event, numbers
from support.homeworkers import Workers
from support.router import Received, Router, ack, ipc


def encoded(count: int) -> list[bytes]:
    return [wire.encode_message(replace(event(number), run_id=f"run-{number % 20}")) for number in range(count)]


def batches(messages: list[bytes]) -> list[list[bytes]]:
    return [messages[start : start + 100] for start in range(0, len(messages), 100)]


def test_each_message_goes_to_its_home_and_a_batch_is_answered_as_a_whole_and_in_order(tmp_path: Path) -> None:
    heard: list[tuple[int, wire.Ack]] = []
    sent = batches(encoded(3_000))
    with Workers(tmp_path, 3) as workers:
        endpoints = f"{ipc(tmp_path, 'nobody')},{workers.all[1].endpoint}"
        with ImportDelivery(endpoints, "import-1", 10) as delivery:
            for number, batch in enumerate(sent):
                delivery.send(batch, lambda ack, number=number: heard.append((number, ack)))  # type: ignore[misc]
            delivery.finish()
        with ImportDelivery(endpoints, "import-2", 10) as again:
            again.send(sent[0], lambda ack: heard.append((99, ack)))
            again.finish()
    assert [number for number, _ in heard] == [*range(30), 99]
    assert [ack.accepted for _, ack in heard] == [100] * 30 + [0]
    assert sorted(heard[-1][1].duplicate) == list(range(100))
    for worker in workers.all:
        assert worker.messages and worker.refused == 0
        assert all(worker.is_home(message) for message in worker.messages)
        assert numbers(worker.messages) == sorted(numbers(worker.messages))
    assert (sorted(numbers(workers.messages)), workers.gaps) == (list(range(3_000)), 0)


def test_a_refused_message_has_its_place_in_the_batch_whichever_worker_refused_it(tmp_path: Path) -> None:
    heard: list[wire.Ack] = []
    messages = encoded(40)

    def picky(received: Received) -> list[wire.Reply | bytes]:
        wrong = [index for index, message in enumerate(received.messages) if numbers([message])[0] % 10 == 7]
        return [ack(received.header, rejected=[wire.Rejection(index=index, reason="no") for index in wrong])]

    with Workers(tmp_path, 2) as workers:
        for worker in workers.all:
            worker.stop()
        with (
            Router(workers.all[0].endpoint, picky, workers.all[0].known),
            Router(workers.all[1].endpoint, picky, workers.all[0].known),
            ImportDelivery(workers.endpoints, "import", 10) as delivery,
        ):
            delivery.send(messages, heard.append)
            delivery.finish()
    assert [answer.accepted for answer in heard] == [36]
    assert sorted(rejection.index for rejection in heard[0].rejected) == [7, 17, 27, 37]


def test_a_list_that_changes_meanwhile_ends_it_and_what_was_answered_is_known(tmp_path: Path) -> None:
    heard: list[wire.Ack] = []
    sent = batches(encoded(400))
    with Workers(tmp_path, 3) as workers, ImportDelivery(workers.endpoints, "import", 10) as delivery:
        delivery.send(sent[0], heard.append)
        delivery.finish()
        workers.change(workers.all[:2])
        with pytest.raises(CommandFailed, match="list of workers has changed"):
            for batch in sent[1:]:
                delivery.send(batch, heard.append)
            delivery.finish()
        assert [answer.accepted for answer in heard] == [100]


def test_a_worker_of_several_that_is_away_is_named(tmp_path: Path) -> None:
    with Workers(tmp_path, 3) as workers, ImportDelivery(workers.endpoints, "import", 0.5) as delivery:
        workers.all[2].stop()
        with pytest.raises(CommandFailed, match=rf"{workers.all[2].endpoint} has not answered for 0\.5 s"):
            delivery.send(encoded(200), lambda _: None)
            delivery.finish()
