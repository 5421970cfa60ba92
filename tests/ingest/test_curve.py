"""With keys, nobody but an allowed client gets anything into a worker, or hears anything of it."""

from __future__ import annotations

import socket
import urllib.request
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
import zmq

from runlake import wire
from runlake.cli.keyfiles import new_pair
from runlake.curve import ClientKeys, ServerKeys
from support.keys import Keys, knocking
from support.processes import Process, Site, wait_until
from support.producer import Producer, payload
from support.samples import events


@pytest.fixture
def keys(site: Site, tmp_path: Path) -> Keys:
    return Keys(site.data, tmp_path / "clients")


def refused(worker: Process) -> dict[str, int]:
    """How many connections were refused, by reason, as the metrics page has it."""
    address = worker.wait_for("ready")["metrics"]
    with urllib.request.urlopen(f"http://{address}/metrics") as page:
        lines = page.read().decode().splitlines()
    name = 'runlake_ingest_refused_connections_total{reason="'
    counts = (line.removeprefix(name).split('"} ') for line in lines if line.startswith(name))
    return {reason: int(float(count)) for reason, count in counts}


def test_an_allowed_client_delivers_pushes_and_hears_the_feed(site: Site, keys: Keys) -> None:
    client = keys.client("agent")
    with (
        site.ingest() as worker,
        knocking(site.feed_endpoint, zmq.SUB, client) as feed,
        knocking(site.push_endpoint, zmq.PUSH, client) as pusher,
        Producer(site.ingest_endpoint, keys=client) as producer,
    ):
        assert feed.let_in()
        assert pusher.let_in()
        assert producer.deliver(events(2)).accepted == 2
        pusher.socket.send(payload(events(1)))
        wait_until(lambda: producer.position().durable == 3, "the push to be taken")
        assert feed.socket.poll(30_000)
        assert sum(refused(worker).values()) == 0


def strangers(keys: Keys) -> dict[str, ClientKeys | None]:
    """Those who are not to get in, by why."""
    known = keys.client("known")
    return {
        "no_curve": None,
        "wrong_server_key": ClientKeys(new_pair().public, known.own),
        "key_not_allowed": keys.client("unknown", allowed=False),
    }


def test_a_stranger_gets_nothing_in_and_hears_nothing(site: Site, keys: Keys) -> None:
    friend = keys.client("friend")
    knocks = 0
    with site.ingest() as worker, Producer(site.ingest_endpoint, keys=friend) as producer:
        for reason, stranger in strangers(keys).items():
            with (
                knocking(site.ingest_endpoint, zmq.DEALER, stranger) as dealer,
                knocking(site.push_endpoint, zmq.PUSH, stranger) as pusher,
                knocking(site.feed_endpoint, zmq.SUB, stranger) as feed,
            ):
                header = wire.Batch(producer="stranger", batch=1, first=1, count=1)
                for knock, frames in (
                    (dealer, [wire.encode_frame(header), payload(events(1))]),
                    (pusher, [payload(events(1))]),
                ):
                    with suppress(zmq.Again):  # the pipe is there as long as the handshake is not over
                        knock.socket.send_multipart(frames, zmq.NOBLOCK)
                assert not dealer.let_in(), reason
                assert not pusher.let_in(), reason
                assert not feed.let_in(), reason
                assert producer.deliver(events(1)).accepted == 1
                assert not feed.socket.poll(0)
                assert not dealer.socket.poll(0)
            knocks += 3
            wait_until(lambda: sum(refused(worker).values()) >= knocks, "the strangers to be counted")  # noqa: B023
        counted = refused(worker)
        assert producer.position().durable == 3
    # A stranger without CURVE, or with another key, may end the connection before the worker sees why.
    assert counted["key_not_allowed"] == 3
    assert counted["wrong_server_key"] == 3
    assert counted["no_curve"] + counted["unfinished"] == 3


def test_refusals_are_counted_and_logged_now_and_then_with_the_key_and_no_secret(site: Site, keys: Keys) -> None:
    friend, stranger = keys.client("friend"), keys.client("stranger", allowed=False)
    with site.ingest("--log-level", "debug") as worker:
        for _ in range(20):
            with knocking(site.ingest_endpoint, zmq.DEALER, stranger) as knock:
                assert not knock.let_in()
        assert refused(worker)["key_not_allowed"] == 20
        line = worker.wait_for("connection_refused")
        assert (line["reason"], line["client_key"], line["count"]) == ("key_not_allowed", stranger.own.public, 1)
        assert sum(line["event"] == "connection_refused" for line in worker.log) <= 3
        with Producer(site.ingest_endpoint, keys=friend) as producer:
            producer.deliver(events(1))
        worker.terminate()
    text = "".join(worker.text)
    assert keys.server.public in text
    for pair in (keys.server, friend.own, stranger.own):
        assert pair.secret not in text


def test_a_key_that_is_allowed_later_gets_in_without_a_restart(site: Site, keys: Keys) -> None:
    late = keys.client("late", allowed=False)
    with site.ingest() as worker:
        with knocking(site.ingest_endpoint, zmq.DEALER, late) as knock:
            assert not knock.let_in()
        keys.allow("late", late.own)
        worker.wait_for("keys_changed")
        with Producer(site.ingest_endpoint, keys=late) as producer:
            assert producer.deliver(events(1)).accepted == 1


def test_a_revoked_client_is_cut_off_and_the_others_come_back(site: Site, keys: Keys) -> None:
    friend, foe = keys.client("friend"), keys.client("foe")
    with site.ingest() as worker, Producer(site.ingest_endpoint, keys=friend) as producer:
        with (
            knocking(site.ingest_endpoint, zmq.DEALER, foe) as dealer,
            knocking(site.push_endpoint, zmq.PUSH, foe) as pusher,
            knocking(site.feed_endpoint, zmq.SUB, foe) as feed,
        ):
            assert dealer.let_in()
            assert pusher.let_in()
            assert feed.let_in()
            assert producer.deliver(events(1)).accepted == 1
            (keys.folder.allowed_folder / "foe.key").unlink()
            assert dealer.cut()
            assert pusher.cut()
            assert feed.cut()
        with knocking(site.ingest_endpoint, zmq.DEALER, foe) as again:
            assert not again.let_in()
        assert worker.wait_for("connections_cut")["count"] == 4
        assert producer.deliver(events(1)).accepted == 1  # ZeroMQ connected it again
        assert producer.position().durable == 2


def test_a_flood_of_strangers_leaves_the_worker_the_descriptors_that_it_needs(site: Site, keys: Keys) -> None:
    friend = keys.client("friend")
    site.prefix = ("prlimit", "--nofile=400:400", "--")
    with site.ingest() as worker, Producer(site.ingest_endpoint, keys=friend) as producer:
        assert producer.deliver(events(1)).accepted == 1
        with ExitStack() as flood:
            for _ in range(500):
                stranger = flood.enter_context(socket.socket(socket.AF_UNIX))
                stranger.settimeout(30)
                stranger.connect(site.ingest_endpoint.removeprefix("ipc://"))
                with suppress(ConnectionResetError):
                    stranger.recv(1)  # it was accepted, and greeted or cut
            wait_until(lambda: refused(worker)["no_room"] > 0, "strangers to be turned away")
            assert producer.deliver(events(1)).accepted == 1
            assert producer.flush().flushed == 2  # which takes files of the lake
        with Producer(site.ingest_endpoint, keys=friend) as late:
            assert late.deliver(events(1)).accepted == 1
        assert worker.terminate() == 0


def test_a_file_that_is_no_key_keeps_nobody_else_out(site: Site, keys: Keys) -> None:
    client = keys.client("agent")
    (keys.folder.allowed_folder / "broken.key").write_text("no key\n")
    (keys.folder.allowed_folder / "folder.key").mkdir()
    with site.ingest() as worker, Producer(site.ingest_endpoint, keys=client) as producer:
        assert "broken.key" in worker.wait_for("key_unusable")["reason"]
        assert producer.deliver(events(1)).accepted == 1


def test_a_pair_that_others_may_read_is_refused(site: Site, keys: Keys) -> None:
    keys.folder.server_secret.chmod(0o644)
    with site.ingest(ready=False) as worker:
        assert worker.wait() == 2
    reason = worker.wait_for("cannot_run")["reason"]
    assert "chmod 600" in reason
    assert str(keys.folder.server_secret) in reason
    assert keys.server.secret not in "".join(worker.text)


def test_without_who_answers_for_keys_nobody_gets_in(tmp_path: Path) -> None:
    """Should the gate's thread ever be missing, CURVE alone would let in everybody who knows the public key."""
    server, client = new_pair(), new_pair()
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.setsockopt(zmq.LINGER, 0)
        ServerKeys(server).apply(router)
        router.bind(f"ipc://{tmp_path}/s")
        with knocking(f"ipc://{tmp_path}/s", zmq.DEALER, ClientKeys(server.public, client)) as knock:
            assert not knock.let_in()
