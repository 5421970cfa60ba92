"""What keys cost on loopback: durable events a second, from one message to its ack, and the making of a connection."""

from __future__ import annotations

import socket
import tempfile
from contextlib import closing
from pathlib import Path
from statistics import median
from time import perf_counter

import zmq

from benchmarks.figures import figure, percentile
from benchmarks.processor import cpu_s
from runlake import wire
from runlake.curve import ClientKeys
from support.keys import Keys, knocking
from support.processes import Site
from support.producer import Producer
from support.rawproducer import RawProducer
from support.samples import events


def run(short: bool) -> None:
    messages, acks, connections = (20_000, 50, 20) if short else (200_000, 500, 100)
    for with_keys in (False, True) if short else (False, True, False, True):
        _measure(messages, acks, connections, with_keys)


def _measure(messages: int, acks: int, connections: int, with_keys: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder))
        keys = Keys(site.data, Path(folder) / "clients").client("producer") if with_keys else None
        site.ingest_endpoint = f"tcp://127.0.0.1:{_free_port()}"
        facts = {"curve": with_keys}
        with site.ingest() as ingest:
            with RawProducer(site.ingest_endpoint, keys) as producer:
                batches = producer.prepare(messages, wire.MAX_BATCH_MESSAGES)
                producer.position()  # connected
                begun, used = perf_counter(), cpu_s(ingest)
                assert producer.send_all(batches) == messages
                took = perf_counter() - begun
                producer.flush()
                used = cpu_s(ingest) - used
            figure("durable events", messages / took, "1/s", **facts, messages=messages, path="wire")
            figure("processor time of the worker", used / messages * 1e6, "us/event", **facts, messages=messages)
            _acks(site.ingest_endpoint, keys, acks, facts)
            _connections(site.ingest_endpoint, keys, connections, facts)
            assert ingest.terminate() == 0


def _acks(endpoint: str, keys: ClientKeys | None, count: int, facts: dict[str, bool]) -> None:
    with Producer(endpoint, keys=keys) as producer:
        producer.deliver(events(1))
        costs = []
        for message in events(count):
            begun = perf_counter()
            producer.deliver([message])
            costs.append((perf_counter() - begun) * 1_000)
    for name, share in (("median", 0.5), ("p99", 0.99)):
        figure(f"message to ack, {name}", percentile(costs, share), "ms", **facts, messages=count)


def _connections(endpoint: str, keys: ClientKeys | None, count: int, facts: dict[str, bool]) -> None:
    costs = []
    for _ in range(count):
        begun = perf_counter()
        with knocking(endpoint, zmq.DEALER, keys) as knock:
            assert knock.let_in()
            costs.append((perf_counter() - begun) * 1_000)
    figure("connection made", median(costs), "ms", **facts, connections=count)


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
