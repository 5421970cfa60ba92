"""The faults that strike a cluster, each a function that strikes it while senders send, and heals it.

A process that was killed is started again, and not waited for: the next fault strikes while it still begins. What must
be true afterwards is not theirs to say: the oracle is the same for all (`Story.settle`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cluster.story import Story
from support.catalogproxy import FLUSH, MERGE, REMOVAL, CatalogProxy
from support.cluster import Node, Worker
from support.network import Host
from support.processes import wait_until

Fault = Callable[[Story], None]
_HOUR_S = 3_600.0


# Processes


def kill_worker(story: Story) -> None:
    """kill -9 of a worker; what it had acknowledged it brings to the lake when it is back."""
    _kill(story, story.any_worker())


def stop_worker(story: Story) -> None:
    """SIGSTOP of a worker for a while."""
    with _frozen(story.any_worker()):
        story.last_for(1.5, 60)


def kill_query(story: Story) -> None:
    """kill -9 of a query process: HAProxy sends its clients to the others."""
    _kill(story, story.any_query())


def stop_query(story: Story) -> None:
    """SIGSTOP of a query process for a while."""
    with _frozen(story.any_query()):
        story.last_for(1.5, 60)


def kill_everything(story: Story) -> None:
    """kill -9 of all workers and all query processes at once."""
    for node in story.cluster.nodes:
        node.kill()
    for node in story.cluster.nodes:
        node.start()


def kill_haproxy(story: Story) -> None:
    """kill -9 of HAProxy."""
    story.haproxy.kill()
    story.last_for(0.5, 10)
    story.haproxy.start()


# The list of workers


def change_list(story: Story) -> None:
    """A worker comes, takes its share, and goes: its runs move to the others."""
    with story.one_more_worker() as worker:
        story.cluster.list_workers(worker)
        story.last_for(1.5, 60)
        story.cluster.command("workers", "remove", worker.id, "--json")
        worker.terminate()


def retire_worker(story: Story) -> None:
    """A worker comes, takes its share, and dies for good: its journal goes to the lake, its runs to the others."""
    with story.one_more_worker() as worker:
        story.cluster.list_workers(worker)
        story.last_for(1.5, 60)
        worker.kill()
        story.cluster.command("workers", "retire", worker.id, "--journal", str(worker.data), "--json")


# The catalog


def restart_postgres(story: Story) -> None:
    """A restart of the server, as for an upgrade of it."""
    story.postgres.restart()


def kill_postgres(story: Story) -> None:
    """kill -9 of the server and all of its processes."""
    story.postgres.kill()
    story.last_for(1.5, 60)
    story.postgres.start()


def freeze_postgres(story: Story) -> None:
    """The server is there, and does not answer."""
    story.postgres.freeze()
    try:
        story.last_for(1.5, 60)
    finally:
        story.postgres.thaw()


def lose_answers_of_commits(story: Story) -> None:
    """The answers to COMMITs of a worker are lost: to those of two flushes, and to what maintenance it does."""
    with _through_proxy(story, story.any_worker()) as proxy:
        proxy.lose("answer", MERGE)
        proxy.lose("answer", REMOVAL)
        for _ in range(2):
            _lose_one(proxy)
        story.last_for(0.5, 30)


def _lose_one(proxy: CatalogProxy) -> None:
    before = proxy.lost
    proxy.lose("answer", FLUSH)
    wait_until(lambda: proxy.lost > before, "the answer to a COMMIT is lost", 60)


def commits_outlive_connections(story: Story) -> None:
    """A COMMIT of a worker goes on at the server after its connection has ended."""
    worker = story.any_worker()
    writes = f"runlake lake {worker.id.replace('-', '')} "
    catalog = story.cluster.place.catalog
    with _through_proxy(story, worker) as proxy, story.postgres.commits_wait():
        wait_until(lambda: bool(story.postgres.waiting_commits(catalog, writes)), "a COMMIT goes on", 60)
        proxy.cut()
        story.last_for(0.5, 30)


# The object storage


def store_refuses(story: Story) -> None:
    """The storage answers 503 to everything."""
    before = story.store.struck
    story.store.refusing = True
    try:
        wait_until(lambda: story.store.struck > before, "somebody asks the storage")
        story.last_for(1.5, 60)
    finally:
        story.store.refusing = False


def store_is_slow(story: Story) -> None:
    """The storage takes a second for every request (12 s in the long form: longer than anybody waits)."""
    before = story.store.struck
    story.store.delay_s = 12 if story.long else 1
    try:
        wait_until(lambda: story.store.struck > before, "somebody asks the storage")
        story.last_for(1.5, 60)
    finally:
        story.store.delay_s = 0


# Clocks


def skew_clocks(story: Story) -> None:
    """The wall clocks of two workers are hours apart, ahead and behind."""
    ahead, behind = story.dice.sample(story.cluster.workers, k=2)
    rules = [
        story.clocks[ahead].jump_clock(story.dice.uniform(1, 12) * _HOUR_S),
        story.clocks[behind].jump_clock(-story.dice.uniform(1, 12) * _HOUR_S),
    ]
    story.last_for(1.5, 60)
    for rule in rules:
        wait_until(lambda rule=rule: rule.hits > 0, "it reads its clock")  # type: ignore[misc]
        rule.end()


# Networks


def cut_worker(story: Story) -> None:
    """The cable of a worker is pulled, and put back."""
    with _pulled(story, story.any_worker().host):
        story.last_for(1.5, 60)


def cut_query(story: Story) -> None:
    """The cable of a query process is pulled, and put back."""
    with _pulled(story, story.any_query().host):
        story.last_for(1.5, 60)


def cut_postgres(story: Story) -> None:
    """The cable of PostgreSQL is pulled, and put back."""
    with _pulled(story, story.postgres_host):
        story.last_for(1.5, 60)


def _by_name(*faults: Fault) -> dict[str, Fault]:
    return {fault.__name__.replace("_", "-"): fault for fault in faults}


FAULTS = _by_name(
    kill_worker,
    stop_worker,
    kill_query,
    stop_query,
    kill_haproxy,
    change_list,
    retire_worker,
    restart_postgres,
    kill_postgres,
    freeze_postgres,
    lose_answers_of_commits,
    commits_outlive_connections,
    store_refuses,
    store_is_slow,
    skew_clocks,
)
LONG_FAULTS = _by_name(kill_everything)
"""Those that take much of the machine's time, for the long form."""
CABLE_FAULTS = _by_name(cut_worker, cut_query, cut_postgres)
"""Those that need a network."""


def _kill(story: Story, node: Node) -> None:
    node.kill()
    story.last_for(0.5, 20)
    node.start()


@contextmanager
def _frozen(node: Node) -> Iterator[None]:
    node.freeze()
    try:
        yield
    finally:
        node.thaw()


@contextmanager
def _through_proxy(story: Story, worker: Worker) -> Iterator[CatalogProxy]:
    """By which alone the worker, killed and started for it, reaches PostgreSQL; in the end it is killed again."""
    own = story.network.own if story.network is not None else "127.0.0.1"
    with CatalogProxy(story.cluster.place.catalog, own) as proxy:
        worker.kill()
        worker.env["RUNLAKE_CATALOG"] = proxy.url
        try:
            worker.start()
            worker.wait()
            yield proxy
        finally:
            del worker.env["RUNLAKE_CATALOG"]
            worker.kill()
            worker.start()


@contextmanager
def _pulled(story: Story, host: Host | None) -> Iterator[None]:
    assert host is not None
    host.cut()
    try:
        yield
    finally:
        host.mend()
