"""Runs: `with track_run("crawler", "crawl") as run:` records that a run exists, what happens in it, and how it ended.

The run that a block is in is the current one (`current.py`), so that a run started inside it becomes its child. A run
without one takes its parent from TRACEPARENT and TRACESTATE (`traceparent.py`), so that the runs of a child process
join the tree.

This is what an agent holds; what a run knows and how it says it is in `recording.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import Token
from datetime import UTC, datetime
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from runlake import runfields
from runlake.current import current
from runlake.harmless import harmless
from runlake.messages import STATUS_ALIASES, CommitAssociated
from runlake.recording import Options, Recording

if TYPE_CHECKING:
    from runlake.emitter import Emitter

__all__ = ["Options", "Run", "split_options"]

F = TypeVar("F", bound=Callable[..., Any])

_PROGRESS_EVERY_S = 0.25
_SUMMED = frozenset(
    (
        *("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens"),
        *("cost_usd", "metrics_json", "model", "provider"),
    )
)


class Run(Recording):
    """A run being recorded: a context manager for `with` and `async with`, and a decorator. Its methods return at once
    and never raise.

    Fields that no run has, and values that cannot be used, are kept in `context_json` under their own names, and a
    warning is logged on `runlake`.
    """

    _progress_at = 0.0

    def __enter__(self) -> Run:
        try:
            if not self._started_at:
                self._start()
                self._token = current.set(self)
        except BaseException as error:  # noqa: BLE001 (the agent goes on unrecorded)
            try:
                self._complain_at_start(error)
            except Exception:  # noqa: BLE001 (the stack is full: not one more call is possible)
                return self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            token = self._token
            if token is not None:
                self._token = None
                self._leave(token)
            self._finish(error)
        except BaseException as problem:  # noqa: BLE001 (the agent goes on unrecorded)
            try:
                self.complain("track_run", problem)
            except Exception:  # noqa: BLE001 (as above)
                return

    async def __aenter__(self) -> Run:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)

    def __call__(self, function: F) -> F:
        """Decorate a function, coroutine function, generator function or async generator function: each call of it is
        a run of its own, with these fields. An `event_id` among them is not used."""
        try:
            from runlake.decorate import decorated  # noqa: PLC0415 (it loads inspect)

            return decorated(self, function)
        except BaseException as error:  # noqa: BLE001 (the agent goes on unrecorded)
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

    @harmless("run.update", None)
    def update(self, /, **fields: Any) -> None:
        """Replace fields of the run; see `RunUpdated`. A `status` set here stands, unless the block raises."""
        if self._said is None:
            self._said = set()
        self._said.update([name for name, value in fields.items() if value is not None])
        context = fields.get("context_json")
        if isinstance(context, Mapping):
            self._context = dict(context)
        status = fields.get("status")
        if status is not None:
            fields["status"] = status = STATUS_ALIASES.get(status, status) if isinstance(status, str) else status
        message = self._send(fields) if _SUMMED.isdisjoint(fields) else self._sum(lambda totals: totals.take(fields))
        if message is not None and message.status is not None:
            self._status = message.status

    @harmless("run.progress", None)
    def progress(self, done: int, total: int | None = None) -> None:
        """Say how far the run is: `items_succeeded`, and `items_discovered` when the total is known. May be called for
        every item: what changes within a quarter of a second goes out together, and the last always goes out."""
        fields = {"items_succeeded": done} if total is None else {"items_succeeded": done, "items_discovered": total}
        now = monotonic()
        if now < self._progress_at and (total is None or done < total):
            self._pending = fields
            return
        self._pending = None
        self._progress_at = now + _PROGRESS_EVERY_S
        self._send(fields)

    @harmless("run.metrics", None)
    def metrics(self, /, **values: Any) -> None:
        """Add to `metrics_json`: values of other names stay."""
        self._sum(lambda totals: totals.merge(values))

    @harmless("run.llm_call", None)
    def llm_call(
        self,
        /,
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
        from runlake.llmcall import read_call  # noqa: PLC0415 (only who uses it pays for it)

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
        given = (input_tokens, output_tokens, cache_read_tokens, cache_write_tokens)
        said = read_call(call, given, attributes)
        self.event("llm_call", said.payload)
        self._sum(lambda totals: totals.name(said.names) | totals.add(said.tokens, said.cost_usd))

    @harmless("run.heartbeat", None)
    def heartbeat(self, seconds: float | None = None) -> None:
        """Give a sign of life; with `seconds`, promise that the next comes within them, from now on."""
        if seconds is not None:
            self._promise_every(seconds)
        if self._promise is not None:
            self._send({})

    @harmless("run.commit", None)
    def commit(
        self,
        hash: str,
        source: str = "manual",
        author: str | None = None,
        timestamp: datetime | None = None,
    ) -> None:
        """Record that a commit came of this run. `source`: manual, llm or ci."""
        emitter = self._prepare()
        if not isinstance(timestamp, datetime):
            timestamp = None
        taken = emitter.emit(
            CommitAssociated(
                event_id=emitter.new_id(),
                run_event_id=self.event_id,
                ts=datetime.now(UTC),
                commit_hash=str(hash),
                commit_source=source,  # type: ignore[arg-type]  # a wrong one is refused, kept and counted by the worker
                commit_author=None if author is None else runfields.required_name(author, "unknown"),
                commit_timestamp=timestamp if timestamp is None or timestamp.tzinfo else timestamp.astimezone(),
            )
        )
        if not taken:
            self._unsaid = True

    @harmless("run.traceparent", "")
    def traceparent(self) -> str:
        """This run as a W3C `traceparent`, for what it calls. Send `tracestate()` with it: it names the run."""
        from runlake.traceparent import parent  # noqa: PLC0415 (only who uses it pays for it)

        self._join_trace()
        trace_id, span_id = self.trace_id or "", self.span_id or ""
        own = self.event_id.hex
        return parent(trace_id, span_id, self._flags) or parent(self._root().event_id.hex, own[16:], self._flags)

    @harmless("run.tracestate", "")
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

    @harmless("run.delivered", False)
    def delivered(self, timeout: float = 10.0) -> bool:
        """Wait up to `timeout` seconds until all that the run has said is on the worker's disk. True when it is; False
        also when some of it was dropped, or was said by the process that this one is forked from."""
        emitter = self._say_pending()
        return emitter.delivered(emitter.last_number(), timeout) and self._was_taken(emitter)

    async def delivered_async(self, timeout: float = 10.0) -> bool:
        """`delivered`, for a coroutine: other tasks go on meanwhile."""
        try:
            emitter = self._say_pending()
            return await emitter.delivered_async(emitter.last_number(), timeout) and self._was_taken(emitter)
        except Exception as error:  # noqa: BLE001 (the agent goes on unrecorded)
            self.complain("run.delivered_async", error)
            return False

    @harmless("track_run", None)
    def leave(self) -> None:
        """Make current again what was before."""
        token, self._token = self._token, None
        if token is not None:
            self._leave(token)

    @harmless("track_run", None)
    def finish(self, error: BaseException | None) -> None:
        """Record the end, once: of a block that was left by `error`, or by none."""
        self._finish(error)

    def log_record(self, payload: dict[str, Any], limit: int) -> None:
        """Record a log record as an event, up to `limit` of them in one run; the others are counted at its end. For
        `loghandler.py`."""
        if 0 <= self._logged < limit:
            self._logged += 1
            self.event("log", payload)
        else:
            self._logged = min(self._logged, 0) - 1

    def _leave(self, token: Token[Any]) -> None:
        try:
            current.reset(token)
        except ValueError:  # the block was left in another context than it was entered in, as generators may
            if current.get() is self:
                current.set(self._parent)

    def _complain_at_start(self, error: BaseException) -> None:
        try:
            self.complain("track_run", error)
        except BaseException:  # an interruption: the block is not entered, and nobody else ends what was begun
            self.leave()
            self._finish(error)
            raise

    def _say_pending(self) -> Emitter:
        emitter = self._prepare()
        if self._pending is not None:
            self._send({})
        return emitter

    def _was_taken(self, emitter: Emitter) -> bool:
        return not self._unsaid and self._mark is not None and emitter.has_kept(self._mark)


def split_options(fields: dict[str, Any]) -> Options | None:
    """Take what is no field out of the keywords of `track_run`; None when there is nothing of it."""
    options = Options()
    for name in ("key", "traceparent", "tracestate", "heartbeat", "beat"):
        if name in fields:
            options[name] = fields.pop(name)
    return options or None
