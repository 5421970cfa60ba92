"""A cluster for tests: workers and query processes with data folders of their own, HAProxy before the query processes,
one catalog in PostgreSQL and one storage in S3.

Without a network, workers talk over Unix sockets and the rest over loopback. With one, each process is on a host of its
own, and nothing between hosts runs open: CURVE keys, a token.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from runlake.lake.place import CatalogAddress, LakePlace
from support.api import Api, Reply
from support.haproxy import HAProxy
from support.network import Host, Network
from support.postgres import free_port
from support.processes import Process, wait_until

LOOPBACK = "127.0.0.1"
_READY_S = 90.0


class Node:
    """One process of the cluster, and the host that it is on."""

    serves = ""
    """What it logs once it serves."""

    def __init__(self, name: str, begin: Callable[[], Process], host: Host | None, log: Path) -> None:
        self.name = name
        self._log = log
        self.host = host
        self.env: dict[str, str] = {}
        """More variables for this one alone, from its next start on."""
        self._begin = begin
        self._process: Process | None = None

    @property
    def process(self) -> Process:
        assert self._process is not None, f"{self.name} was not started"
        return self._process

    def start(self) -> Process:
        """Start it, and wait for nothing."""
        self._process = self._begin()
        return self._process

    def wait(self) -> None:
        """Until it serves."""
        self.process.wait_for(self.serves, _READY_S)

    def kill(self) -> None:
        """`kill -9`."""
        self.process.kill()

    def terminate(self) -> None:
        """End it as a supervisor does."""
        assert self.process.terminate() == 0, "".join(self.process.text[-20:])

    def freeze(self) -> None:
        self.process.send(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send(signal.SIGCONT)

    def cut(self) -> None:
        """Pull the cable of its host."""
        assert self.host is not None, "a cluster without a network has no cables"
        self.host.cut()

    def mend(self) -> None:
        assert self.host is not None
        self.host.mend()

    def close(self) -> None:
        """End it; what it logged last is in a file of its name."""
        if self._process is not None:
            with self._process:
                pass
            self._log.write_text("".join(self._process.text), "utf-8")


class Worker(Node):
    serves = "ready"

    def __init__(
        self, name: str, begin: Callable[[], Process], host: Host | None, log: Path, endpoint: str, feed: str,
        data: Path,
    ) -> None:  # fmt: skip
        super().__init__(name, begin, host, log)
        self.endpoint = endpoint
        self.feed = feed
        self.data = data

    @property
    def id(self) -> str:
        return str(self.process.wait_for("ready", _READY_S)["worker"])


class Query(Node):
    serves = "caught_up"

    def __init__(self, name: str, begin: Callable[[], Process], host: Host | None, log: Path, address: str) -> None:
        super().__init__(name, begin, host, log)
        self.address = address

    @property
    def url(self) -> str:
        return f"http://{self.address}"


class Cluster:
    """Use as a context manager: then all of it serves, and every worker is on the list.

    `variables`: for every process, among them those of the storage. `flags`: for the workers.
    """

    def __init__(
        self,
        folder: Path,
        catalog: str,
        storage: str,
        variables: Mapping[str, str],
        *flags: str,
        workers: int = 3,
        queries: int = 3,
        network: Network | None = None,
    ) -> None:
        self.folder = folder
        self.place = LakePlace(CatalogAddress(catalog), storage)
        self.token = secrets.token_hex(16)
        self.lake_env = {"RUNLAKE_CATALOG": catalog, "RUNLAKE_STORAGE": storage, **variables}
        """For whoever reads or writes the lake."""
        self._flags = flags
        self._network = network
        self._sockets = folder / "s"
        self._sockets.mkdir(parents=True)
        self._keys = folder / "keys"
        self.client_env: dict[str, str] = {}
        """For whoever connects to workers."""
        if network is not None:
            self._make_keys()
        self.workers: list[Worker] = []
        self.queries: list[Query] = []
        for _ in range(workers):
            self.add_worker()
        for _ in range(queries):
            self.add_query()
        host = network.add_host() if network is not None else None
        self.agents_prefix = host.prefix if host is not None else ()
        """What starts a process on the host of the agents, where HAProxy is too."""
        address = f"{host.address}:8080" if host is not None else f"{LOOPBACK}:{free_port()}"
        tokens = {"RUNLAKE_READ_TOKEN": self.token}
        servers = [query.address for query in self.queries]
        self.haproxy = HAProxy(folder, address, servers, tokens, self.agents_prefix)

    # What it is made of

    def add_worker(self, number: int | None = None) -> Worker:
        """One more, which is neither started nor on the list; by default it has the next number."""
        number = number or len(self.workers) + 1
        host = self._network.add_host() if self._network is not None else None
        sockets = [
            f"tcp://{host.address}:{port}" if host is not None else f"ipc://{self._sockets}/{letter}{number}"
            for letter, port in (("i", 8766), ("p", 8767), ("f", 8768))
        ]
        data = self.folder / f"w{number}"

        def begin() -> Process:
            ingest, push, feed = sockets
            return Process(
                "runlake_ingest", "--data", str(data), "--ingest", ingest, "--push", push, "--feed", feed,
                "--metrics", f"{LOOPBACK}:0", *self._flags,
                env=self.lake_env | self._server_env() | worker.env, prefix=host.prefix if host is not None else (),
            )  # fmt: skip

        log = self.folder / f"worker-{number}.log"
        worker = Worker(f"worker-{number}", begin, host, log, sockets[0], sockets[2], data)
        self.workers.append(worker)
        return worker

    def add_query(self) -> Query:
        """One more, which is not started."""
        number = len(self.queries) + 1
        host = self._network.add_host() if self._network is not None else None
        address = f"{host.address}:8765" if host is not None else f"{LOOPBACK}:{free_port()}"
        data = self.folder / f"q{number}"

        def begin() -> Process:
            env = self.lake_env | self.client_env | {"RUNLAKE_TOKEN": self.token} | query.env
            return Process(
                "runlake_query", "--data", str(data), "--http", address, "--ingest", self.endpoints,
                "--feed", self.feeds, env=env, prefix=host.prefix if host is not None else (),
            )  # fmt: skip

        query = Query(f"query-{number}", begin, host, self.folder / f"query-{number}.log", address)
        self.queries.append(query)
        return query

    @property
    def endpoints(self) -> str:
        """`RUNLAKE_INGEST` of agents and query processes."""
        return ",".join(worker.endpoint for worker in self.workers)

    @property
    def feeds(self) -> str:
        return ",".join(worker.feed for worker in self.workers)

    @property
    def nodes(self) -> list[Worker | Query]:
        return [*self.workers, *self.queries]

    @property
    def url(self) -> str:
        """The HTTP API, behind HAProxy."""
        return f"http://{self.haproxy.address}"

    # What is asked of it

    def get(self, url: str, path: str, **parameters: Any) -> Reply:
        """GET at one query process, or behind HAProxy, with the token."""
        api = Api(url)
        try:
            return api.get(path, {"Authorization": f"Bearer {self.token}"}, **parameters)
        finally:
            api.close()

    def command(self, *arguments: str, deadline_s: float = 120) -> Any:
        """What a `runlake` command prints as JSON, run on the agents' host by somebody who may do all."""
        done = self.run(*arguments, deadline_s=deadline_s)
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return msgspec.json.decode(done.stdout) if done.stdout else None

    def run(self, *arguments: str, deadline_s: float = 120) -> subprocess.CompletedProcess[str]:
        env = self.lake_env | self.client_env | {"RUNLAKE_INGEST": self.endpoints, "RUNLAKE_TOKEN": self.token}
        return subprocess.run(
            [*self.agents_prefix, sys.executable, "-m", "runlake.cli", *arguments],
            env=clean_environment() | env, cwd=self.folder, capture_output=True, text=True, timeout=deadline_s,
            check=False,
        )  # fmt: skip

    def list_workers(self, *workers: Worker) -> None:
        """Add workers that run to the list in force."""
        self.command("workers", "add", "--json", *(worker.id for worker in workers))

    def __enter__(self) -> Self:
        with ExitStack() as ends:
            for node in self.nodes:
                ends.callback(node.close)
            for worker in self.workers:
                worker.start()
                if worker is self.workers[0]:
                    worker.wait()  # makes the lake, and the list with itself
            for worker in self.workers:
                worker.wait()
            if len(self.workers) > 1:
                self.list_workers(*self.workers[1:])
            for query in self.queries:
                query.start()
            for query in self.queries:
                query.wait()
            if self.queries:
                ends.enter_context(self.haproxy)
                wait_until(lambda: self.get(self.url, "/ready").status == 200, "HAProxy finds a query process")
            self._ends = ends.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ends.close()

    def _make_keys(self) -> None:
        client = self.folder / "client"
        for arguments in (
            ("create", "server"),
            ("create", "client", "cluster", "--dir", str(client)),
            ("allow", str(client / "cluster.key")),
        ):
            command = [sys.executable, "-m", "runlake.cli", "keys", *arguments, "--keys", str(self._keys)]
            subprocess.run(command, check=True, capture_output=True, env=clean_environment(), cwd=self.folder)
        self.client_env = {
            "RUNLAKE_SERVER_KEY": str(self._keys / "server.key"),
            "RUNLAKE_CLIENT_KEY": str(client / "cluster.key_secret"),
        }

    def _server_env(self) -> dict[str, str]:
        return {"RUNLAKE_KEYS": str(self._keys)} if self._network is not None else {}


def clean_environment() -> dict[str, str]:
    """Ours, without any setting of RunLake."""
    return {name: value for name, value in os.environ.items() if not name.startswith("RUNLAKE_")}
