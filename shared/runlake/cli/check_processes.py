"""Do the two processes answer; and where they do not, can they be started?"""

from __future__ import annotations

from collections.abc import Iterator

from runlake.cli.api import Api, NotReady
from runlake.cli.failure import CommandFailed
from runlake.cli.findings import Finding, good, note, problem
from runlake.cli.ports import taken
from runlake.cli.worker_client import WorkerSilent, ask_position
from runlake.errors import SettingsError
from runlake.settings import Settings, variable
from runlake.wire import Position

_ASK_TIMEOUT_MS = 3_000
_LARGE_LAG_MS = 10_000


def check_processes(settings: Settings) -> Iterator[Finding]:
    """Ingest by asking for its position, query by its health and readiness."""
    position: Position | None = None
    worker_up = settings.ingest.startswith("ipc://") or taken(settings.ingest) is not None
    query_up = taken(settings.http) is not None
    if not worker_up and not query_up:
        yield note("RunLake is not running here, and its ports are free", "runlake up")
        yield from _free("push_bind", "push", settings)
        yield from _free("feed_bind", "feed", settings)
        return
    try:
        position = ask_position(settings.ingest, _ASK_TIMEOUT_MS, settings.client_keys)
        yield good(
            f"ingest answers at {settings.ingest}: accepted up to {position.accepted:,}, on disk up to"
            f" {position.durable:,}, in the lake up to {position.flushed:,}"
        )
    except SettingsError:  # the keys, of which more has been said
        yield problem(f"the worker at {settings.ingest} cannot be asked", "mend the keys")
    except WorkerSilent as silent:
        if silent.refusal:
            yield problem(f"the worker does not talk to us: {silent.refusal}", "make the keys of both sides fit")
        elif worker_up:
            yield problem(
                f"what listens at {settings.ingest} does not answer as an ingest worker does",
                f"stop it, or set {variable('ingest')} to another address",
            )
        else:
            yield problem(f"no ingest worker at {settings.ingest}", "runlake up, or runlake ingest")
    except CommandFailed as failure:
        yield problem(str(failure), "use the same version of RunLake on both sides")
    if query_up:
        yield from _query(settings)
    else:
        yield problem(f"no query process at {settings.http}", "runlake up, or runlake query")


def _query(settings: Settings) -> Iterator[Finding]:
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
    lag = ready.get("lag_ms")
    if isinstance(lag, int | float) and lag > _LARGE_LAG_MS:
        yield problem(
            f"query is {lag / 1_000:,.0f} s behind the lake", "look at its log, and at the load of this machine"
        )
    else:
        yield good("query has caught up" + (f", {lag:,} ms behind" if isinstance(lag, int | float) else ""))


def _free(name: str, setting: str, settings: Settings) -> Iterator[Finding]:
    address = getattr(settings, name)
    reason = taken(address)
    if reason:
        yield problem(f"{address} cannot be used: {reason}", f"set {variable(setting)} to another address")
