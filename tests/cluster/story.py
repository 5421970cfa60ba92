"""A cluster to which agents and HTTP clients send, while faults strike it; and the count of what came of it."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from cluster.oracle import ClusterFacts, settled
from cluster.senders import Senders
from cluster.storeproxy import StoreProxy
from faults.faultlayer import FaultLayer
from support.cluster import Cluster, Node, Worker
from support.haproxy import HAProxy
from support.network import Network
from support.objectstore import ObjectStore, environment
from support.postgres import Postgres
from support.processes import pauses

_AGENTS = 3
_PER_SECOND = 100
_FLAGS = ("--flush-interval-ms", "2000", "--maintenance-interval-ms", "4000", "--maintenance-keep-s", "60")


class Story:
    """Use as a context manager. `network`: hosts with cables, or None; `object_store`: moto's server itself."""

    def __init__(
        self,
        folder: Path,
        dice: random.Random,
        object_store: ObjectStore,
        fault_layer: Path,
        network: Network | None,
        *,
        long: bool,
    ) -> None:
        self.folder = folder
        self.dice = dice
        self.long = long
        self.network = network
        self.faults: Counter[str] = Counter()
        self.sent = 0
        """How many messages the senders that have ended were told to be on disk: all that they sent."""
        self.asked_again = 0
        self._fault_layer = fault_layer
        self._object_store = object_store
        self._more = 3  # numbers of workers that were there
        self._began = time.monotonic()

    # What runs

    def begin_senders(self) -> None:
        """Let agents and clients without the SDK send, until `settle`."""
        for _ in range(_AGENTS):
            self.senders.begin_agent(self.cluster.endpoints, _PER_SECOND, self.cluster.client_env)
        self.senders.begin_http(self.cluster.haproxy.address, {"RUNLAKE_TOKEN": self.cluster.token})

    def strike(self, name: str, fault: Callable[[Story], None]) -> None:
        self.faults[name] += 1
        fault(self)
        ended = [node.name for node in self.cluster.nodes if node.process.ended]
        assert not ended, f"after {name}: {ended} ended"

    def any_worker(self) -> Worker:
        return self.dice.choice(self.cluster.workers)

    def any_query(self) -> Node:
        return self.dice.choice(self.cluster.queries)

    @contextmanager
    def one_more_worker(self) -> Iterator[Worker]:
        """A worker that serves, and is not on the list; to be off it, and stopped, when the block ends."""
        self._more += 1
        worker = self.cluster.add_worker(self._more)
        try:
            worker.start()
            worker.wait()
            yield worker
        finally:
            worker.close()
            self.cluster.workers.remove(worker)

    def last_for(self, short_s: float, long_s: float) -> None:
        """Let the fault last: here time itself is what is tested."""
        until = time.monotonic() + (long_s if self.long else short_s)
        for _ in pauses(0.05):
            if time.monotonic() >= until:
                return

    # What must be true in the end

    def settle(self) -> ClusterFacts:
        """Every sender was told that all it sent is on disk; the lake has each message once; and the query processes,
        and `runlake verify`, find the same in it."""
        for node in self.cluster.nodes:
            node.wait()
        books = self.senders.end()
        self.sent += books.acknowledged
        self.asked_again += books.asked_again
        return settled(self.cluster, self.sent)

    def summary(self, facts: ClusterFacts | None) -> str:
        tried = ", ".join(f"{name} {times}" for name, times in sorted(self.faults.items()))
        where = "on a network of its own" if self.network is not None else "on loopback: no cables, no keys"
        found = "not settled"
        if facts is not None:
            lost, doubled = self.sent - facts.distinct_ids, facts.messages - facts.distinct_ids
            found = f"HTTP asked again {self.asked_again:,}; lost {lost:,}; doubled {doubled:,}"
        return (
            f"CLUSTER {len(self.cluster.workers)} workers, {len(self.cluster.queries)} query processes, {where};"
            f" {(time.monotonic() - self._began) / 60:.1f} min; faults {self.faults.total()} ({tried});"
            f" events sent {self.sent:,}; {found}"
        )

    def __enter__(self) -> Self:
        with ExitStack() as ends:
            if self.network is not None:
                host = self.network.add_host()
                self.postgres_host = host
                server = Postgres(host.address, allowed=self.network.subnet, prefix=host.prefix)
            else:
                server = Postgres()
            self.postgres = ends.enter_context(server)
            own = self.network.own if self.network is not None else "127.0.0.1"
            self.store = ends.enter_context(StoreProxy(own, self._object_store.endpoint))
            bucket = self._object_store.create_bucket()
            self.cluster = Cluster(
                self.folder / "c", self.postgres.create_database(), bucket, environment(self.store.endpoint), *_FLAGS,
                network=self.network,
            )  # fmt: skip
            self.clocks: dict[Node, FaultLayer] = {}
            for worker in self.cluster.workers:
                layer = FaultLayer(self._fault_layer, self.folder / "c", self.folder / worker.name)
                worker.env |= layer.env
                self.clocks[worker] = layer
            ends.enter_context(self.cluster)
            self.senders = ends.enter_context(Senders(prefix=self.cluster.agents_prefix))
            self._ends = ends.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ends.close()

    @property
    def haproxy(self) -> HAProxy:
        return self.cluster.haproxy
