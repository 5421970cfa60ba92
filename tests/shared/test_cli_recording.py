"""Recordings: what is written is what was sent, and what is sent again is what was written."""

from __future__ import annotations

from pathlib import Path

import pytest

import runlake
from runlake import wire
from runlake.cli.demo.recording import RecordingEmitter, check_writable, join_recordings, read_recording
from runlake.cli.demo.replay import replay
from runlake.cli.failure import CommandFailed
from support.router import Ledger, Received, Router, ack, ipc


def _record(path: Path, endpoint: str, runs: int) -> None:
    emitter = RecordingEmitter(str(path), endpoint)
    for number in range(runs):
        with runlake.track_run("agent", "job", emitter=emitter, item_name=f"item {number}") as run:
            run.event("odd", {"object": object, "text": "é" * number, "nothing": None})
    assert emitter.flush(30)
    emitter.close()


def _sent(router: Router) -> list[bytes]:
    return [message for received in router.received for message in wire.split_payload(received.payload)]


def test_a_recording_holds_the_very_bytes_that_were_sent(tmp_path: Path) -> None:
    with Router(ipc(tmp_path)) as router:
        _record(tmp_path / "recording", router.endpoint, 300)
        assert read_recording(tmp_path / "recording") == _sent(router)
        assert len(_sent(router)) == 900


def test_a_replay_sends_the_very_bytes_that_were_recorded(tmp_path: Path) -> None:
    with Router(ipc(tmp_path)) as router:
        _record(tmp_path / "recording", router.endpoint, 300)
    messages = read_recording(tmp_path / "recording")
    advanced: list[int] = []
    with Router(ipc(tmp_path, "again")) as router:
        result = replay(router.endpoint, messages, 30, advanced.append)
        assert _sent(router) == messages
        numbers = [received.header.first for received in router.received]
        assert numbers == [1, 501]
    assert (result.accepted, sum(advanced)) == (len(messages), len(messages))


def test_a_batch_of_a_replay_is_within_the_limits_of_the_wire(tmp_path: Path) -> None:
    large = wire.encode_message(_event("x" * 60_000))
    with Router(ipc(tmp_path)) as router:
        replay(router.endpoint, [large] * 20, 30, lambda _: None)
        assert max(len(received.payload) for received in router.received) <= wire.MAX_BATCH_BYTES
        assert sum(received.header.count for received in router.received) == 20


def _event(text: str) -> runlake.RunEvent:
    from datetime import UTC, datetime
    from uuid import uuid4

    return runlake.RunEvent(event_id=uuid4(), run_id="r", ts=datetime.now(UTC), type="t", payload={"text": text})


def test_what_was_not_acknowledged_is_sent_again_in_order(tmp_path: Path) -> None:
    messages = [wire.encode_message(_event(str(number))) for number in range(2_000)]
    ledger = Ledger()
    seen: list[int] = []

    def deaf_for_a_while(received: Received) -> list[wire.Reply | bytes]:
        seen.append(received.header.batch)
        if seen.count(2) == 1:  # from the second batch until it comes again, nothing arrives
            return []
        return [ledger.accept(received)]

    with Router(ipc(tmp_path), deaf_for_a_while) as router:
        result = replay(router.endpoint, messages, 30, lambda _: None, silence_ms=1_000)
    assert [wire.encode_message(message) for message in ledger.messages] == messages
    assert result.accepted == len(messages)


def test_duplicates_and_refusals_are_counted_with_their_reasons(tmp_path: Path) -> None:
    def picky(received: Received) -> list[wire.Reply | bytes]:
        return [ack(received.header, duplicate=[0, 1], rejected=[wire.Rejection(index=2, reason="ts: no", field="ts")])]

    messages = [wire.encode_message(_event(str(number))) for number in range(10)]
    with Router(ipc(tmp_path), picky) as router:
        result = replay(router.endpoint, messages, 30, lambda _: None)
    assert (result.sent, result.accepted, result.duplicates, result.rejected) == (10, 7, 2, 1)
    assert result.reasons == {"ts: no": 1}


def test_a_worker_that_says_nothing_ends_the_replay(tmp_path: Path) -> None:
    with (
        Router(ipc(tmp_path), lambda _: []) as router,
        pytest.raises(CommandFailed, match=r"has not answered for 0\.1 s"),
    ):
        replay(router.endpoint, [wire.encode_message(_event("x"))], 0.1, lambda _: None, silence_ms=50)


def test_a_worker_of_another_version_ends_the_replay(tmp_path: Path) -> None:
    with (
        Router(ipc(tmp_path), lambda _: [wire.Refused(reason="Wire version 1 is not spoken here")]) as router,
        pytest.raises(CommandFailed, match="Wire version 1 is not spoken here"),
    ):
        replay(router.endpoint, [wire.encode_message(_event("x"))], 30, lambda _: None)


def test_an_empty_recording_is_sent_at_once(tmp_path: Path) -> None:
    assert replay(ipc(tmp_path), [], 30, lambda _: None).sent == 0


def test_recordings_are_joined_in_order_and_removed(tmp_path: Path) -> None:
    with Router(ipc(tmp_path)) as router:
        for name in ("a", "b"):
            _record(tmp_path / name, router.endpoint, 2)
    parts = [tmp_path / "a", tmp_path / "b"]
    messages = [message for part in parts for message in read_recording(part)]
    assert join_recordings(parts, tmp_path / "whole") == len(messages)
    assert read_recording(tmp_path / "whole") == messages
    assert not any(part.exists() for part in parts)


@pytest.mark.parametrize("content", [b"", b"something else", b"RunLake recording 1\n\x00\x00\x00\x05abc"])
def test_a_file_that_is_no_whole_recording_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(CommandFailed, match=r"is no recording|is damaged, or cut off"):
        read_recording(tmp_path / "file")


def test_a_file_that_cannot_be_written_is_named_before_any_agent_starts(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="cannot be written: No such file or directory"):
        check_writable(tmp_path / "missing" / "work.rec")
