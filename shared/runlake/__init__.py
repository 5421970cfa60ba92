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

from runlake.default import DefaultEmitter
from runlake.messages import CommitAssociated, RunEvent, RunStarted, RunUpdated
from runlake.stats import RejectedMessage, Stats
from runlake.tracking import Run, current_run

if TYPE_CHECKING:
    from runlake.emitter import Emitter
    from runlake.messages import Message

__all__ = [
    "CommitAssociated",
    "Emitter",
    "RejectedMessage",
    "Run",
    "RunEvent",
    "RunStarted",
    "RunUpdated",
    "Stats",
    "close",
    "configure",
    "current_run",
    "emit",
    "flush",
    "stats",
    "track_run",
]

_default = DefaultEmitter()


def __getattr__(name: str) -> Any:
    """Load `Emitter`, and pyzmq with it, when it is first asked for."""
    if name == "Emitter":
        from runlake.emitter import Emitter  # noqa: PLC0415

        return Emitter
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


def emit(message: Message) -> None:
    """Queue a message for delivery by the default emitter. Returns at once, never raises."""
    try:
        _default.get().emit(message)
    except Exception:  # noqa: BLE001 (the agent goes on unrecorded)
        return


def track_run(agent_name: str, job_type: str, *, emitter: Emitter | None = None, **fields: Any) -> Run:
    """Record a run: enter the returned `Run` with `with`.

    `fields` are any of `RunStarted`, also `run_id` (default: the text of a new UUIDv7) and `parent_run_id` (default:
    the run that this one is started in). When the block is left, the run gets its end, duration and status: `success`;
    `failure` with the exception and its traceback; `timeout` for a TimeoutError; `cancelled` for an interrupt or a
    cancelled task. A status set by `run.update` stands when the block ends normally. The exception goes on its way.
    """
    return Run((lambda: emitter) if emitter is not None else _default.get, agent_name, job_type, fields)


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
