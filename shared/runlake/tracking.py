"""Runs: `with track_run("crawler", "crawl") as run:` records that a run exists, what happens in it, and how it ended.

The run that a block is in is the current one (`current.py`), so that a run started inside it becomes its child. A run
without one takes its parent from TRACEPARENT and TRACESTATE (`traceparent.py`), so that the runs of a child process
join the tree.

What the agent calls often is written out flat here, and makes one struct and no closure.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import Token
from datetime import UTC, datetime
from threading import RLock
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from runlake import runfields
from runlake.current import current
from runlake.heartbeat import Beat, Promise
from runlake.messages import MAX_NAME_CHARS, STATUS_ALIASES, CommitAssociated, RunEvent, RunStarted, RunUpdated
from runlake.outcome import ENDED_WELL, outcome_of
from runlake.plainvalue import describe

if TYPE_CHECKING:
    from runlake.emitter import Emitter, Mark
    from runlake.totals import Totals
    from runlake.traceparent import Joined

F = TypeVar("F", bound=Callable[..., Any])

_NO_ID = UUID(int=0)
_PROGRESS_EVERY_S = 0.25
_LOCK_S = 1.0
"""A lock held longer than this is one that a fork has copied; the sums may then miss a call of another thread."""
_DEFAULT_HEARTBEAT_S = 30.0
_SUMMED = frozenset(
    (
        *("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens"),
        *("cost_usd", "metrics_json", "model", "provider"),
    )
)


class Options(dict[str, Any]):
    """What `track_run` was given besides fields: key, traceparent, tracestate, heartbeat, beat."""


class Run:
    """A run being recorded: a context manager for `with` and `async with`, and a decorator. Its methods return at once
    and never raise.

    Fields that no run has, and values that cannot be used, are kept in `context_json` under their own names, and a
    warning is logged on `runlake`.
    """

    # Most runs never change most of these: as the class's own they cost a run nothing.
    trace_id: str | None = None
    """The trace that the run and its events carry: as given, its parent's, or that of `traceparent()`."""
    span_id: str | None = None
    """The run's span in that trace."""
    _emitter: Emitter | None = None
    _event_id: UUID | None = None
    _run_id = ""
    _mark: Mark | None = None
    _unsaid = False  # whether something could not be taken for delivery
    _said: set[str] | None = None  # which of the fields that the end would set the agent set itself
    _status: str | None = None
    _started_at = 0.0
    _ended = False
    _token: Token[Run | None] | None = None
    _promise: Promise | None = None
    _beat: Beat | None = None
    _totals: Totals | None = None
    _pending: dict[str, Any] | None = None
    _progress_at = 0.0
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
        parent: Run | None = None,
    ) -> None:
        self._get_emitter = get_emitter
        self._agent_name = agent_name
        self._job_type = job_type
        self._fields = fields
        self._options = options
        self._parent = parent
        self._context: dict[str, Any] = {}
        self._lock = RLock()

    @property
    def event_id(self) -> UUID:
        """The run's own key."""
        if self._event_id is None:
            self._try_to("track_run", self._prepare)
        return self._event_id or _NO_ID

    @property
    def run_id(self) -> str:
        """The run's name: as given, of its key (`runids.py`), or the text of its `event_id`, a UUIDv7."""
        if self._event_id is None:
            self._try_to("track_run", self._prepare)
        return self._run_id

    def __enter__(self) -> Run:
        try:
            if not self._started_at:
                self._start()
                self._token = current.set(self)
        except Exception as error:  # noqa: BLE001 (the agent goes on unrecorded)
            self.complain("track_run", error)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.leave()
        self.finish(error)

    async def __aenter__(self) -> Run:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.leave()
        self.finish(error)

    def __call__(self, function: F) -> F:
        """Decorate a function, coroutine function, generator function or async generator function: each call of it is
        a run of its own, with these fields. An `event_id` among them is not used."""
        try:
            from runlake.decorate import decorated  # noqa: PLC0415 (it loads inspect)

            return decorated(self, function)
        except Exception as error:  # noqa: BLE001 (the agent goes on unrecorded)
            self.complain("track_run", error)
            return function

    def child(self, job_type: str, agent_name: str | None = None, **fields: Any) -> Run:
        """A run below this one, wherever it is started; `agent_name` is this run's when not given. Enter it with
        `with`, or decorate with it. The fields are those of `track_run`, also `key` and `heartbeat`."""
        options = split_options(fields)
        agent = self._agent_name if agent_name is None else agent_name
        return Run(self._get_emitter, agent, job_type, fields, options, self)

    def again(self) -> Run:
        """A new run that was told the same; what a decorated function starts with each call."""
        fields = dict(self._fields)
        fields.pop("event_id", None)
        return Run(self._get_emitter, self._agent_name, self._job_type, fields, self._options, self._parent)

    def event(self, /, type: str, payload: Mapping[str, Any] | None = None, **more: Any) -> None:
        """Record that something happened now. What it was, in `payload` or by keywords, may hold anything; it is read
        before this returns."""
        try:
            emitter = self._emitter
            if emitter is None or self._event_id is None:
                emitter = self._prepare()
            if more:
                if payload is None:
                    payload = more
                else:
                    payload = {**(payload if isinstance(payload, Mapping) else {"value": payload}), **more}
            if type.__class__ is not str or not 0 < len(type) <= MAX_NAME_CHARS:
                type = runfields.required_name(type, "event")
            if not emitter.emit(
                RunEvent(
                    event_id=emitter.new_id(),
                    run_id=self._run_id,
                    run_event_id=self._event_id,
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
        except Exception as error:  # noqa: BLE001 (the agent goes on unrecorded)
            self.complain("run.event", error)

    def update(self, /, **fields: Any) -> None:
        """Replace fields of the run; see `RunUpdated`. A `status` set here stands, unless the block raises."""
        self._try_to("run.update", self._update, fields)

    def progress(self, done: int, total: int | None = None) -> None:
        """Say how far the run is: `items_succeeded`, and `items_discovered` when the total is known. May be called for
        every item: what changes within a quarter of a second goes out together, and the last always goes out."""
        self._try_to("run.progress", self._advance, done, total)

    def metrics(self, /, **values: Any) -> None:
        """Add to `metrics_json`: values of other names stay."""
        self._try_to("run.metrics", self._sum, lambda totals: totals.merge(values))

    def llm_call(
        self,
        model: str | None = None,
        provider: str | None = None,
        *,
        usage: object = None,
        response: object = None,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        cache_read_tokens: int | None = None,
        cache_write_tokens: int | None = None,
        cost_usd: Any = None,
        prompt: object = None,
        prompt_hash: str | None = None,
        finish_reason: str | None = None,
        latency_ms: float | None = None,
        operation: str = "chat",
        **attributes: Any,
    ) -> None:
        """Record a call of a language model as an event `llm_call`, and add its tokens and cost to the run's own.

        `usage` is OpenAI's or Anthropic's usage object or map, `response` the whole answer of either: model, usage and
        finish reason are taken from it where not given. Token counts given here go before those of `usage`;
        `input_tokens` is without what was read from a cache or written to one. `cost_usd` in US dollars, `latency_ms`
        in milliseconds. Of `prompt` only its hash is kept (see `runlake.llm.prompt_hash`). `attributes` are added to
        the event. The run's `model` and `provider` are those of its first call, unless the run was given them.
        """
        call = {
            "model": model,
            "provider": provider,
            "usage": usage,
            "response": response,
            "cost_usd": cost_usd,
            "prompt": prompt,
            "prompt_hash": prompt_hash,
            "finish_reason": finish_reason,
            "latency_ms": latency_ms,
            "operation": operation,
        }
        tokens = (input_tokens, output_tokens, cache_read_tokens, cache_write_tokens)
        self._try_to("run.llm_call", self._call, call, tokens, attributes)

    def heartbeat(self, seconds: float | None = None) -> None:
        """Give a sign of life; with `seconds`, promise that the next comes within them, from now on."""
        self._try_to("run.heartbeat", self._vouch, seconds)

    def commit(
        self,
        hash: str,
        source: str = "manual",
        author: str | None = None,
        timestamp: datetime | None = None,
    ) -> None:
        """Record that a commit came of this run. `source`: manual, llm or ci."""
        self._try_to("run.commit", self._commit, hash, source, author, timestamp)

    def traceparent(self) -> str:
        """This run as a W3C `traceparent`, for what it calls. Send `tracestate()` with it: it names the run."""
        self._try_to("run.traceparent", self._join_trace)
        from runlake.traceparent import parent  # noqa: PLC0415 (only who uses it pays for it)

        trace_id, span_id = self.trace_id or "", self.span_id or ""
        own = self.event_id.hex
        return parent(trace_id, span_id, self._flags) or parent(self._root().event_id.hex, own[16:], self._flags)

    def tracestate(self) -> str:
        """This run as a W3C `tracestate`: its `run_id`, and what the callers of this run had there."""
        from runlake.traceparent import state  # noqa: PLC0415 (only who uses it pays for it)

        return state(self.run_id, self._others)

    def headers(self) -> dict[str, str]:
        """`traceparent` and `tracestate` as headers of a request; the other side gives them to `track_run`."""
        return {"traceparent": self.traceparent(), "tracestate": self.tracestate()}

    def environ(self) -> dict[str, str]:
        """TRACEPARENT and TRACESTATE for the environment of a child process, whose runs then are children of this."""
        return {"TRACEPARENT": self.traceparent(), "TRACESTATE": self.tracestate()}

    def delivered(self, timeout: float = 10.0) -> bool:
        """Wait up to `timeout` seconds until all that the run has said is on the worker's disk. True when it is; False
        also when some of it was dropped, or was said by the process that this one is forked from."""
        try:
            emitter = self._say_pending()
            return emitter.delivered(emitter.last_number(), timeout) and self._was_taken(emitter)
        except Exception as error:  # noqa: BLE001 (the agent goes on unrecorded)
            self.complain("run.delivered", error)
            return False

    async def delivered_async(self, timeout: float = 10.0) -> bool:
        """`delivered`, for a coroutine: other tasks go on meanwhile."""
        try:
            emitter = self._say_pending()
            return await emitter.delivered_async(emitter.last_number(), timeout) and self._was_taken(emitter)
        except Exception as error:  # noqa: BLE001 (the agent goes on unrecorded)
            self.complain("run.delivered_async", error)
            return False

    def complain(self, what: str, error: Exception) -> None:
        """Log that recording went wrong, from the emitter's own thread."""
        self._unsaid = True
        with suppress(Exception):
            if self._emitter is not None:
                self._emitter.notice(f"run {what}", f"RunLake's {what} failed: {describe(error)}")

    def start(self) -> None:
        """Record the start, without making this the current run. For `decorate.py`."""
        self._try_to("track_run", self._start)

    def leave(self) -> None:
        """Make current again what was before."""
        if self._token is None:
            return
        try:
            current.reset(self._token)
        except ValueError:  # the block was left in another context than it was entered in, as generators may
            if current.get() is self:
                current.set(self._parent)
        except Exception as error:  # noqa: BLE001 (the agent goes on)
            self.complain("track_run", error)
        self._token = None

    def finish(self, error: BaseException | None) -> None:
        """Record the end, once: of a block that was left by `error`, or by none."""
        if self._ended:
            return
        try:
            self._finish(error)
        except Exception as problem:  # noqa: BLE001 (the agent goes on unrecorded)
            self.complain("track_run", problem)

    def _try_to(self, what: str, do: Callable[..., object], *arguments: Any) -> None:
        """Whatever goes wrong in recording must not reach the agent."""
        try:
            do(*arguments)
        except Exception as error:  # noqa: BLE001 (told, once a minute)
            self.complain(what, error)

    def _say_pending(self) -> Emitter:
        emitter = self._prepare()
        if self._pending is not None:
            self._send({})
        return emitter

    def _was_taken(self, emitter: Emitter) -> bool:
        return not self._unsaid and self._mark is not None and emitter.has_kept(self._mark)

    def _prepare(self) -> Emitter:
        """Find the emitter, and give the run its ids."""
        emitter = self._emitter
        if emitter is None:
            emitter = self._emitter = self._get_emitter()
        if self._event_id is None:
            fields, options = self._fields, self._options
            event_id = None
            if "event_id" in fields:
                event_id = runfields.as_uuid(fields["event_id"])
                if event_id is not None:
                    del fields["event_id"]
            given = fields.pop("run_id", None)
            if given is None and options is not None and options.get("key") is not None:
                from runlake.runids import run_id_for  # noqa: PLC0415 (only who uses it pays for it)

                try:
                    given = run_id_for(self._name(self._agent_name), self._name(self._job_type), options["key"])
                except Exception as error:  # noqa: BLE001 (a key that is no text, of the agent's own)
                    self.complain("key", error)
            self._mark = emitter.mark()
            event_id = event_id or emitter.new_id()
            self._run_id = str(event_id) if given is None else runfields.required_name(given, str(event_id))
            self._event_id = event_id
        return emitter

    @staticmethod
    def _name(value: object) -> str:
        if type(value) is str and 0 < len(value) <= MAX_NAME_CHARS:
            return value
        return runfields.required_name(value, "unknown")

    def _start(self) -> None:
        if self._started_at:
            return
        self._started_at = monotonic()
        self._start_time = start_time = datetime.now(UTC)
        emitter = self._prepare()
        given = self._fields
        options = self._options
        joined = self._joined(options)
        parent = self._parent
        if parent is not None and joined is None:
            given.setdefault("parent_run_id", parent.run_id)
            if parent.trace_id is not None:
                given.setdefault("trace_id", parent.trace_id)
                self._flags, self._others = parent._flags, parent._others
        elif joined is not None:
            self._join(joined, given)
        if given.get("trace_id") is not None and given.get("span_id") is None:
            given["span_id"] = self.event_id.hex[16:]
        if given:
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
            self._try_to("heartbeat", self._promise_every, options.get("heartbeat") or _DEFAULT_HEARTBEAT_S)
        agent_name, job_type = self._name(self._agent_name), self._name(self._job_type)
        promised = None if self._promise is None else self._promise.renew(datetime.now(UTC))
        if not given:
            message = RunStarted(
                event_id=self._event_id,  # type: ignore[arg-type]  # _prepare has set it
                run_id=self._run_id,
                agent_name=agent_name,
                job_type=job_type,
                start_time=start_time,
                status="running",
                host=emitter.host,
                heartbeat_until=promised,
            )
        elif runfields.are_right(given) and promised is None:
            message = RunStarted(
                event_id=self._event_id,  # type: ignore[arg-type]  # _prepare has set it
                run_id=self._run_id,
                agent_name=agent_name,
                job_type=job_type,
                start_time=start_time,
                **given,
            )
        else:
            fixed = {
                "event_id": self._event_id,
                "run_id": self._run_id,
                "agent_name": agent_name,
                "job_type": job_type,
                "start_time": start_time,
            }
            if promised is not None:
                given.setdefault("heartbeat_until", promised)
            message, moved = runfields.build(RunStarted, fixed, given, self._context, emitter.encode)
            self._tell_moved(moved)
        self.trace_id, self.span_id = message.trace_id, message.span_id
        if not emitter.emit(message):
            self._unsaid = True
        if options is not None and options.get("beat") and self._promise is not None:
            self._beat = Beat(self._sign, self._promise.beat_s)

    def _joined(self, options: Options | None) -> Joined | None:
        """The caller outside of this process: as given, or of the environment, when there is no run to be below."""
        given = options.get("traceparent") if options is not None else None
        if given is not None:
            from runlake.traceparent import read  # noqa: PLC0415 (only who uses it pays for it)

            return read(given, options.get("tracestate") if options is not None else None)
        if self._parent is None:
            self._parent = current.get()
        if self._parent is None and os.environ.get("TRACEPARENT"):
            from runlake.traceparent import from_environment  # noqa: PLC0415 (only who uses it pays for it)

            return from_environment(os.environ)
        return None

    def _join(self, joined: Joined, given: dict[str, Any]) -> None:
        self._parent = None
        self._flags, self._others = joined.flags, joined.others
        given.setdefault("trace_id", joined.trace_id)
        if joined.run_id is not None:
            given.setdefault("parent_run_id", joined.run_id)
        else:
            context = given.get("context_json")
            given["context_json"] = {
                "parent_span_id": joined.span_id,
                **(context if isinstance(context, Mapping) else {}),
            }

    def _root(self) -> Run:
        run = self
        while run._parent is not None:
            run = run._parent
        return run

    def _join_trace(self) -> None:
        """Make the run part of a trace, the one that its root would begin, and say so."""
        if self.trace_id is None:
            self.trace_id, self.span_id = self._root().event_id.hex, self.event_id.hex[16:]
            if self._started_at:
                self._send({"trace_id": self.trace_id, "span_id": self.span_id})
            else:
                self._fields.setdefault("trace_id", self.trace_id)

    def _finish(self, error: BaseException | None) -> None:
        if self._beat is not None:
            self._beat.stop()
        if self._pending is not None:
            self._try_to("run.progress", self._send, {})
        if self._logged < 0:
            self.event("log_omitted", {"records": -self._logged})
        self._ended = True
        emitter = self._emitter
        if emitter is None or self._event_id is None:
            return
        now = datetime.now(UTC)
        said = self._said or ()
        outcome = ENDED_WELL if error is None else outcome_of(error)
        status = outcome.status
        if status == "success" and self._status not in (None, "running"):
            status = self._status  # type: ignore[assignment]  # it went through the worker's rule
        taken = emitter.emit(
            RunUpdated(
                event_id=emitter.new_id(),
                run_event_id=self._event_id,
                ts=now,
                status=status,
                end_time=None if "end_time" in said else max(now, self._start_time),
                duration_ms=None if "duration_ms" in said else round((monotonic() - self._started_at) * 1000),
                error_summary=None if "error_summary" in said else outcome.error_summary,
                error_details=None if "error_details" in said else outcome.error_details,
            )
        )
        if not taken:
            self._unsaid = True

    def _update(self, fields: dict[str, Any]) -> None:
        if self._said is None:
            self._said = set()
        self._said.update(name for name, value in fields.items() if value is not None)
        context = fields.get("context_json")
        if isinstance(context, Mapping):
            self._context = dict(context)
        status = fields.get("status")
        if status is not None:
            fields["status"] = status = STATUS_ALIASES.get(status, status) if isinstance(status, str) else status
        message = self._send(fields) if _SUMMED.isdisjoint(fields) else self._sum(lambda totals: totals.take(fields))
        if message is not None and message.status is not None:
            self._status = message.status

    def _advance(self, done: int, total: int | None) -> None:
        fields = {"items_succeeded": done} if total is None else {"items_succeeded": done, "items_discovered": total}
        now = monotonic()
        if now < self._progress_at and (total is None or done < total):
            self._pending = fields
            return
        self._pending = None
        self._progress_at = now + _PROGRESS_EVERY_S
        self._send(fields)

    def _promise_every(self, seconds: float) -> None:
        self._promise = Promise(seconds)

    def _vouch(self, seconds: float | None) -> None:
        if seconds is not None:
            self._promise_every(seconds)
        if self._promise is not None:
            self._send({})

    def _sign(self) -> None:
        """The beat's sign of life."""
        if not self._ended:
            self.heartbeat()

    def _sum(self, change: Callable[[Totals], dict[str, Any]]) -> RunUpdated | None:
        """Change the totals and send them, in one order for all threads."""
        from runlake.totals import Totals  # noqa: PLC0415 (only who uses it pays for it)

        held = self._lock.acquire(timeout=_LOCK_S)
        try:
            if self._totals is None:
                self._totals = Totals(self._fields)
            return self._send(change(self._totals))
        finally:
            if held:
                self._lock.release()

    def _call(
        self, call: dict[str, Any], given: tuple[int | None, int | None, int | None, int | None], more: dict[str, Any]
    ) -> None:
        from runlake import llm  # noqa: PLC0415 (only who uses it pays for it)

        response = call["response"]
        usage = call["usage"] if call["usage"] is not None else llm.usage_of(response)
        tokens = llm.tokens_of(usage).given(given)
        answered = llm.model_of(response)
        model, provider = call["model"] or answered, call["provider"]
        cost = llm.dollars(call["cost_usd"])
        reason = call["finish_reason"] or llm.finish_reason_of(response)
        digest = call["prompt_hash"] if call["prompt"] is None else llm.prompt_hash(call["prompt"])
        self.event(
            llm.EVENT_TYPE,
            llm.payload(
                tokens,
                model=model,
                provider=provider,
                response_model=answered,
                operation=call["operation"],
                finish_reason=reason,
                cost_usd=cost,
                latency_ms=call["latency_ms"],
                prompt_digest=digest,
                attributes=more,
            ),
        )
        names = {name: value for name, value in (("model", model), ("provider", provider)) if value is not None}
        self._sum(lambda totals: totals.name(names) | totals.add(tokens, cost))

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
        if right and (promised is None or fields.get("heartbeat_until") is None):
            message = RunUpdated(
                event_id=emitter.new_id(),
                run_event_id=self._event_id,  # type: ignore[arg-type]  # _prepare has set it
                ts=now,
                heartbeat_until=promised,
                **fields,
            )
        else:
            fixed = {"event_id": emitter.new_id(), "run_event_id": self._event_id, "ts": now}
            if promised is not None:
                fields = {"heartbeat_until": promised, **fields}
            message, moved = runfields.build(RunUpdated, fixed, fields, self._context, emitter.encode)
            self._tell_moved(moved)
        if not emitter.emit(message):
            self._unsaid = True
        return message

    def _commit(self, commit_hash: str, source: str, author: str | None, timestamp: datetime | None) -> None:
        emitter = self._prepare()
        if not isinstance(timestamp, datetime):
            timestamp = None
        taken = emitter.emit(
            CommitAssociated(
                event_id=emitter.new_id(),
                run_event_id=self._event_id,  # type: ignore[arg-type]  # _prepare has set it
                ts=datetime.now(UTC),
                commit_hash=str(commit_hash),
                commit_source=source,  # type: ignore[arg-type]  # a wrong one is refused, kept and counted by the worker
                commit_author=None if author is None else runfields.required_name(author, "unknown"),
                commit_timestamp=timestamp if timestamp is None or timestamp.tzinfo else timestamp.astimezone(),
            )
        )
        if not taken:
            self._unsaid = True

    def log_record(self, payload: dict[str, Any], limit: int) -> None:
        """Record a log record as an event, up to `limit` of them in one run; the others are counted at its end. For
        `loghandler.py`."""
        if 0 <= self._logged < limit:
            self._logged += 1
            self.event("log", payload)
        else:
            self._logged = min(self._logged, 0) - 1

    def _tell_moved(self, moved: list[str]) -> None:
        if moved and self._emitter is not None:
            names = ", ".join(moved)
            self._emitter.notice(
                f"fields {names}", f"RunLake keeps in context_json what it cannot use as given: {names}"
            )


def split_options(fields: dict[str, Any]) -> Options | None:
    """Take what is no field out of the keywords of `track_run`; None when there is nothing of it."""
    options = Options()
    for name in ("key", "traceparent", "tracestate", "heartbeat", "beat"):
        if name in fields:
            options[name] = fields.pop(name)
    return options or None
