"""What a run knows of itself, and how it says it: its start, changes of its fields, and its end.

`tracking.py` is what the agent holds of it. What is called for every run is written out flat here, and a run that was
told nothing says it in messages of a few fields (`briefmessages.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import Token
from datetime import UTC, datetime
from threading import RLock
from time import monotonic
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

from runlake import joining, runfields
from runlake.briefmessages import BriefEnd, BriefEvent, BriefStart
from runlake.current import current
from runlake.harmless import harmless
from runlake.heartbeat import Beat, Promise
from runlake.interruption import pass_on
from runlake.messages import MAX_NAME_CHARS, RunStarted, RunUpdated
from runlake.outcome import ENDED_WELL, outcome_of
from runlake.plainvalue import describe

if TYPE_CHECKING:
    from runlake.emitter import Emitter, Mark
    from runlake.totals import Totals
    from runlake.traceparent import Joined

_NO_ID = UUID(int=0)
_LOCK_S = 1.0
"""A lock held longer than this is one that a fork has copied; the sums may then miss a call of another thread."""
_DEFAULT_HEARTBEAT_S = 30.0


class Options(dict[str, Any]):
    """What `track_run` was given besides fields: key, traceparent, tracestate, heartbeat, beat."""


class Recording:
    """A run's state, and its messages. But for `event`, nothing here is for the agent to call."""

    # Most runs never change most of these: as the class's own they cost a run nothing.
    trace_id: str | None = None
    """The trace that the run and its events carry: as given, its parent's, or that of `traceparent()`."""
    span_id: str | None = None
    """The run's span in that trace."""
    _emitter: Emitter | None = None
    _key = ""  # the event_id, as text; the messages of a run carry no other form
    _run_id = ""
    _mark: Mark | None = None
    _unsaid = False  # whether something could not be taken for delivery
    _said: set[str] | None = None  # which of the fields that the end would set the agent set itself
    _status: str | None = None
    _started_at = 0.0
    _start_time: datetime
    _ended = False
    _token: Token[Any] | None = None
    _promise: Promise | None = None
    _beat: Beat | None = None
    _totals: Totals | None = None
    _pending: dict[str, Any] | None = None
    _logged = 0
    _flags = "01"
    _others = ""

    def __init__(
        self,
        get_emitter: Callable[[], Emitter],
        agent_name: object,
        job_type: object,
        fields: dict[str, Any],
        options: Options | None = None,
        parent: Self | None = None,
    ) -> None:
        self._get_emitter = get_emitter
        self._agent_name = agent_name
        self._job_type = job_type
        self._fields = fields
        self._options = options
        self._parent = parent
        self._context: dict[str, Any] = {}

    @property
    @harmless("track_run", _NO_ID)
    def event_id(self) -> UUID:
        """The run's own key."""
        self._identify()
        return UUID(self._key)

    @property
    def run_id(self) -> str:
        """The run's name: as given, of its key (`runids.py`), or the text of its `event_id`, a UUIDv7."""
        self._identify()
        return self._run_id

    def event(self, /, type: str, payload: Mapping[str, Any] | None = None, **more: Any) -> None:
        """Record that something happened now. What it was, in `payload` or by keywords, may hold anything; it is read
        before this returns."""
        try:
            emitter = self._emitter
            if emitter is None or not self._key:
                emitter = self._prepare()
            if more:
                if payload is None:
                    payload = more
                else:
                    payload = {**(payload if isinstance(payload, Mapping) else {"value": payload}), **more}
            if type.__class__ is not str or not 0 < len(type) <= MAX_NAME_CHARS:
                type = runfields.required_name(type, "event")
            if not emitter.emit(
                BriefEvent(
                    event_id=emitter.new_key(),
                    run_id=self._run_id,
                    run_event_id=self._key,
                    ts=datetime.now(UTC),
                    type=type,
                    payload=payload,  # type: ignore[arg-type]  # what is no dict becomes one when it is encoded
                    trace_id=self.trace_id,
                    span_id=self.span_id,
                )
            ):
                self._unsaid = True
            if self._promise is not None and monotonic() >= self._promise.renew_at and not self._ended:
                self._send({})
        except BaseException as error:  # noqa: BLE001 (the agent goes on unrecorded)
            try:
                self.complain("run.event", error)
            except Exception:  # noqa: BLE001 (the stack is full: not one more call is possible)
                return

    def complain(self, what: str, error: BaseException) -> None:
        """Log that recording went wrong, from the emitter's own thread. Raises an interruption of the agent again."""
        self._unsaid = True
        pass_on(error)
        with suppress(Exception):
            if self._emitter is not None:
                self._emitter.notice(f"run {what}", f"RunLake's {what} failed: {describe(error)}")

    @harmless("track_run", None)
    def _identify(self) -> None:
        if not self._key:
            self._prepare()

    def _prepare(self) -> Emitter:
        """Find the emitter, and give the run its ids."""
        emitter = self._emitter
        if emitter is None:
            emitter = self._emitter = self._get_emitter()
        if not self._key:
            fields, options = self._fields, self._options
            key = ""
            given: object = None
            if fields:
                if "event_id" in fields:
                    event_id = runfields.as_uuid(fields["event_id"])
                    if event_id is not None:
                        key = str(event_id)
                        del fields["event_id"]
                given = fields.pop("run_id", None)
            if given is None and options is not None and options.get("key") is not None:
                given = self._named_by(options["key"])
            self._mark = emitter.mark()
            key = key or emitter.new_key()
            self._run_id = key if given is None else runfields.required_name(given, key)
            self._key = key
        return emitter

    def _named_by(self, key: Any) -> str | None:
        from runlake.runids import run_id_for  # noqa: PLC0415 (only who uses it pays for it)

        try:
            return run_id_for(_name(self._agent_name), _name(self._job_type), key)
        except BaseException as error:  # noqa: BLE001 (a key that is no text, of the agent's own)
            self.complain("key", error)
            return None

    def _start(self) -> None:
        if self._started_at:
            return
        self._started_at = monotonic()
        self._start_time = start_time = datetime.now(UTC)
        emitter = self._prepare()
        if self._parent is None and (self._options is None or self._options.get("traceparent") is None):
            self._parent = current.get()  # type: ignore[assignment]  # a Run is made of Recording alone
        agent_name, job_type = self._agent_name, self._job_type
        if type(agent_name) is not str or not 0 < len(agent_name) <= MAX_NAME_CHARS:
            agent_name = _name(agent_name)
        if type(job_type) is not str or not 0 < len(job_type) <= MAX_NAME_CHARS:
            job_type = _name(job_type)
        message: BriefStart | RunStarted
        if not self._fields and self._options is None and self._parent is None and not joining.process_has_caller():
            message = BriefStart(
                event_id=self._key,
                run_id=self._run_id,
                agent_name=agent_name,
                job_type=job_type,
                start_time=start_time,
                status="running",
                host=emitter.host,
            )
        else:
            message = self._told_start(emitter, agent_name, job_type)
            self.trace_id, self.span_id = message.trace_id, message.span_id
        if not emitter.emit(message):
            self._unsaid = True
        if self._promise is not None and self._options is not None and self._options.get("beat"):
            self._beat = Beat(self._sign, self._promise.beat_s)

    def _told_start(self, emitter: Emitter, agent_name: str, job_type: str) -> RunStarted:
        """The start of a run that has fields, options or a caller."""
        given, options, start_time = self._fields, self._options, self._start_time
        joined = self._joined(options)
        parent = self._parent
        if joined is not None:
            self._parent = None
            self._flags, self._others = joined.flags, joined.others
            joining.add_caller(joined, given)
        elif parent is not None:
            given.setdefault("parent_run_id", parent.run_id)
            if parent.trace_id is not None:
                given.setdefault("trace_id", parent.trace_id)
                self._flags, self._others = parent._flags, parent._others
        if given.get("trace_id") is not None and given.get("span_id") is None:
            given["span_id"] = self.event_id.hex[16:]
        context = given.get("context_json")
        if isinstance(context, Mapping):
            self._context = dict(context)
        chosen = runfields.usable_time(given.get("start_time"), start_time)
        if chosen is not None:
            self._start_time = start_time = chosen
            del given["start_time"]
        if given.get("status") is None:
            given["status"] = "running"
        if given.get("host") is None:
            given["host"] = emitter.host
        if options is not None and (options.get("heartbeat") is not None or options.get("beat")):
            self._promise_every(options.get("heartbeat") or _DEFAULT_HEARTBEAT_S)
        fixed: dict[str, Any] = {
            "event_id": self._key,
            "run_id": self._run_id,
            "agent_name": agent_name,
            "job_type": job_type,
            "start_time": start_time,
        }
        if self._promise is None:
            if runfields.are_right(given):
                return RunStarted(**fixed, **given)
        else:
            given.setdefault("heartbeat_until", self._promise.renew(datetime.now(UTC)))
        message, moved = runfields.build(RunStarted, fixed, given, self._context, emitter.encode)
        self._tell_moved(moved)
        return message

    def _joined(self, options: Options | None) -> Joined | None:
        """The caller outside of this process: as given, or of the environment, when there is no run to be below."""
        given = options.get("traceparent") if options is not None else None
        if given is not None:
            return joining.caller(given, options.get("tracestate") if options is not None else None)
        return joining.caller_of_process() if self._parent is None and joining.process_has_caller() else None

    def _root(self) -> Recording:
        run: Recording = self
        while run._parent is not None:
            run = run._parent
        return run

    @harmless("run.traceparent", None)
    def _join_trace(self) -> None:
        """Make the run part of a trace, the one that its root would begin, and say so."""
        if self.trace_id is None:
            self.trace_id, self.span_id = self._root().event_id.hex, self.event_id.hex[16:]
            if self._started_at:
                self._send({"trace_id": self.trace_id, "span_id": self.span_id})
            else:
                self._fields.setdefault("trace_id", self.trace_id)

    def _finish(self, error: BaseException | None) -> None:
        if self._ended:
            return
        if self._beat is not None:
            self._beat.stop()
        if self._pending is not None:
            self._send_pending()
        if self._logged < 0:
            self.event("log_omitted", {"records": -self._logged})
        self._ended = True
        emitter = self._emitter
        if emitter is None or not self._key:
            return
        now = datetime.now(UTC)
        end_time: datetime | None = now if now >= self._start_time else self._start_time
        duration_ms: int | None = round((monotonic() - self._started_at) * 1000)
        status, summary, details = ENDED_WELL if error is None else outcome_of(error)
        if self._said is not None:
            said = self._said
            if status == "success" and self._status not in (None, "running"):
                status = self._status  # type: ignore[assignment]  # it went through the worker's rule
            end_time = None if "end_time" in said else end_time
            duration_ms = None if "duration_ms" in said else duration_ms
            summary = None if "error_summary" in said else summary
            details = None if "error_details" in said else details
        if not emitter.emit(
            BriefEnd(
                event_id=emitter.new_key(),
                run_event_id=self._key,
                ts=now,
                status=status,
                end_time=end_time,
                duration_ms=duration_ms,
                error_summary=summary,
                error_details=details,
            )
        ):
            self._unsaid = True

    @harmless("run.progress", None)
    def _send_pending(self) -> None:
        self._send({})

    @harmless("heartbeat", None)
    def _promise_every(self, seconds: float) -> None:
        self._promise = Promise(seconds)

    @harmless("run.heartbeat", None)
    def _sign(self) -> None:
        """The beat's sign of life."""
        if not self._ended:
            self._send({})

    def _sum(self, change: Callable[[Totals], dict[str, Any]]) -> RunUpdated | None:
        """Change the totals and send them, in one order for all threads."""
        from runlake.totals import Totals  # noqa: PLC0415 (only who uses it pays for it)

        lock = self.__dict__.setdefault("_lock", RLock())  # one step, and nothing for a run that adds nothing up
        held = lock.acquire(timeout=_LOCK_S)
        try:
            if self._totals is None:
                self._totals = Totals(self._fields)
            return self._send(change(self._totals))
        finally:
            if held:
                lock.release()

    def _send(self, fields: dict[str, Any]) -> RunUpdated | None:
        emitter = self._prepare()
        now = datetime.now(UTC)
        pending, self._pending = self._pending, None
        if pending is not None:
            fields = {**pending, **fields}
        right = runfields.are_right(fields, updating=True)
        if self._totals is not None and (not right or "metrics_json" in fields or "context_json" in fields):
            fields = {**self._totals.sums(), **fields}
        promised = None if self._promise is None else self._promise.renew(now)
        if promised is not None and fields.get("heartbeat_until") is None:
            fields = {**fields, "heartbeat_until": promised}
        fixed: dict[str, Any] = {"event_id": emitter.new_key(), "run_event_id": self._key, "ts": now}
        if right:
            message = RunUpdated(**fixed, **fields)
        else:
            message, moved = runfields.build(RunUpdated, fixed, fields, self._context, emitter.encode)
            self._tell_moved(moved)
        if not emitter.emit(message):
            self._unsaid = True
        return message

    def _tell_moved(self, moved: list[str]) -> None:
        if moved and self._emitter is not None:
            names = ", ".join(moved)
            self._emitter.notice(
                f"fields {names}", f"RunLake keeps in context_json what it cannot use as given: {names}"
            )


def _name(value: object) -> str:
    if type(value) is str and 0 < len(value) <= MAX_NAME_CHARS:
        return value
    return runfields.required_name(value, "unknown")
