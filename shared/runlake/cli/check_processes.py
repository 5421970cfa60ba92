"""Do the processes answer that ought to; and where they do not, can they be started?

On one machine both ought to run. Of a cluster a machine may have a worker, a query process, both or none: what ought to
run there is what was asked for, else what systemd starts with the machine, else what listens. The workers that the
settings name are asked in any case, wherever they are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

from runlake.cli.api import Api, NotReady
from runlake.cli.failure import CommandFailed
from runlake.cli.findings import Finding, good, note, problem
from runlake.cli.ports import elsewhere, listened_on, taken
from runlake.cli.worker_client import WorkerSilent, ask_position
from runlake.entrypoints import entry_points
from runlake.errors import SettingsError
from runlake.settings import Settings, variable

PROCESSES = ("ingest", "query")
_ONE = {"ingest": "a worker", "query": "a query process"}
_ASK_TIMEOUT_MS = 3_000
_LARGE_LAG_MS = 10_000


class Expected(NamedTuple):
    """Which processes ought to run here; why others need not. `everywhere`: all of RunLake is on this machine."""

    here: Collection[str]
    why_not: str
    everywhere: bool


def expected_here(settings: Settings, asked: str | None, enabled: Collection[str]) -> Expected:
    """`asked`: the one process that ought to run here. `enabled`: those that the service manager starts here."""
    everywhere = not (settings.lake.is_clustered or any(map(elsewhere, entry_points(settings.ingest))))
    if asked is not None:
        return Expected((asked,), f"only {asked} was asked for", everywhere)
    if everywhere:
        return Expected(PROCESSES, "", everywhere)
    if enabled:
        return Expected(enabled, "systemd does not start it here", everywhere)
    return Expected(_listening(settings), "nothing listens at its address", everywhere)


def check_processes(settings: Settings, expected: Expected) -> Iterator[Finding]:
    """Ingest by asking each worker for its position, query by its health and readiness."""
    listening = _listening(settings)
    if expected.everywhere and expected.here == PROCESSES and not listening:
        yield note("RunLake is not running here, and its ports are free", "runlake up")
        yield from _free("push_bind", "push", settings)
        yield from _free("feed_bind", "feed", settings)
        return
    for worker in entry_points(settings.ingest):
        yield _worker(worker, settings)
    if "query" in expected.here:
        yield from _query(settings)
    for name in PROCESSES:
        if name not in expected.here:
            yield note(
                f"{_ONE[name]} of this machine's own was not looked for: {expected.why_not}",
                f"runlake doctor {name}, where one ought to run",
            )
    if "ingest" in expected.here and "ingest" not in listening:
        yield from _free("push_bind", "push", settings)
        yield from _free("feed_bind", "feed", settings)


def _listening(settings: Settings) -> list[str]:
    """Which processes something on this machine listens for; an address of ipc:// says nothing."""
    binds = (*entry_points(settings.ingest), *entry_points(settings.ingest_bind))
    there = {"ingest": any(map(listened_on, binds)), "query": listened_on(settings.http)}
    return [name for name in PROCESSES if there[name]]


def _worker(endpoint: str, settings: Settings) -> Finding:
    """What one worker says of itself."""
    try:
        position = ask_position(endpoint, _ASK_TIMEOUT_MS, settings.client_keys)
    except SettingsError:  # the keys, of which more has been said
        return problem(f"the worker at {endpoint} cannot be asked", "mend the keys")
    except WorkerSilent as silent:
        if silent.refusal:
            return problem(f"the worker does not talk to us: {silent.refusal}", "make the keys of both sides fit")
        if elsewhere(endpoint):
            return problem(
                f"no ingest worker answers at {endpoint}, which is another machine",
                "look there, with `runlake doctor ingest`, and at what is between here and there",
            )
        if listened_on(endpoint) and not endpoint.startswith("ipc://"):
            return problem(
                f"what listens at {endpoint} does not answer as an ingest worker does",
                f"stop it, or set {variable('ingest')} to another address",
            )
        return problem(f"no ingest worker at {endpoint}", "runlake up, or runlake ingest")
    except CommandFailed as failure:
        return problem(str(failure), "use the same version of RunLake on both sides")
    return good(
        f"ingest answers at {endpoint}: accepted up to {position.accepted:,}, on disk up to"
        f" {position.durable:,}, in the lake up to {position.flushed:,}"
    )


def _query(settings: Settings) -> Iterator[Finding]:
    if not listened_on(settings.http) and not elsewhere(settings.http):
        yield problem(f"no query process at {settings.http}", "runlake up, or runlake query")
        return
    api = Api(settings.http, settings.token)
    try:
        health = api.get("/health", patience_s=0)
        if not isinstance(health, dict) or "version" not in health:
            raise CommandFailed("its /health is not RunLake's")
    except CommandFailed as failure:
        yield problem(
            f"what listens at {settings.http} is no query process of RunLake: {failure}",
            f"stop it, or set {variable('http')} to another address",
        )
        return
    yield good(f"query answers at {api.url}, version {health['version']}")
    try:
        ready = api.get("/ready", patience_s=0)
    except NotReady as failure:
        yield problem(f"query is not ready: {failure}", "wait; if that lasts, its log says why")
        return
    except CommandFailed as failure:
        yield problem(
            f"query does not tell us whether it is ready: {failure}",
            f"set {variable('token')} or {variable('token_file')} to its token",
        )
        return
    lag = ready.get("lag_ms")
    if isinstance(lag, int | float) and lag > _LARGE_LAG_MS:
        yield problem(
            f"query is {lag / 1_000:,.0f} s behind the lake", "look at its log, and at the load of this machine"
        )
    else:
        yield good("query has caught up" + (f", {lag:,} ms behind" if isinstance(lag, int | float) else ""))


def _free(name: str, setting: str, settings: Settings) -> Iterator[Finding]:
    for address in entry_points(getattr(settings, name)):
        reason = taken(address)
        if reason:
            yield problem(f"{address} cannot be used: {reason}", f"set {variable(setting)} to another address")
