"""RunLake, the flight recorder for fleets of autonomous agents: what an agent needs.

    import runlake

    with runlake.track_run("crawler", "crawl", website="example.org") as run:
        run.event("page", {"url": "/", "bytes": 1024})
        run.update(items_succeeded=1)

Nothing here raises into the agent or makes it wait for the network; what could not be delivered is counted in
`runlake.stats()`. Importing this loads msgspec alone; the first message, or `configure`, loads pyzmq too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runlake.current import current_run, wrap
from runlake.default import DefaultEmitter
from runlake.messages import CommitAssociated, RunEvent, RunStarted, RunUpdated
from runlake.stats import RejectedMessage, Stats
from runlake.tracking import Options, Run

if TYPE_CHECKING:
    from runlake.carrying import CarryingExecutor
    from runlake.client import connect
    from runlake.emitter import Emitter
    from runlake.loghandler import RunLogHandler
    from runlake.messages import Message
    from runlake.runids import run_id_for

__all__ = [
    "CarryingExecutor",
    "CommitAssociated",
    "Emitter",
    "RejectedMessage",
    "Run",
    "RunEvent",
    "RunLogHandler",
    "RunStarted",
    "RunUpdated",
    "Stats",
    "close",
    "configure",
    "connect",
    "current_run",
    "emit",
    "flush",
    "run_id_for",
    "stats",
    "track_run",
    "wrap",
]

_default = DefaultEmitter()
_get_default = _default.get
_LAZY = {
    "CarryingExecutor": "runlake.carrying",
    "Emitter": "runlake.emitter",
    "RunLogHandler": "runlake.loghandler",
    "connect": "runlake.client",
    "run_id_for": "runlake.runids",
}


def __getattr__(name: str) -> Any:
    """Load what not every agent needs when it is first asked for: `Emitter` brings pyzmq, others logging."""
    if name in _LAZY:
        from importlib import import_module  # noqa: PLC0415

        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def configure(endpoint: str | None = None, **options: Any) -> None:
    """Choose how the default emitter works; see `Emitter` for the options. Call it once, before anything is emitted.

    An emitter that was in use before is closed, which may take its `exit_timeout_s`. Unknown options and wrong values
    are passed over with a warning logged on `runlake`.
    """
    try:
        _default.configure({"endpoint": endpoint, **options})
    except Exception:  # noqa: BLE001 (the agent goes on unrecorded)
        return


def emit(message: Message) -> bool:
    """Hand a message to the default emitter for delivery. Returns at once, never raises: True when it was taken, False
    when it was dropped and counted (see `stats`)."""
    try:
        return _default.get().emit(message)
    except Exception:  # noqa: BLE001 (the agent goes on unrecorded)
        return False


def track_run(
    agent_name: str,
    job_type: str,
    *,
    emitter: Emitter | None = None,
    key: str | None = None,
    traceparent: str | None = None,
    tracestate: str | None = None,
    heartbeat: float | None = None,
    beat: bool = False,
    **fields: Any,
) -> Run:
    """Record a run: enter the returned `Run` with `with` or `async with`, or decorate a function with it.

    `fields` are any of `RunStarted`, also `run_id` (default: the text of a new UUIDv7) and `parent_run_id` (default:
    the run that this one is started in). When the block is left, the run gets its end, duration and status: `success`;
    `failure` with the exception and its traceback; `timeout` for a TimeoutError; `cancelled` for an interrupt or a
    cancelled task. A status set by `run.update` stands when the block ends normally. The exception goes on its way.

    `key`: what the work is, in the caller's words; the `run_id` follows from it (see `run_id_for`).
    `traceparent`, `tracestate`: the caller on another host, in W3C Trace Context; a run without a parent takes them
    from TRACEPARENT and TRACESTATE of the environment.
    `heartbeat`: seconds within which the run promises to say something, again and again; `beat=True` has a thread say
    it while the process lives.
    """
    options = None
    if beat or not (key is None and traceparent is None and heartbeat is None):
        options = Options(key=key, traceparent=traceparent, tracestate=tracestate, heartbeat=heartbeat, beat=beat)
    get = _get_default if emitter is None else lambda: emitter
    return Run(get, agent_name, job_type, fields, options)


def flush(timeout: float = 10.0) -> bool:
    """Wait up to `timeout` seconds until all that was emitted before is on the worker's disk. True when it is."""
    try:
        return _default.made is None or _default.get().flush(timeout)
    except Exception:  # noqa: BLE001 (the agent goes on unrecorded)
        return False


def close(timeout: float = 2.0) -> bool:
    """Take nothing more and deliver for up to `timeout` seconds. True when all was delivered."""
    try:
        return _default.made is None or _default.get().close(timeout)
    except Exception:  # noqa: BLE001 (the agent goes on unrecorded)
        return False


def stats() -> Stats:
    """What the default emitter took, sent, delivered and dropped up to now."""
    return _default.get().stats()
