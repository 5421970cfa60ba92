"""The world of one fault test: a worker, a query process and producers on a disk and a clock that can fail, and the
oracle that looks at it when all has healed."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.request import urlopen
from uuid import UUID

import msgspec
import zmq

from faults.faultlayer import FaultLayer
from faults.oracle import LakeFacts, judge, lake_facts, read_facts
from runlake import wire
from runlake.lake.attach import read_lake
from runlake.lake.place import CatalogAddress, LakePlace
from support.postgres import Postgres
from support.processes import Process, Site, wait_until

SCRIPT = Path(__file__).with_name("emit_events.py")
DEADLINE_S = 200.0
_EMIT_AT_MOST = 40
_TOLD_LINES = 30


class World:
    """Use as a context manager: no process of it outlives the block."""

    def __init__(
        self,
        folder: Path,
        library: Path,
        dice: random.Random,
        *flags: str,
        power: bool = False,
        long: bool = False,
        postgres: Postgres | None = None,
    ) -> None:
        """With `postgres` the catalog is in a new database of that server."""
        disk = folder / "disk"
        self.site = Site(disk)
        self.dice = dice
        self.long = long
        self.flags = flags
        self.layer = FaultLayer(library, disk, folder / "beside", power=power)
        self.site.env = self.layer.env
        self.postgres = postgres
        self._database = postgres.create_database() if postgres is not None else ""
        if postgres is not None:
            self.site.env = self.site.env | {"RUNLAKE_CATALOG": self._database}
        self.messages = 0
        """How many were emitted so far; all are to be in the lake at the end of a round."""
        self.acknowledged = 0
        """How many the producers that have ended were told to be on disk."""
        self.ingest: Process | None = None
        self.query: Process | None = None
        self._processes: dict[str, list[Process]] = {"ingest": [], "query": []}
        self._said_by_producers = ""
        self._producers: list[subprocess.Popen[str]] = []
        self._runs = self._emitted_last = 0

    # What runs

    def start_ingest(self, *, crash_at: str = "", ready: bool = True) -> Process:
        self.ingest = self.site.ingest(*self.flags, crash_at=crash_at, ready=False)
        self._processes["ingest"].append(self.ingest)
        if ready:
            self.ingest.wait_for("ready")
        return self.ingest

    def start_query(self, *, ready: bool = True) -> Process:
        """Start the query process; by default wait until it has caught up."""
        self.query = self.site.query_process()
        self._processes["query"].append(self.query)
        if ready:
            self.query.wait_for("caught_up")
        return self.query

    def emit(self, messages: int, producers: int = 2, endpoint: str | None = None) -> None:
        """Let so many producers emit so many messages, taken together, to the worker or another endpoint."""
        each = messages // producers
        for _ in range(producers):
            self._runs += 1
            where = endpoint or self.site.ingest_endpoint
            command = [sys.executable, str(SCRIPT), where, f"run-{self._runs}", str(each)]
            self._producers.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        self._emitted_last = each * producers
        self.messages += self._emitted_last

    def count_sent(self, messages: int, accepted: int) -> None:
        """Count what was sent by other means than `emit`, and answered."""
        self.messages += messages
        self.acknowledged += accepted

    def begin(self, messages: int) -> None:
        """A round begins: all is well, and producers emit."""
        self.start_ingest()
        self.start_query()
        if messages:
            self.emit(messages)

    def midway(self) -> None:
        """Wait until some of what was emitted last is accepted."""
        least = self.messages - round(self._emitted_last * self.dice.uniform(0.3, 0.9))
        wait_until(lambda: accepted(self.site) >= least, f"position {least}", DEADLINE_S)

    def emit_until(self, condition: Callable[[], bool], what: str) -> None:
        """Emit a little again and again, until it has come about."""
        for _ in range(_EMIT_AT_MOST):
            self.emit(500, producers=1)
            emitted = self.messages
            wait_until(lambda: condition() or position(self.site).durable >= emitted, what, DEADLINE_S)  # noqa: B023
            if condition():
                return
        raise AssertionError(f"not within {_EMIT_AT_MOST} times: {what}")

    @property
    def catalog(self) -> str:
        """Of which kind the catalog is."""
        return "SQLite" if self.postgres is None else "PostgreSQL"

    # What they say

    def fits(self, fault: Fault) -> bool:
        """Whether the fault can strike this world."""
        return fault.needs in ("", "file" if self.postgres is None else "postgres")

    def strike(self, fault: Fault) -> None:
        """Strike, and see that it is told."""
        before = self._told(fault.said)
        fault.strike(self)
        wait_until(lambda: is_told(fault.said, self._told(fault.said), before), f"{fault.said} is told", DEADLINE_S)

    def _told(self, said: Said) -> list[str]:
        """All that was told so far where a fault of this kind is: events, words, or so many times a dot."""
        match said.of:
            case "producer":
                return self._said_by_producers.splitlines()
            case "metrics":
                return ["."] * int(self.metric(said.first))
            case of:
                return [line.get("event", "") for process in self._processes[of] for line in process.log]

    def metric(self, name: str) -> float:
        """A counter of the worker's metrics page."""
        assert self.ingest is not None
        self.ingest.wait_for("ready")
        *_, address = (line["metrics"] for line in self.ingest.log if line.get("event") == "ready")  # of its last start
        with urlopen(f"http://{address}/metrics", timeout=DEADLINE_S) as page:
            lines = [line.split() for line in page.read().decode().splitlines()]
        (value,) = (line[1] for line in lines if line[:1] == [name])
        return float(value)

    # What must be true in the end

    def finish(self) -> None:
        """A round's end, after the faults have healed: `settle`, and then the lake holds each message once."""
        self.settle()
        judge(self.facts(), self.messages)

    def settle(self) -> None:
        """Every producer is told that all of its messages are on disk, and `runlake verify` finds nothing wrong. Stops
        all."""
        self.finish_producers()
        report = self.verify()
        assert report["wrong"] == 0, report
        assert compared(report), report
        assert self.query is not None
        assert self.query.terminate() == 0
        self.stop_ingest()

    def finish_producers(self) -> None:
        """Wait until every producer is told that all of its messages are on disk."""
        producers, self._producers = self._producers, []
        for producer in producers:
            acknowledged, said = finish_producer(producer)
            self.acknowledged += acknowledged
            self._said_by_producers += said

    def stop_ingest(self) -> None:
        """A clean stop, after which nothing is left in the journal."""
        assert self.ingest is not None
        assert self.ingest.terminate() == 0
        assert list((self.site.data / "ingest" / "journal").iterdir()) == []

    def facts(self) -> LakeFacts:
        if not self._database:
            return lake_facts(self.site.catalog)
        with read_lake(LakePlace(CatalogAddress(self._database), f"{self.site.data}/lake/")) as connection:
            return read_facts(connection)

    def verify(self) -> dict[str, Any]:
        """The report of `runlake verify`, beside the running processes."""
        assert self.query is not None
        return verify(self.site, "--http", self.query.wait_for("listening")["http"])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._tell()
        for producer in self._producers:
            producer.kill()
            producer.communicate()
        for process in (self.ingest, self.query):
            if process is not None:
                with process:
                    pass
        if self.postgres is not None:
            self.postgres.drop_database(self._database)

    def _tell(self) -> None:
        """Print the end of what each process that ran last has logged."""
        for of, processes in self._processes.items():
            for process in processes[-1:]:
                print(f"{of}, {'ended' if process.ended else 'running'}:\n{''.join(process.text[-_TOLD_LINES:])}")

    def forget_read_model(self) -> None:
        shutil.rmtree(self.site.data / "query", ignore_errors=True)


class Said(NamedTuple):
    """What must be told of a fault: by which processes, and there these events (`a|b`: one of them), in this order. Of
    "producer" these are words of its log; of "metrics" they are counters of the worker that must rise."""

    of: str
    first: str
    then: str = ""


class Fault(NamedTuple):
    strike: Callable[[World], None]
    said: Said
    needs: str = ""
    """What the catalog must be: a "file", in "postgres", or "": either."""


def verify(site: Site, *flags: str) -> dict[str, Any]:
    """The report of `runlake verify` on a site."""
    catalog = {name: value for name, value in site.env.items() if name.startswith("RUNLAKE_")}
    done = subprocess.run(
        [sys.executable, "-m", "runlake.cli", "verify", "--json", "--data", str(site.data), "--ingest",
         site.ingest_endpoint, *flags],
        capture_output=True, text=True, timeout=DEADLINE_S, check=False, env=os.environ | catalog,
    )  # fmt: skip
    assert done.stdout, done.stderr
    return msgspec.json.decode(done.stdout, type=dict[str, Any])


def compared(report: dict[str, Any]) -> bool:
    """Whether the read model could be asked, and was compared with the fold."""
    (model,) = (check for check in report["checks"] if check["name"] == "read model")
    return bool(model["looked_at"].endswith(" runs"))


def is_told(said: Said, now: list[str], before: list[str]) -> bool:
    """Whether what a fault has to be told by came, since so much had been told."""
    news = iter(now[len(before) :])
    if said.of == "metrics":
        return len(now) > len(before)
    if said.of == "producer":
        return any(said.first in line for line in news)
    return all(any(told in wanted.split("|") for told in news) for wanted in (said.first, said.then) if wanted)


def finish_producers(producers: list[subprocess.Popen[str]]) -> int:
    """Every producer says that all it emitted was acknowledged, and that it dropped and was refused nothing. Returns
    how many were acknowledged."""
    return sum(finish_producer(producer)[0] for producer in producers)


def finish_producer(producer: subprocess.Popen[str]) -> tuple[int, str]:
    """As `finish_producers`, of one; returns how many were acknowledged, and what it logged where that is a pipe."""
    said, logged = producer.communicate(timeout=DEADLINE_S + 10)
    books = msgspec.json.decode(said)
    stats = books["stats"]
    assert books["delivered"], books
    assert stats["emitted"] == stats["acknowledged"], books
    assert stats["dropped"] == {} and stats["rejected"] == 0, books
    return stats["acknowledged"], logged or ""


def accepted(site: Site) -> int:
    """The worker's accepted position; 0 while it does not answer."""
    return position(site).accepted


def position(site: Site) -> wire.Position:
    """How far the worker is; nowhere while it does not answer."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        socket.connect(site.ingest_endpoint)
        socket.send(wire.encode_frame(wire.PositionRequest()))
        if not socket.poll(1_000):
            return wire.Position(lake=UUID(int=0), worker=UUID(int=0), accepted=0, durable=0, flushed=0)
        reply = wire.decode_reply(socket.recv())
    assert isinstance(reply, wire.Position)
    return reply


class Ear:
    """What a process logs from now on, or since its start."""

    def __init__(self, process: Process | None, *, past: bool = False) -> None:
        assert process is not None
        self._process = process
        self._from = 0 if past else len(process.log)

    def hears(self, event: str) -> dict[str, Any] | None:
        """The first line of this event, if there is one."""
        return next((line for line in self._process.log[self._from :] if line.get("event") == event), None)

    def wait_for(self, event: str) -> dict[str, Any]:
        wait_until(lambda: self.hears(event) is not None, f"{event!r} in the log", DEADLINE_S)
        line = self.hears(event)
        assert line is not None
        return line


def kill(process: Process | None) -> None:
    """`kill -9`, whether or not it has ended by itself."""
    if process is not None:
        with suppress(ProcessLookupError):
            process.kill()
