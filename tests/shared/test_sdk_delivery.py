"""The emitter and its sender against a real ROUTER: batches, acknowledgements, order, credit."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterable
from pathlib import Path

import pytest

from runlake import wire
from runlake.emitter import Emitter
from support.emitting import event, numbers
from support.router import Die, Ledger, Received, Router, Script, accept, ack, ipc
from support.waiting import eventually

Replies = Iterable[wire.Reply | bytes]


def test_emitted_messages_arrive_in_order_and_are_acknowledged(tmp_path: Path) -> None:
    with Router(ipc(tmp_path)) as router:
        emitter = Emitter(router.endpoint)
        for number in range(3_000):
            emitter.emit(event(number))
        assert emitter.flush()
        assert numbers(router.messages) == list(range(3_000))
        stats = emitter.stats()
        assert (stats.emitted, stats.sent, stats.acknowledged, stats.accepted) == (3_000, 3_000, 3_000, 3_000)
        assert (stats.queued, stats.dropped, stats.reconnects, stats.connected) == (0, {}, 0, True)
        assert emitter.close()


def test_batches_keep_the_limits_and_number_their_messages_without_gaps(tmp_path: Path) -> None:
    with Router(ipc(tmp_path)) as router:
        emitter = Emitter(router.endpoint, interval_ms=1_000)
        for number in range(1_200):
            emitter.emit(event(number))
        for number in range(1_200, 1_260):
            emitter.emit(event(number, text="x" * 20_000))
        emitter.emit(event(1_260, text="x" * 400_000))  # larger than a batch should be: it goes alone
        assert emitter.flush()
        assert emitter.close()
        headers = [received.header for received in router.received]
        assert [header.batch for header in headers] == list(range(1, len(headers) + 1))
        assert max(header.count for header in headers) == wire.MAX_BATCH_MESSAGES
        first = 1
        for header, payload in router.received:
            assert header.first == first
            assert header.producer == emitter.stats().producer
            assert header.count == len(wire.split_payload(payload)) <= wire.MAX_BATCH_MESSAGES
            assert len(payload) <= wire.MAX_BATCH_BYTES or header.count == 1
            first += header.count
        assert first == 1_262


def test_a_worker_that_comes_later_gets_everything(tmp_path: Path) -> None:
    emitter = Emitter(ipc(tmp_path))
    for number in range(1_000):
        emitter.emit(event(number))
    assert not emitter.flush(0.1)
    assert emitter.stats().queued == 1_000
    with Router(ipc(tmp_path)) as router:
        assert emitter.flush()
        assert numbers(router.messages) == list(range(1_000))
        assert emitter.close()


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("transport", ["ipc", "tcp"])
def test_order_survives_workers_that_die_at_any_moment(tmp_path: Path, seed: int, transport: str) -> None:
    chance = random.Random(seed)
    ledger = Ledger()

    def script(received: Received) -> Replies:
        fate = chance.random()
        if fate < 0.15:
            raise Die  # before it is on disk
        reply = ledger.accept(received)
        if fate < 0.3:
            raise Die  # on disk, not acknowledged
        return [reply]

    total = 4_000
    endpoint = ipc(tmp_path) if transport == "ipc" else "tcp://127.0.0.1:*"
    with Router(endpoint, script) as router:
        emitter = Emitter(router.endpoint, interval_ms=1, ack_timeout_s=0.5)
        number = 0
        while number < total:
            for _ in range(min(chance.randint(1, 200), total - number)):
                emitter.emit(event(number))
                number += 1
            if chance.random() < 0.3:
                emitter.flush(0.02)
        assert emitter.flush(30)
        assert emitter.close()
        stats = emitter.stats()
        assert numbers(ledger.messages) == list(range(total)), f"seed {seed}"
        assert (stats.acknowledged, stats.accepted + stats.duplicates) == (total, total)
        assert stats.reconnects > 0


def test_a_batch_is_sent_again_with_the_same_bytes_when_no_answer_comes(tmp_path: Path) -> None:
    silent = 3

    def script(received: Received) -> Replies:
        nonlocal silent
        if silent > 0:
            silent -= 1
            return []
        return [ack(received.header)]

    with Router(ipc(tmp_path), script) as router:
        emitter = Emitter(router.endpoint, ack_timeout_s=0.3)
        emitter.emit(event(1))
        assert emitter.flush()
        assert len(router.received) == 4
        assert len({(wire.encode_frame(header), payload) for header, payload in router.received}) == 1
        assert emitter.stats().reconnects == 3
        assert emitter.close()


def test_answers_that_keep_coming_hold_off_the_timeout(tmp_path: Path) -> None:
    held: list[Received] = []

    def script(received: Received) -> Replies:
        held.append(received)  # always one behind
        return [ack(held[-2].header, credit=2)] if len(held) > 1 else []

    with Router(ipc(tmp_path), script) as router:
        emitter = Emitter(router.endpoint, ack_timeout_s=5, interval_ms=1)
        for number in range(20):
            emitter.emit(event(number))
            eventually(lambda: len(router.received) > number)  # noqa: B023 (used up before the next turn)
        eventually(lambda: emitter.stats().acknowledged == 19)
        assert emitter.stats().reconnects == 0
        emitter.close(0)


def test_no_more_batches_are_in_flight_than_the_worker_allows(tmp_path: Path) -> None:
    held: list[wire.Batch] = []
    most = 0
    go = threading.Event()

    def script(received: Received) -> Replies:
        nonlocal most
        header = received.header
        if header.batch == 1:
            return [ack(header, credit=3)]
        held.append(header)
        most = max(most, len(held))
        if not go.is_set() and header.batch < 4:
            return []
        go.set()
        answered, held[:] = held[:], []
        return [ack(answer, credit=3) for answer in answered]

    with Router(ipc(tmp_path), script) as router:
        emitter = Emitter(router.endpoint, max_in_flight=16)
        emitter.emit(event(0))
        assert emitter.flush()
        for number in range(1, 20_000):
            emitter.emit(event(number))
        assert go.wait(10)
        assert emitter.flush()
        assert most == 3
        assert numbers(router.messages) == list(range(20_000))
        assert emitter.close()


@pytest.mark.parametrize(("credit", "allowed"), [(0, 1), (1, 1), (3, 3), (7, 7), (8, 8), (100, 8)])
def test_a_worker_that_is_silent_has_as_many_batches_as_it_allowed(tmp_path: Path, credit: int, allowed: int) -> None:
    def script(received: Received) -> Replies:
        return [ack(received.header, credit=credit)] if received.header.batch == 1 else []

    with Router(ipc(tmp_path), script) as router:
        emitter = Emitter(router.endpoint, max_in_flight=8)
        emitter.emit(event(0))
        assert emitter.flush()
        for number in range(1, 10_000):
            emitter.emit(event(number))
        eventually(lambda: len(router.received) >= 1 + allowed)
        assert not emitter.flush(0.1)
        assert len(router.received) == 1 + allowed
        emitter.close(0)


def test_the_emitters_own_limit_holds_when_the_worker_allows_more(tmp_path: Path) -> None:
    with Router(ipc(tmp_path), lambda received: []) as router:
        emitter = Emitter(router.endpoint, max_in_flight=2)
        for number in range(5_000):
            emitter.emit(event(number))
        eventually(lambda: len(router.received) == 2)
        assert not emitter.flush(0.1)
        assert len(router.received) == 2
        emitter.close(0)


def test_answers_in_another_order_settle_what_they_name(tmp_path: Path) -> None:
    held: list[wire.Batch] = []

    def script(received: Received) -> Replies:
        if received.header.batch == 1:
            return [ack(received.header)]
        held.append(received.header)
        if sum(header.count for header in held) < 1_500 and len(held) % 16:  # so many may be in flight
            return []
        return [ack(header) for header in reversed(held)]  # those before once more, which changes nothing

    with Router(ipc(tmp_path), script) as router:
        emitter = Emitter(router.endpoint)
        emitter.emit(event())
        assert emitter.flush()
        for _ in range(1_500):
            emitter.emit(event())
        assert emitter.flush()
        assert emitter.stats().accepted == 1_501
        assert len(held) >= 3
        assert len(router.received) == 1 + len(held)
        assert emitter.close()


def test_flush_waits_for_the_oldest_message_also_when_later_ones_are_acknowledged(tmp_path: Path) -> None:
    def script(received: Received) -> Replies:
        return [] if received.header.batch == 1 else [ack(received.header)]

    with Router(ipc(tmp_path), script) as router:
        emitter = Emitter(router.endpoint, interval_ms=1)
        emitter.emit(event(1))
        eventually(lambda: len(router.received) == 1)
        emitter.emit(event(2))
        eventually(lambda: emitter.stats().acknowledged == 1)
        assert not emitter.flush(0.05)
        emitter.close(0)
        stats = emitter.stats()
        assert (stats.acknowledged, stats.queued, stats.dropped) == (1, 1, {})


def test_unknown_and_repeated_answers_change_nothing(tmp_path: Path) -> None:
    def script(received: Received) -> Replies:
        known = ack(received.header)
        stray = wire.Batch(producer="p", batch=10_000, first=1, count=1)
        return [ack(stray), known, known, wire.Refused(reason="late", batch=10_001)]

    with Router(ipc(tmp_path), script) as router:
        emitter = Emitter(router.endpoint)
        for number in range(3):
            emitter.emit(event(number))
            assert emitter.flush()
        stats = emitter.stats()
        assert (stats.acknowledged, stats.accepted, stats.rejected, stats.reconnects) == (3, 3, 0, 0)
        assert emitter.close()


def test_duplicates_and_rejections_are_counted_and_the_last_reasons_kept(tmp_path: Path) -> None:
    def script(received: Received) -> Replies:
        last = received.header.count - 1
        return [
            ack(
                received.header,
                duplicate=[0],
                rejected=[wire.Rejection(index=last, reason="ts: is too late", field="ts")],
            )
        ]

    with Router(ipc(tmp_path), script) as router:
        emitter = Emitter(router.endpoint, interval_ms=200)
        for number in range(10):
            emitter.emit(event(number))
        assert emitter.flush()
        stats = emitter.stats()
        batches = len(router.received)
        assert (stats.accepted, stats.duplicates, stats.rejected) == (10 - 2 * batches, batches, batches)
        assert stats.last_rejections[-1].number == 10
        assert stats.last_rejections[-1].reason == "ts: is too late"
        assert stats.last_rejections[-1].field == "ts"
        assert emitter.close()


def test_a_refused_batch_is_counted_as_rejected_and_the_next_goes_on(tmp_path: Path) -> None:
    def script(received: Received) -> Replies:
        if received.header.batch == 1:
            return [wire.Refused(reason="The count is wrong", batch=1)]
        return [ack(received.header)]

    with Router(ipc(tmp_path), script) as router:
        emitter = Emitter(router.endpoint)
        emitter.emit(event(1))
        assert emitter.flush()
        emitter.emit(event(2))
        assert emitter.flush()
        stats = emitter.stats()
        assert (stats.rejected, stats.accepted, stats.acknowledged) == (1, 1, 2)
        assert stats.last_rejections[0].reason == "The count is wrong"
        assert router.received[1].header.first == 2
        assert emitter.close()


def test_an_answer_that_makes_no_sense_is_counted_and_the_batch_sent_again(tmp_path: Path) -> None:
    asked = 0

    def script(received: Received) -> Replies:
        nonlocal asked
        asked += 1
        return [b"\xc1 nonsense"] if asked < 3 else [ack(received.header)]

    with Router(ipc(tmp_path), script) as router:
        emitter = Emitter(router.endpoint, ack_timeout_s=0.5)
        emitter.emit(event(1))
        assert emitter.flush()
        stats = emitter.stats()
        assert (stats.protocol_errors, stats.accepted, stats.reconnects) == (2, 1, 2)
        assert emitter.close()


def test_an_endpoint_that_cannot_be_one_costs_nothing_but_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    emitter = Emitter("carrier pigeon")
    emitter.emit(event(1))
    eventually(lambda: any("carrier pigeon" in record.message for record in caplog.records))
    assert not emitter.close(0)
    assert (emitter.stats().queued, emitter.stats().dropped) == (1, {})


def test_many_threads_emit_into_one_emitter_and_nothing_is_lost(tmp_path: Path) -> None:
    with Router(ipc(tmp_path)) as router:
        emitter = Emitter(router.endpoint)

        def work(base: int) -> None:
            for number in range(base, base + 2_000):
                emitter.emit(event(number))

        threads = [threading.Thread(target=work, args=(base,)) for base in range(0, 16_000, 2_000)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert emitter.flush()
        arrived = numbers(router.messages)
        assert sorted(arrived) == list(range(16_000))
        for base in range(0, 16_000, 2_000):
            assert [number for number in arrived if base <= number < base + 2_000] == list(range(base, base + 2_000))
        assert emitter.stats().emitted == emitter.stats().accepted == 16_000
        assert emitter.close()


def test_the_default_script_accepts(tmp_path: Path) -> None:
    script: Script = accept
    with Router(ipc(tmp_path), script) as router:
        emitter = Emitter(router.endpoint)
        emitter.emit(event())
        assert emitter.close()
        assert len(router.messages) == 1
