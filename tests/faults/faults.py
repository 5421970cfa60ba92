"""The faults that the suite knows, each a function that strikes a world whose producers emit, and heals it, with what
the processes must say of it in their logs.

What must be true afterwards is not theirs to say: the oracle is the same for all (`World.finish`).
"""

from __future__ import annotations

import errno
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from faults.cable import Cable
from faults.faultlayer import Calls, Rule
from faults.world import DEADLINE_S, Ear, Fault, Said, World, kill
from runlake_ingest.crashpoints import NAMES
from support.postgres import Postgres
from support.processes import Process, wait_until
from support.producer import Producer
from support.samples import events

POINTS = [name for name in NAMES if not name.startswith("maintain.")]
JOURNAL = "/ingest/journal/"
LAKE = "/data/lake/"
CATALOG = "/data/catalog.sqlite"
READ_MODEL = "/query/model.duckdb"
CROWD = Path(__file__).with_name("crowd.py")
_HOUR_S = 3_600.0
_TURN_S = 60.0
"""By so much a jump may look other than it was, when a process is starved in the midst of it."""


# Processes that are killed or stopped


def kill_ingest(world: World) -> None:
    """kill -9 of the worker at any moment."""
    world.midway()
    kill(world.ingest)
    world.start_ingest()


def crash_ingest(world: World) -> None:
    """kill -9 of the worker at a named point."""
    kill(world.ingest)
    ingest = world.start_ingest(
        crash_at=world.dice.choice([name for name in NAMES if not name.startswith("maintain.")]), ready=False
    )
    world.emit_until(lambda: ingest.ended, "the worker passes the point")
    assert ingest.wait() == -signal.SIGKILL
    world.start_ingest()


def crash_ingest_at_a_write(world: World) -> None:
    """kill -9 of the worker at some write or fsync of its journal, of the lake or of the catalog."""
    ingest = world.ingest
    assert ingest is not None
    path = world.dice.choice((JOURNAL, LAKE, CATALOG) if world.postgres is None else (JOURNAL, LAKE))
    rule = world.layer.kill(Calls.WRITE | Calls.SYNC, path, world.dice.randrange(12))
    world.emit_until(lambda: ingest.ended, "the worker makes that write")
    assert ingest.wait() == -signal.SIGKILL
    rule.end()
    world.start_ingest()


def kill_query(world: World) -> None:
    """kill -9 of the query process at any moment."""
    world.midway()
    kill(world.query)
    world.start_query()


def crash_query_in_bootstrap(world: World) -> None:
    """kill -9 of the query process while it reads the whole lake: at a write of its copy of the catalog, or of its
    model."""
    world.midway()
    kill(world.query)
    world.forget_read_model()
    path = world.dice.choice(("/query/catalog-", READ_MODEL))
    _crash_query_at_start(world, world.layer.kill(Calls.WRITE | Calls.SYNC, path, world.dice.randrange(8)))


def crash_query_in_apply(world: World) -> None:
    """kill -9 of the query process as it keeps what the feed told."""
    query = world.query
    assert query is not None
    rule = world.layer.kill(Calls.WRITE, "/query/feed.log", world.dice.randrange(3))
    world.emit_until(lambda: query.ended, "the query process applies the feed")
    assert query.wait() == -signal.SIGKILL
    rule.end()
    world.start_query()


def crash_query_in_checkpoint(world: World) -> None:
    """kill -9 of the query process as it writes its model to the file."""
    assert world.query is not None
    world.midway()
    rule = world.layer.kill(Calls.WRITE | Calls.SYNC, READ_MODEL, world.dice.randrange(12))
    world.query.send(signal.SIGTERM)  # writes the model before it ends
    assert world.query.wait(DEADLINE_S) == (-signal.SIGKILL if rule.hits else 0)
    rule.end()
    world.start_query()


def _crash_query_at_start(world: World, rule: Rule) -> None:
    query = world.start_query(ready=False)
    caught_up = Ear(query)
    wait_until(lambda: rule.hits > 0 or caught_up.hears("caught_up") is not None, "a crash, or the start's end")
    rule.end()
    kill(query)
    world.start_query()


def stop_ingest(world: World) -> None:
    """SIGSTOP of the worker for a while."""
    assert world.ingest is not None
    world.midway()
    with _stopped(world.ingest):
        _pass(world, short_s=3, long_s=60)


def stop_query(world: World) -> None:
    """SIGSTOP of the query process for a while."""
    assert world.query is not None
    world.midway()
    with _stopped(world.query):
        _pass(world, short_s=3, long_s=60)


# Power


def lose_power(world: World, *, torn: bool) -> None:
    """The machine is without power in the midst of work, and starts again."""
    kill(world.ingest)
    kill(world.query)
    world.layer.lose_power(world.dice, torn=torn)
    ingest = world.start_ingest()
    assert ingest.wait_for("recovered")["position"] >= 0
    world.start_query()


def lose_power_midway(world: World) -> None:
    """Power is lost; what was never fsynced is gone, or there in part."""
    world.midway()
    lose_power(world, torn=world.dice.random() < 0.5)


# Disks


def journal_write_fails(world: World) -> None:
    """The journal's disk has errors or is full: what it does not take is not acknowledged, and the worker starts again
    by itself."""
    world.midway()
    error = world.dice.choice((errno.EIO, errno.ENOSPC))
    with world.layer.failing(Calls.WRITE, JOURNAL, error, times=world.dice.randint(1, 3)):
        _says(world, "disk_failed", error)


def journal_fsync_fails(world: World) -> None:
    """The journal's disk says at fsync that it lost what was written."""
    world.midway()
    with world.layer.failing(Calls.SYNC, JOURNAL, errno.EIO, times=world.dice.randint(1, 2)):
        _says(world, "disk_failed", errno.EIO)


def lake_write_fails(world: World) -> None:
    """The lake's disk has errors or is full: the journal goes on, and the flush is tried again."""
    error = world.dice.choice((errno.EIO, errno.ENOSPC))
    with world.layer.failing(Calls.WRITE, LAKE, error):
        ear = _says(world, "lake_unavailable")
    ear.wait_for("lake_available")


def lake_fsync_fails(world: World) -> None:
    """The lake's disk says at fsync that it lost what was written: nothing of that is committed."""
    with world.layer.failing(Calls.SYNC, LAKE, errno.EIO):
        ear = _says(world, "lake_unavailable")
    ear.wait_for("lake_available")


def catalog_write_fails(world: World) -> None:
    """The catalog's disk has errors or is full."""
    error = world.dice.choice((errno.EIO, errno.ENOSPC))
    calls = world.dice.choice((Calls.WRITE, Calls.SYNC, Calls.WRITE | Calls.SYNC))
    with world.layer.failing(calls, CATALOG, error):
        ear = _says(world, "lake_unavailable")
    ear.wait_for("lake_available")


def read_model_write_fails(world: World) -> None:
    """The query process's disk is full: it goes on in memory, and says so; or, when a gap in the feed has it read the
    lake, that it cannot; or, at a checkpoint, that its read model is damaged, and ends: the next makes another."""
    ear = Ear(world.query)
    told = ("feed_log_stopped", "lake_not_followed", "read_model_damaged")
    with world.layer.failing(Calls.WRITE, "/query/", errno.ENOSPC):
        world.emit_until(lambda: any(ear.hears(event) for event in told), "it says what it cannot write")
    if ear.hears("read_model_damaged"):
        assert world.query is not None
        assert world.query.wait() != 0
        world.start_query()


def slow_fsync(world: World) -> None:
    """Each fsync of the journal takes 10 s (1 s in the short form)."""
    ear = Ear(world.ingest)
    rule = world.layer.slow(Calls.SYNC, JOURNAL, 10_000 if world.long else 1_000)
    world.emit_until(lambda: rule.hits >= 2 and ear.hears("disk_slow") is not None, "two slow fsyncs")
    rule.end()


# Clocks and other programs


def clock_jumps_forward(world: World) -> None:
    """The machine's wall clock goes hours ahead, and later back to the right time."""
    assert world.ingest is not None and world.query is not None
    _jump(world, world.dice.uniform(1, 12) * _HOUR_S, world.ingest, world.query)


def clock_jumps_back(world: World) -> None:
    """The machine's wall clock goes back by hours, and later to the right time."""
    assert world.ingest is not None and world.query is not None
    _jump(world, -world.dice.uniform(1, 12) * _HOUR_S, world.ingest, world.query)


def clock_of_ingest_jumps(world: World) -> None:
    """The worker's wall clock jumps by hours, and not that of the query process: they are on two machines."""
    assert world.ingest is not None
    _jump(world, world.dice.choice((-1, 1)) * world.dice.uniform(1, 12) * _HOUR_S, world.ingest)


def clock_of_query_jumps(world: World) -> None:
    """The query process's wall clock jumps by hours, and not that of the worker: they are on two machines."""
    assert world.query is not None
    _jump(world, world.dice.choice((-1, 1)) * world.dice.uniform(1, 12) * _HOUR_S, world.query)


def _jump(world: World, seconds: float, *processes: Process) -> None:
    world.midway()
    ears = [Ear(process) for process in processes]
    rules = [world.layer.jump_clock(seconds, process.pid) for process in processes]
    world.emit(2_000)
    world.midway()
    for ear in ears:
        assert abs(ear.wait_for("clock_jumped")["seconds"] - seconds) < _TURN_S
    ears = [Ear(process) for process in processes]
    for rule in rules:
        rule.end()
    for ear in ears:
        assert abs(ear.wait_for("clock_jumped")["seconds"] + seconds) < _TURN_S


def catalog_locked(world: World) -> None:
    """Another program holds the catalog's write lock for a while (a minute in the long form): the worker waits, and
    says so when it could write again, or after half a minute."""
    ear = Ear(world.ingest)
    with closing(sqlite3.connect(world.site.catalog, isolation_level=None, timeout=30)) as other:
        other.execute("BEGIN EXCLUSIVE")
        world.emit(1_000)
        world.midway()  # from here on something waits for the lake
        _pass(world, short_s=5, long_s=60)
        other.execute("ROLLBACK")
    if world.long:
        ear.wait_for("lake_available")


# The server of the catalog


def postgres_restarts(world: World) -> None:
    """PostgreSQL is restarted under load: connections are cut."""
    _away(world, lambda postgres: postgres.stop())


def postgres_is_killed(world: World) -> None:
    """kill -9 of PostgreSQL and all of its processes under load; it recovers from its own log."""
    _away(world, lambda postgres: postgres.kill())


def _away(world: World, end: Callable[[Postgres], None]) -> None:
    assert world.postgres is not None
    world.midway()
    ear = Ear(world.ingest)
    end(world.postgres)
    try:
        world.emit_until(lambda: ear.hears("lake_unavailable") is not None, "it says that the lake is away")
    finally:
        world.postgres.start()
    ear.wait_for("lake_available")


def postgres_hangs(world: World) -> None:
    """PostgreSQL answers nobody for a while, and no connection ends."""
    assert world.postgres is not None
    world.midway()
    world.postgres.freeze()
    try:
        world.emit(1_000)
        world.midway()  # from here on something waits for the lake
        _pass(world, short_s=5, long_s=60)
    finally:
        world.postgres.thaw()


# Networks


def cut_network(world: World) -> None:
    """The network between agents and worker is cut without a word, and mended: the old connections stay half open."""
    with Cable(world.site.sockets) as cable:
        cable.cut_after(world.dice.randrange(500_000))
        world.emit(20_000, endpoint=cable.endpoint)
        wait_until(lambda: cable.is_cut, "so much has been sent", DEADLINE_S)
        before = cable.connections
        _pass(world, short_s=3, long_s=60)
        cable.mend()
        world.finish_producers()
        assert cable.connections > before


def duplicate_storm(world: World) -> None:
    """The same batches come again and again, in any order and over several connections at once."""
    name = f"storm-{world.messages}"
    batches = [events(50, run_id=name) for _ in range(20)]
    sent = [batch for batch in batches for _ in range(world.dice.randint(1, 5))]
    world.dice.shuffle(sent)
    with ExitStack() as ends:
        producers = [ends.enter_context(Producer(world.site.ingest_endpoint)) for _ in range(4)]
        used = [world.dice.choice(producers) for _ in sent]
        for producer, batch in zip(used, sent, strict=True):
            producer.send(world.dice.sample(batch, k=len(batch)))
        acks = [producer.ack(DEADLINE_S) for producer in used]
    world.count_sent(sum(map(len, batches)), sum(ack.accepted for ack in acks))
    assert sum(len(ack.duplicate) for ack in acks) == sum(map(len, sent)) - sum(map(len, batches))


def many_producers(world: World) -> None:
    """Hundreds of producers (10,000 in the long form) connect at once, and each is answered."""
    each = 2_500 if world.long else 125
    names = [f"crowd-{world.messages}-{number}" for number in range(4)]
    commands = [
        [sys.executable, str(CROWD), world.site.ingest_endpoint, name, str(each), str(DEADLINE_S)] for name in names
    ]
    with ExitStack() as ends:
        crowds = [ends.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE)) for command in commands]
        for crowd in crowds:
            said, _ = crowd.communicate(timeout=DEADLINE_S)
            assert crowd.returncode == 0
            world.count_sent(each, int(said))


RECOVERED = Said("ingest", "killed_before", "recovered")
CAUGHT_UP = Said("query", "killed_before", "caught_up")
AWAY = Said("ingest", "lake_unavailable", "lake_available")
FAULTS = {
    fault.strike.__name__.replace("_", "-"): fault
    for fault in (
        Fault(kill_ingest, RECOVERED),
        Fault(crash_ingest, RECOVERED),
        Fault(crash_ingest_at_a_write, RECOVERED),
        Fault(kill_query, CAUGHT_UP),
        Fault(crash_query_in_bootstrap, CAUGHT_UP),
        Fault(crash_query_in_apply, CAUGHT_UP),
        Fault(crash_query_in_checkpoint, Said("query", "stopping", "caught_up")),
        Fault(stop_ingest, Said("ingest", "stalled")),
        Fault(stop_query, Said("query", "stalled")),
        Fault(lose_power_midway, RECOVERED),
        Fault(journal_write_fails, Said("ingest", "disk_failed", "recovered")),
        Fault(journal_fsync_fails, Said("ingest", "disk_failed", "recovered")),
        Fault(lake_write_fails, AWAY),
        Fault(lake_fsync_fails, AWAY),
        Fault(catalog_write_fails, AWAY, "file"),
        Fault(read_model_write_fails, Said("query", "feed_log_stopped|lake_not_followed|read_model_damaged")),
        Fault(slow_fsync, Said("ingest", "disk_slow")),
        Fault(clock_jumps_forward, Said("ingest", "clock_jumped")),
        Fault(clock_jumps_back, Said("query", "clock_jumped")),
        Fault(clock_of_ingest_jumps, Said("ingest", "clock_jumped")),
        Fault(clock_of_query_jumps, Said("query", "clock_jumped")),
        Fault(catalog_locked, Said("ingest", "lake_slow|lake_unavailable"), "file"),
        Fault(postgres_restarts, AWAY, "postgres"),
        Fault(postgres_is_killed, AWAY, "postgres"),
        Fault(postgres_hangs, Said("ingest", "lake_slow|lake_unavailable"), "postgres"),
        Fault(cut_network, Said("producer", "did not answer")),
        Fault(duplicate_storm, Said("metrics", "runlake_ingest_duplicate_total")),
        Fault(many_producers, Said("metrics", "runlake_ingest_batches_total")),
    )
}
"""By name."""


@contextmanager
def _stopped(process: Process) -> Iterator[None]:
    process.send(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send(signal.SIGCONT)


def _pass(world: World, *, short_s: float, long_s: float) -> None:
    """Let the fault last: here time itself is what is tested."""
    threading.Event().wait(long_s if world.long else short_s)


def _says(world: World, event: str, error: int | None = None) -> Ear:
    """Emit until the worker logs this event, for this reason."""
    ear = Ear(world.ingest)
    world.emit_until(lambda: ear.hears(event) is not None, f"{event!r} in the log")
    reason = ear.wait_for(event)["reason"]
    assert error is None or f"[Errno {error}]" in reason, reason
    return ear
