"""How many events a second become durable, end to end: from `emit` in agent processes to the ack and into the lake."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import msgspec

from benchmarks.figures import figure
from runlake import wire
from support.processes import Site
from support.rawproducer import RawProducer

EMIT = Path(__file__).with_name("emit_flat_out.py")


def run(short: bool) -> None:
    messages = 40_000 if short else 400_000
    for producers in (1, 4):
        _sdk(producers, messages)
    _wire(messages)


def _sdk(producers: int, messages: int) -> None:
    """Agent processes with the SDK, each emitting flat out."""
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder))
        with site.ingest() as ingest:
            each = messages // producers
            agents = [
                subprocess.Popen(
                    [sys.executable, str(EMIT), site.ingest_endpoint, str(each)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
                for _ in range(producers)
            ]
            for agent in agents:
                assert agent.stdout is not None
                assert agent.stdout.readline() == "ready\n"
            begun = perf_counter()
            for agent in agents:
                assert agent.stdin is not None
                agent.stdin.write("go\n")
                agent.stdin.flush()
            books = [msgspec.json.decode(agent.communicate(timeout=300)[0]) for agent in agents]
            acknowledged_s = perf_counter() - begun
            assert sum(book["accepted"] for book in books) == each * producers, books
            with RawProducer(site.ingest_endpoint) as control:
                control.flush()
            stored_s = perf_counter() - begun
            assert ingest.terminate() == 0
        facts = {"producers": producers, "messages": each * producers, "path": "SDK"}
        figure("durable events", each * producers / acknowledged_s, "1/s", **facts)
        figure("events in the lake", each * producers / stored_s, "1/s", **facts)


def _wire(messages: int) -> None:
    """One process that sends batches encoded before: what the worker alone takes."""
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder))
        with site.ingest() as ingest, RawProducer(site.ingest_endpoint) as producer:
            batches = producer.prepare(messages, wire.MAX_BATCH_MESSAGES)
            begun = perf_counter()
            accepted = producer.send_all(batches)
            took = perf_counter() - begun
            assert accepted == messages
            producer.flush()
            assert ingest.terminate() == 0
        figure("durable events", messages / took, "1/s", producers=1, messages=messages, path="wire")
