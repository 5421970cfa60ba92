"""Runs: `with track_run("crawler", "crawl") as run:` records that a run exists, what happens in it, and how it ended.

The run that a block is in is known by a context variable, so that a run started inside it, in the same task or in one
that was started from it, becomes its child. A new thread begins without (unless it is run in a copy of the context).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import ContextVar, Token
from datetime import UTC, datetime
from functools import wraps
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec
from uuid import UUID

from runlake import runfields
from runlake.messages import STATUS_ALIASES, CommitAssociated, RunEvent, RunStarted, RunUpdated
from runlake.outcome import outcome_of
from runlake.plain import describe

if TYPE_CHECKING:
    from runlake.emitter import Emitter

P = ParamSpec("P")

_current: ContextVar[Run | None] = ContextVar("runlake_run", default=None)


def current_run() -> Run | None:
    """The run that the calling code is in, or None."""
    return _current.get()


def _guarded(method: Callable[P, None]) -> Callable[P, None]:
    """Whatever goes wrong in recording must not reach the agent."""

    @wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            method(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 (told, once a minute)
            run = args[0]
            if isinstance(run, Run):
                run.complain(f"run.{method.__name__.strip('_')}", error)

    return call


class Run:
    """A run being recorded, and the context manager that its block is. Its methods return at once and never raise.

    Fields that no run has, and values that cannot be used, are kept in `context_json` under their own names, and a
    warning is logged on `runlake`.
    """

    def __init__(
        self, get_emitter: Callable[[], Emitter], agent_name: object, job_type: object, fields: Mapping[str, Any]
    ) -> None:
        self.run_id = ""
        """The run's name: as given, else the text of a UUIDv7."""
        self.event_id = UUID(int=0)
        """The run's own key."""
        self.trace_id: str | None = None
        """The trace that the run's events carry: as given, else the parent's."""
        self._get_emitter = get_emitter
        self._agent_name = agent_name
        self._job_type = job_type
        self._fields = dict(fields)
        self._emitter: Emitter | None = None
        self._context: dict[str, Any] = {}
        self._said: set[str] = set()  # which of the fields that the end would set the agent set itself
        self._status: str | None = None
        self._start_time = datetime.now(UTC)
        self._started_at = 0.0
        self._parent: Run | None = None
        self._token: Token[Run | None] | None = None
        self._prepare()

    def __enter__(self) -> Run:
        self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._leave()
        self._finish(error)

    def event(self, type: str, payload: Mapping[str, Any] | None = None) -> None:
        """Record that something happened now. `payload` may hold anything; it is read before this returns."""
        self._event(type, payload)

    def update(self, **fields: Any) -> None:
        """Replace fields of the run; see `RunUpdated`. A `status` set here stands, unless the block raises."""
        self._update(fields)

    def commit(
        self,
        hash: str,
        source: str = "manual",
        author: str | None = None,
        timestamp: datetime | None = None,
    ) -> None:
        """Record that a commit came of this run. `source`: manual, llm or ci."""
        self._commit(hash, source, author, timestamp)

    def complain(self, what: str, error: Exception) -> None:
        """Log that recording went wrong, from the emitter's own thread."""
        with suppress(Exception):
            if self._emitter is not None:
                self._emitter.notice(f"run {what}", f"RunLake's {what} failed: {describe(error)}")

    @_guarded
    def _prepare(self) -> None:
        emitter = self._emitter = self._get_emitter()
        event_id = runfields.as_uuid(self._fields.get("event_id"))
        if event_id is not None:
            del self._fields["event_id"]
        self.event_id = event_id or emitter.new_id()
        self.run_id = runfields.required_name(self._fields.pop("run_id", None), str(self.event_id))

    @_guarded
    def _start(self) -> None:
        emitter = self._emitter
        if emitter is None or self._started_at:
            return
        self._parent = _current.get()
        self._token = _current.set(self)
        given = self._fields
        context = given.get("context_json")
        if isinstance(context, Mapping):
            self._context = dict(context)
        given.setdefault("status", "running")
        given.setdefault("host", emitter.host)
        if self._parent is not None:
            given.setdefault("parent_run_id", self._parent.run_id)
            given.setdefault("trace_id", self._parent.trace_id)
        self._started_at = monotonic()
        self._start_time = datetime.now(UTC)
        start_time = given.get("start_time")
        if isinstance(start_time, datetime):
            self._start_time = start_time if start_time.tzinfo else start_time.astimezone()
            del given["start_time"]
        fixed = {
            "event_id": self.event_id,
            "run_id": self.run_id,
            "agent_name": runfields.required_name(self._agent_name, "unknown"),
            "job_type": runfields.required_name(self._job_type, "unknown"),
            "start_time": self._start_time,
        }
        message, moved = runfields.build(RunStarted, fixed, given, self._context, emitter.encode)
        self.trace_id = message.trace_id
        self._tell_moved(moved)
        emitter.emit(message)

    def _leave(self) -> None:
        if self._token is None:
            return
        try:
            _current.reset(self._token)
        except ValueError:  # the block was left in another context than it was entered in, as generators may
            if _current.get() is self:
                _current.set(self._parent)
        self._token = None

    @_guarded
    def _finish(self, error: BaseException | None) -> None:
        outcome = outcome_of(error)
        end: dict[str, Any] = {"status": outcome.status}
        if outcome.status == "success" and self._status not in (None, "running"):
            end["status"] = self._status
        if "error_summary" not in self._said:
            end["error_summary"] = outcome.error_summary
        if "error_details" not in self._said:
            end["error_details"] = outcome.error_details
        if "end_time" not in self._said:
            end["end_time"] = max(datetime.now(UTC), self._start_time)
        if "duration_ms" not in self._said:
            end["duration_ms"] = round((monotonic() - self._started_at) * 1000)
        self._send(end)

    @_guarded
    def _event(self, kind: str, payload: Mapping[str, Any] | None) -> None:
        emitter = self._emitter
        if emitter is None:
            return
        if payload is not None and type(payload) is not dict:
            payload = dict(payload) if isinstance(payload, Mapping) else {"value": payload}
        emitter.emit(
            RunEvent(
                event_id=emitter.new_id(),
                run_id=self.run_id,
                run_event_id=self.event_id,
                ts=datetime.now(UTC),
                type=runfields.required_name(kind, "event"),
                payload=payload,
                trace_id=self.trace_id,
            )
        )

    @_guarded
    def _update(self, fields: dict[str, Any]) -> None:
        self._said.update(name for name, value in fields.items() if value is not None)
        context = fields.get("context_json")
        if isinstance(context, Mapping):
            self._context = dict(context)
        status = fields.get("status")
        if status is not None:
            fields["status"] = status = STATUS_ALIASES.get(status, status) if isinstance(status, str) else status
        message = self._send(fields)
        if message is not None and message.status is not None:
            self._status = message.status

    def _send(self, fields: dict[str, Any]) -> RunUpdated | None:
        emitter = self._emitter
        if emitter is None:
            return None
        fixed = {"event_id": emitter.new_id(), "run_event_id": self.event_id, "ts": datetime.now(UTC)}
        message, moved = runfields.build(RunUpdated, fixed, fields, self._context, emitter.encode)
        self._tell_moved(moved)
        emitter.emit(message)
        return message

    @_guarded
    def _commit(self, commit_hash: str, source: str, author: str | None, timestamp: datetime | None) -> None:
        emitter = self._emitter
        if emitter is None:
            return
        emitter.emit(
            CommitAssociated(
                event_id=emitter.new_id(),
                run_event_id=self.event_id,
                ts=datetime.now(UTC),
                commit_hash=str(commit_hash),
                commit_source=source,  # type: ignore[arg-type]  # a wrong one is refused, kept and counted by the worker
                commit_author=None if author is None else runfields.required_name(author, "unknown"),
                commit_timestamp=timestamp if timestamp is None or timestamp.tzinfo else timestamp.astimezone(),
            )
        )

    def _tell_moved(self, moved: list[str]) -> None:
        if moved and self._emitter is not None:
            names = ", ".join(moved)
            self._emitter.notice(
                f"fields {names}", f"RunLake keeps in context_json what it cannot use as given: {names}"
            )
