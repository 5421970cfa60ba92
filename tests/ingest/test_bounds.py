"""Bounds of the worker that nothing else would notice: on frames, on what is buffered, on segments, and on the log."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import zmq

from runlake import wire
from runlake.lake.place import LakePlace
from runlake.settings import load
from runlake_ingest import sockets
from runlake_ingest.crashpoints import CrashPoints
from runlake_ingest.lakewriter import LakeWriter
from support.journals import Logged
from support.processes import Site, wait_until
from support.producer import Producer
from support.samples import event


def test_frames_and_what_is_buffered_for_each_peer_are_bounded(tmp_path: Path) -> None:
    names = ("ingest", "push", "feed")
    settings = load({name: f"ipc://{tmp_path}/{name}" for name in names}, {})
    with zmq.Context() as context:
        for socket in (sockets.bind_router(context, settings), sockets.bind_pull(context, settings)):
            assert socket.getsockopt(zmq.MAXMSGSIZE) == wire.MAX_FRAME_BYTES
            assert socket.getsockopt(zmq.RCVHWM) == 2 * settings.credit
            socket.close(linger=0)


def test_a_frame_beyond_the_limit_is_not_taken_and_harms_nobody(site: Site) -> None:
    with site.ingest() as worker, Producer(site.ingest_endpoint) as flooding, Producer(site.ingest_endpoint) as other:
        header = wire.encode_frame(flooding.header(1))
        flooding.send_frames(header, b"\xc1" * (wire.MAX_FRAME_BYTES + 1))
        assert other.deliver([event(1)]).accepted == 1
        assert not flooding.answered(0.3)
        assert worker.terminate() == 0


def test_garbage_does_not_fill_the_log(site: Site) -> None:
    with site.ingest() as worker, Producer(site.ingest_endpoint) as producer:
        for _ in range(200):
            producer.send_frames(b"garbage")
            assert isinstance(producer.reply(), wire.Refused)
        assert worker.terminate() == 0
    said = [line for line in worker.log if line["event"] == "request_refused"]
    assert 1 <= len(said) < 50  # one every ten seconds, on however slow a machine


def test_a_segment_is_sealed_at_64_mib_however_long_the_interval(site: Site) -> None:
    text = "x" * 900_000
    flags = ("--flush-interval-ms", "600000", "--flush-messages", "10000000")
    with site.ingest(*flags) as worker, Producer(site.ingest_endpoint) as producer:
        for number in range(0, 60, 3):
            assert producer.deliver([event(number + at, text=text) for at in range(3)]).accepted == 3
        assert producer.position().flushed == 0
        for number in range(60, 81, 3):
            producer.deliver([event(number + at, text=text) for at in range(3)])
        wait_until(lambda: 60 < producer.position().flushed <= 81, "the first segment is in the lake")
        assert worker.terminate() == 0


def test_p1_a_new_lake_s_catalog_and_storage_are_in_folders_that_were_fsynced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[Path] = set()
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.add(Path(f"/proc/self/fd/{descriptor}").readlink())
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    (tmp_path / "storage" / "lake").mkdir(parents=True)
    place = LakePlace.of_files(tmp_path / "catalogs" / "catalog.sqlite", tmp_path / "storage" / "lake")
    writer = LakeWriter(place, CrashPoints({}), Logged().log)
    writer.open()
    writer.close()
    assert {tmp_path / "catalogs", tmp_path / "storage", tmp_path} <= synced
