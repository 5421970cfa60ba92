"""The write endpoints: JSON in, messages to ingest, the answer after the durable ack.

A run that the read model knows is answered from it; for all else ingest decides what is new. A fresh run of which no
change was known is answered from its own message, and a change from the run as it was where all in between is known;
everything else is read back once the read model reflects it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from aiohttp import web

from runlake.ids import Uuid7Source
from runlake.messages import Message, RunEvent, RunStarted, RunUpdated
from runlake_query import bodies, events, idempotency
from runlake_query.answers import JSON, json_answer
from runlake_query.changedrun import changed_run
from runlake_query.delivery import Delivered
from runlake_query.freshness import Freshness
from runlake_query.gateway import Gateway
from runlake_query.gone import why_not_shown
from runlake_query.keyedlocks import KeyedLocks
from runlake_query.parameters import Parameters
from runlake_query.points import Found, Points
from runlake_query.positions import Positions, format_positions, reaches
from runlake_query.problems import FieldError, NotFound, NotReady, Problem
from runlake_query.progress import Progress
from runlake_query.reader import Reader
from runlake_query.reads import query
from runlake_query.startedhere import StartedHere
from runlake_query.startedrun import StartedRun, rfc3339

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_REPLAYED = {"Idempotent-Replayed": "true"}
_encoder = msgspec.json.Encoder()


class UnsupportedMediaType(Problem):
    """415: send JSON, and say so."""

    def __init__(self, given: str) -> None:
        super().__init__(
            415, f"Content-Type: must be application/json, not {given!r:.60}", headers={"Accept": "application/json"}
        )


class _Stored(msgspec.Struct, frozen=True):
    """What became of one run: its Run object, and whether it is new."""

    body: bytes
    new: bool


class Writes:
    """The handlers. On the event loop."""

    def __init__(
        self,
        gateway: Gateway,
        points: Points,
        freshness: Freshness,
        progress: Progress,
        reader: Reader,
        new_id: Uuid7Source,
        utcnow: Callable[[], datetime],
    ) -> None:
        self._gateway = gateway
        self._points = points
        self._freshness = freshness
        self._progress = progress
        self._reader = reader
        self._new_id = new_id
        self._utcnow = utcnow
        self._locks = KeyedLocks()
        self._started = StartedHere(progress)

    async def create(self, request: web.Request) -> web.Response:
        """`POST /api/v1/runs`"""
        message, encoded = bodies.read_run(await _body(request), self._utcnow())
        async with self._locks.hold(message.event_id):
            searched = await self._ready_to_search((message.event_id,))
            known = await self._points.is_known(message.event_id)
            if known:
                await self._freshness.before_read({})  # it may have been changed here a moment ago
                found = (await self._points.by_id(message.event_id)).run
                if found is not None:
                    return json_answer(found.body, status=201, headers={**_REPLAYED, **self._reflected()})
            (outcome,) = await self._gateway.deliver([encoded], searched)
            stored = await self._stored(message, outcome, first=known is None)
        headers = {"RunLake-Position": _position(outcome)} | ({} if stored.new else _REPLAYED)
        return json_answer(stored.body, status=201, headers=headers)

    async def create_batch(self, request: web.Request) -> web.Response:
        """`POST /api/v1/runs/batch`"""
        items, bare = bodies.read_batch(await _body(request), self._utcnow())
        return await self._create_all(items, bare, together=False)

    async def create_all_or_none(self, request: web.Request) -> web.Response:
        """`POST /api/v1/runs/batch-transactional`"""
        items, bare = bodies.read_batch(await _body(request), self._utcnow())
        wrong = [
            FieldError(
                f"runs[{index}].{item.field}" if item.field else f"runs[{index}]",
                item.error.removeprefix(f"{item.field}: ").rstrip("."),
            )
            for index, item in enumerate(items)
            if item.message is None
        ]
        if wrong:
            first = wrong[0]
            raise Problem(400, f"{first.field}: {first.message}. Nothing was stored.", wrong)
        return await self._create_all(items, bare, together=True)

    async def change(self, request: web.Request) -> web.Response:
        """`PATCH /api/v1/runs/{event_id}`"""
        fields = bodies.read_change(await _body(request))
        return await self._change(request, fields, bodies.update)

    async def associate_commit(self, request: web.Request) -> web.Response:
        """`POST /api/v1/runs/{event_id}/associate-commit`"""
        fields = bodies.read_commit(await _body(request))
        return await self._change(request, fields, bodies.commit)

    async def append_events(self, request: web.Request) -> web.Response:
        """`POST /api/v1/runs/{run_id}/events`"""
        given, many = bodies.read_events(await _body(request))
        now = self._utcnow()
        key = idempotency.read_key(request.headers)
        run = await self._run_of(request.match_info["run_id"])
        ids = [
            found.event_id or (self._new_id() if key is None else idempotency.key_of_item(key, index) if many else key)
            for index, found in enumerate(given)
        ]
        fixed = [found.event_id is not None or key is not None for found in given]
        times = [found.ts or (_time_of(ids[index], now) if fixed[index] else now) for index, found in enumerate(given)]
        async with self._locks.hold_all(ids[index] for index in range(len(ids)) if fixed[index]):
            known: dict[str, str] = {}
            if None in times:  # a retry would come with another time: only what is stored can tell
                known = await self._known_events(run, [ids[at] for at, time in enumerate(times) if time is None])
            messages = [
                bodies.event(found, ids[at], run.run_id, run.event_id, times[at] or now)
                for at, found in enumerate(given)
            ]
            encoded = [
                bodies.encode(message, now, f"[{index}]" if many else "") for index, message in enumerate(messages)
            ]
            new = [index for index, message in enumerate(messages) if str(message.event_id) not in known]
            outcomes = (
                dict(zip(new, await self._gateway.deliver([encoded[at] for at in new]), strict=True)) if new else {}
            )
        for index, outcome in outcomes.items():
            _refuse_rejected(outcome, f"[{index}]" if many else "")
        replayed = all(index not in outcomes or outcomes[index].duplicate for index in range(len(given)))
        texts = [known.get(str(message.event_id)) or _event_text(message) for message in messages]
        body = f"[{','.join(texts)}]" if many else texts[0]
        headers = self._reflected() if not outcomes else {"RunLake-Position": _positions(outcomes.values())}
        return json_answer(body.encode(), status=201, headers=headers | (_REPLAYED if replayed else {}))

    # Creating

    async def _create_all(self, items: Sequence[bodies.Item], bare: bool, *, together: bool) -> web.Response:
        """`together`: what cannot be stored whole is an error of the whole request, else of those runs alone."""
        first: dict[UUID, int] = {}
        for index, item in enumerate(items):
            if item.message is not None:
                first.setdefault(item.message.event_id, index)
        async with self._locks.hold_all(first):
            searched = await self._ready_to_search(first)
            existing = await self._points.by_ids(list(first))
            if existing:
                await self._freshness.before_read({})  # as in `create`
                existing = await self._points.by_ids(list(existing))
            new = [index for event_id, index in first.items() if event_id not in existing]
            changed = await self._points.without_start([event_id for event_id in first if event_id not in existing])
            deliver = self._gateway.deliver if together else self._gateway.deliver_each
            encoded = [items[index].encoded for index in new]
            delivered: Sequence[Delivered | NotReady] = await deliver(encoded, searched) if new else []
            outcomes = dict(zip(new, delivered, strict=True))
            bodies_of, created, refused = await self._outcomes(items, outcomes, changed)
        bodies_of |= {str(event_id): found.body.decode() for event_id, found in existing.items()}
        errors: list[dict[str, Any]] = []
        shown: list[str] = []
        for index, item in enumerate(items):
            error = item.error or refused.get(item.event_id or "", "")
            if error:
                errors.append({"index": index, "event_id": item.event_id, "error": error})
            else:
                shown.append(bodies_of[item.event_id or ""])
        stored = [outcome for outcome in delivered if isinstance(outcome, Delivered)]
        position = {"RunLake-Position": _positions(stored)} if stored else self._reflected()
        if bare:
            answer = {
                "inserted": created, "duplicates": len(shown) - created, "errors": errors, "total": len(items),
            }  # fmt: skip
            return json_answer(_encoder.encode(answer), headers=position)
        body = (
            f'{{"runs":[{",".join(shown)}],"total":{len(items)},"created":{created},"existing":{len(shown) - created},'
            f'"failed":{len(errors)},"errors":{_encoder.encode(errors).decode()}}}'
        )
        return json_answer(body.encode(), status=201, headers=position)

    async def _outcomes(
        self, items: Sequence[bodies.Item], outcomes: dict[int, Delivered | NotReady], changed: set[UUID]
    ) -> tuple[dict[str, str], int, dict[str, str]]:
        """The Run objects of what was sent by event_id, how many of them are new, and why others were refused, or not
        taken by their worker. Of `changed`, changes were known before their start."""
        shown: dict[str, str] = {}
        refused: dict[str, str] = {}
        behind: list[UUID] = []
        wanted: dict[UUID, int] = {}
        created = 0
        for index, outcome in outcomes.items():
            message = items[index].message
            if message is None:
                continue
            if isinstance(outcome, NotReady) or outcome.reason:
                why = outcome.detail if isinstance(outcome, NotReady) else outcome.reason
                refused[str(message.event_id)] = why
                continue
            if not outcome.duplicate:
                created += 1
                self._started.note(message, outcome)
            started = None if outcome.duplicate else StartedRun(message)
            if started is None or started.is_priced or message.event_id in changed:
                behind.append(message.event_id)
                wanted[outcome.worker] = max(wanted.get(outcome.worker, 0), outcome.seq)
            else:
                shown[str(message.event_id)] = started.shown(outcome.received_at).decode()
        if behind:
            await self._reach(wanted)
            found = await self._points.by_ids(behind)
            shown |= {str(event_id): run.body.decode() for event_id, run in found.items()}
            if len(found) < len(behind):
                reasons = await self._why_not_shown(one for one in behind if one not in found)
                refused |= {str(event_id): reason for event_id, reason in reasons.items()}
        return shown, created, refused

    async def _stored(self, message: RunStarted, outcome: Delivered, *, first: bool) -> _Stored:
        """What the answer to one start is, once ingest has taken it. `first`: no change of it was known before."""
        _refuse_rejected(outcome)
        if not outcome.duplicate:
            self._started.note(message, outcome)
            started = StartedRun(message)
            if first and not started.is_priced:
                return _Stored(started.shown(outcome.received_at), True)
        await self._reach({outcome.worker: outcome.seq})
        found = (await self._points.by_id(message.event_id)).run
        if found is None:
            why = await self._why_not_shown((message.event_id,))
            raise bodies.InvalidBody(why[message.event_id], "event_id")
        return _Stored(found.body, not outcome.duplicate)

    async def _why_not_shown(self, runs: Iterable[UUID]) -> dict[UUID, str]:
        wanted = tuple(runs)
        return await self._reader.read(lambda snapshot: why_not_shown(snapshot, wanted), with_lake=True)

    async def _ready_to_search(self, names: Iterable[UUID | str]) -> Positions:
        """Wait until the read model can be asked for these runs; returns what it reflects by then at least."""
        await self._reach_own(names)
        self._must_have_caught_up()
        return self._progress.positions

    # Changing

    async def _change(
        self,
        request: web.Request,
        fields: dict[str, Any],
        make: Callable[[UUID, UUID, datetime, dict[str, Any]], Message],
    ) -> web.Response:
        name = request.match_info["run_id"]
        key = idempotency.read_key(request.headers)
        now = self._utcnow()
        run = await self._run_with_id(name, current=not fields)
        if not fields:
            return json_answer(run.body, headers=self._reflected())
        ts = now
        if key is not None:
            ts = idempotency.time_of(key, now) or _EPOCH + timedelta(microseconds=run.start_us)
        message = make(key or self._new_id(), run.event_id, ts, fields)
        (outcome,) = await self._gateway.deliver([bodies.encode(message, now)], changes=run.event_id)
        _refuse_rejected(outcome)
        headers = {"RunLake-Position": _position(outcome)} | (_REPLAYED if outcome.duplicate else {})
        return json_answer(await self._changed(run, message, outcome), headers=headers)

    async def _changed(self, run: Found, message: Message, outcome: Delivered) -> bytes:
        """The Run object once ingest has taken a change of it: computed where all that came before it is known, else
        read back."""
        if isinstance(message, RunUpdated) and not outcome.duplicate:
            read = await self._points.by_id(run.event_id)
            at = read.positions.get(outcome.worker, 0)
            if read.run is not None and at >= outcome.seq:
                return read.run.body
            known = outcome.before <= at and self._gateway.own.alone(outcome.worker, at, outcome.seq)
            body = changed_run(read.run.body, message, outcome.received_at) if read.run is not None and known else None
            if body is not None:
                return body
        await self._reach({outcome.worker: outcome.seq})
        return ((await self._points.by_id(run.event_id)).run or run).body

    async def _run_with_id(self, name: str, *, current: bool) -> Found:
        """The run whose event_id this is, as it stands now, or as it stood. Raises NotFound."""
        try:
            event_id = UUID(name) if len(name) == 36 else None
        except ValueError:
            event_id = None
        if event_id is None:
            raise NotFound(f"Run not found: {name}")
        if not current:  # that there is such a run is all that a change needs to know
            await self._ready_to_search((event_id,))
            found = (await self._points.by_id(event_id)).run
            if found is not None:
                return found
        return await self._look(event_id, name)

    async def _run_of(self, name: str) -> Found:
        """The run that `{run_id}` in a path means. Raises NotFound."""
        await self._ready_to_search((name,))
        found = (await self._points.by_name(name)).run
        return found if found is not None else await self._look(name, name)

    async def _look(self, wanted: UUID | str, name: str) -> Found:
        await self._freshness.before_read({})
        for _ in range(2):
            found = await (self._points.by_id(wanted) if isinstance(wanted, UUID) else self._points.by_name(wanted))
            if found.run is not None:
                return found.run
            of_run = wanted if isinstance(wanted, UUID) else None
            if not await self._freshness.before_not_found(found.positions, of_run):
                break
        raise NotFound(f"Run not found: {name}")

    async def _known_events(self, run: Found, ids: Sequence[UUID]) -> dict[str, str]:
        """Those of these events that the run has, by id, as the API shows them."""
        await self._freshness.catch_up_with_home(run.event_id)
        nothing = Parameters((), ())
        name = str(run.event_id)
        try:
            found = await self._reader.read(
                lambda snapshot: events.list_events(snapshot, name, nothing, with_lake=False, only=ids)
            )
        except events.NeedsLake:
            found = await self._reader.read(
                lambda snapshot: events.list_events(snapshot, name, nothing, with_lake=True, only=ids), with_lake=True
            )
        return {msgspec.json.decode(text)["event_id"]: text for text in found.items}

    # Positions

    async def _reach_own(self, names: Iterable[UUID | str]) -> None:
        """Wait until the read model shows those of these runs that this process has started."""
        wanted = self._started.positions(names)
        if wanted and not reaches(self._progress.positions, wanted):
            await self._reach(wanted)

    async def _reach(self, wanted: dict[UUID, int]) -> None:
        if not await self._freshness.reach(wanted):
            raise NotReady(
                f"It is stored at {format_positions(wanted)}, and the read model does not show that yet. Retrying with"
                " the same event_id, or with the same Idempotency-Key, is safe."
            )

    def _must_have_caught_up(self) -> None:
        if not self._progress.state.caught_up:
            raise self._freshness.not_ready()

    def _reflected(self) -> dict[str, str]:
        return {"RunLake-Position": format_positions(self._progress.positions)}


async def _body(request: web.Request) -> bytes:
    if request.query_string:
        query(request)
    kind = request.content_type
    if "Content-Type" not in request.headers or not (kind == JSON or kind.endswith("+json")):
        raise UnsupportedMediaType(request.headers.get("Content-Type", ""))
    return await request.read()


def _refuse_rejected(outcome: Delivered, at: str = "") -> None:
    """What passed here and not at the worker: its clock is another one."""
    if outcome.reason:
        raise bodies.InvalidBody(outcome.reason, outcome.field, at)


def _time_of(event_id: UUID, now: datetime) -> datetime | None:
    return idempotency.time_of(event_id, now)


def _position(outcome: Delivered) -> str:
    return f"{outcome.worker}:{outcome.seq}"


def _positions(outcomes: Iterable[Delivered]) -> str:
    last: dict[UUID, int] = {}
    for outcome in outcomes:
        last[outcome.worker] = max(last.get(outcome.worker, 0), outcome.seq)
    return format_positions(last)


def _event_text(message: RunEvent) -> str:
    """An event as the API shows it."""
    shown = {
        "event_id": message.event_id,
        "run_id": message.run_id,
        "ts": rfc3339(message.ts),
        "type": message.type,
        "payload": message.payload,
        "trace_id": message.trace_id,
        "span_id": message.span_id,
        "parent_span_id": message.parent_span_id,
    }
    return _encoder.encode(shown).decode()
