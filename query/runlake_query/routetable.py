"""Every route of the query process."""

from __future__ import annotations

from typing import Any

from runlake_query import books, rollups, runs
from runlake_query.answers import JSON
from runlake_query.bodies import NewCommit, NewEvent, NewRun, RunChange
from runlake_query.bulkroutes import EXPORTED, bulk_routes
from runlake_query.examples import CHANGE, COMMIT, EVENT, EVENT_SHOWN, RUN, RUN_SHOWN
from runlake_query.exports import Exports
from runlake_query.formats import SQL
from runlake_query.idempotency import HEADER
from runlake_query.reads import AFTER, Reads
from runlake_query.routes import Answer, Route, answer
from runlake_query.schemas import (
    BareBatchResult,
    BatchResult,
    Event,
    Health,
    Metadata,
    PriceTable,
    ProducerList,
    Quarantine,
    Ready,
    Rollup,
    Run,
    RunList,
    Summary,
)
from runlake_query.sql.service import Sql
from runlake_query.statements import rollups_or_sql, runs_or_sql
from runlake_query.status import Status
from runlake_query.streamroutes import stream_routes
from runlake_query.streams import Streams
from runlake_query.writes import Writes

_WRITE = (413, 415, 503)
_ALIVE = {"status": "ok", "version": "0.1.0", "uptime_s": 12.5, "workers_away": []}
_SQL: dict[str, Any] = {SQL.content_type: None}
_LIST = tuple(dict.fromkeys((*runs.LIST_PARAMETERS, *runs.LIST_REPEATABLE)))
_ROLLUP = tuple(dict.fromkeys((*rollups.PARAMETERS, *rollups.REPEATABLE)))


def route_table(
    reads: Reads, writes: Writes, status: Status, streams: Streams, exports: Exports, sql: Sql
) -> list[Route]:
    """The routes, in the order in which they are looked at."""
    return [
        *_status(status),
        *_writing(writes),
        *_reading(reads, exports),
        *stream_routes(streams),
        *bulk_routes(exports, sql),
    ]


def _status(status: Status) -> list[Route]:
    return [
        Route(
            method="GET", path="/health", handler=status.health, open=True,
            summary="Is this process alive? Needs no token.",
            answers={200: answer("Alive", Health, _ALIVE)},
        ),
        Route(
            method="GET", path="/ready", handler=status.ready, problems=(503,),
            summary="Has the read model caught up?",
            answers={200: answer("Caught up", Ready)},
        ),
        Route(
            method="GET", path="/metrics", handler=status.metrics, problems=(503,),
            summary="Prometheus text; with `Accept: application/json` a summary in JSON.",
            answers={200: Answer("Metrics", {"text/plain": None, JSON: Summary})},
        ),
    ]  # fmt: skip


def _writing(writes: Writes) -> list[Route]:
    batch: Any = {"runs": [RUN]}
    return [
        Route(
            method="POST", path="/api/v1/runs", handler=writes.create, body=NewRun, body_example=RUN, problems=_WRITE,
            summary="Create a run. The same event_id again answers the run as it stands, and changes nothing.",
            answers={201: answer("The run", Run, RUN_SHOWN)},
        ),
        Route(
            method="POST", path="/api/v1/runs/batch", handler=writes.create_batch, body=list[NewRun],
            body_example=batch, problems=_WRITE,
            summary="Create up to 1,000 runs; the good ones are stored, the bad ones are listed.",
            answers={
                201: answer("What became of each", BatchResult),
                200: answer("The same for a bare array", BareBatchResult),
            },
        ),
        Route(
            method="POST", path="/api/v1/runs/batch-transactional", handler=writes.create_all_or_none,
            body=list[NewRun], body_example=batch, problems=_WRITE,
            summary="Create up to 1,000 runs, all or none.",
            answers={
                201: answer("All are stored", BatchResult),
                200: answer("The same for a bare array", BareBatchResult),
            },
        ),
        Route(
            method="PATCH", path="/api/v1/runs/{run_id}", handler=writes.change, body=RunChange, body_example=CHANGE,
            headers=(HEADER,), problems=(404, *_WRITE), by_event_id=True,
            summary="Replace fields of a run. What is absent or null stays; identity fields are refused.",
            answers={200: answer("The run as it stands now", Run, RUN_SHOWN)},
        ),
        Route(
            method="POST", path="/api/v1/runs/{run_id}/associate-commit", handler=writes.associate_commit,
            body=NewCommit, body_example=COMMIT, headers=(HEADER,), problems=(404, *_WRITE), by_event_id=True,
            summary="Say that a commit came of a run. The latest one is the run's commit; its history keeps all.",
            answers={200: answer("The run as it stands now", Run, RUN_SHOWN)},
        ),
        Route(
            method="POST", path="/api/v1/runs/{run_id}/events", handler=writes.append_events,
            body=NewEvent | list[NewEvent], body_example=EVENT, headers=(HEADER,), problems=(404, *_WRITE),
            summary="Append one event, or an array of up to 1,000.",
            answers={201: answer("The event, or the events", Event | list[Event], EVENT_SHOWN)},
        ),
    ]  # fmt: skip


def _reading(reads: Reads, exports: Exports) -> list[Route]:
    return [
        Route(
            method="GET", path="/api/v1/runs", handler=runs_or_sql(exports.runs(reads.runs)),
            parameters=("format", *_LIST), tagged=True, problems=(503,),
            summary="List runs, newest start first or by `order_by`; or export all that match, in no particular order.",
            answers={200: Answer("One page, an export, or the question as SQL", {JSON: RunList, **EXPORTED, **_SQL})},
        ),
        Route(
            method="GET", path="/api/v1/runs/{run_id}", handler=reads.run, parameters=AFTER, tagged=True,
            problems=(404, 503), summary="The most recently created run of that run_id, or the run of that event_id.",
            answers={200: answer("The run", Run, RUN_SHOWN)},
        ),
        Route(
            method="GET", path="/api/v1/metadata", handler=reads.metadata, parameters=AFTER, problems=(503,),
            summary="Which agents and jobs there are.",
            answers={200: answer("Distinct and sorted", Metadata)},
        ),
        Route(
            method="GET", path="/api/v1/rollups", handler=rollups_or_sql(exports.rollups(reads.rollups)),
            parameters=("format", *_ROLLUP), tagged=True,
            problems=(503,), summary="Measures of runs, by dimensions and buckets of time; or all groups as an export.",
            answers={200: Answer("The groups and their totals, an export, or SQL", {JSON: Rollup, **EXPORTED, **_SQL})},
        ),
        Route(
            method="GET", path="/api/v1/producers", handler=reads.producers, parameters=books.PRODUCER_PARAMETERS,
            tagged=True, problems=(503,), summary="The books: what each producer sent, and what became of it.",
            answers={200: answer("One row for each producer and worker", ProducerList)},
        ),
        Route(
            method="GET", path="/api/v1/prices", handler=reads.prices, parameters=AFTER, tagged=True, problems=(503,),
            summary="The price list that costs are computed by, and how many runs still show costs by another one.",
            answers={200: answer("The whole list", PriceTable)},
        ),
        Route(
            method="GET", path="/api/v1/quarantine", handler=reads.quarantine, parameters=books.QUARANTINE_PARAMETERS,
            tagged=True, problems=(503,), summary="Messages that were refused, the latest first.",
            answers={200: answer("One page", Quarantine)},
        ),
    ]  # fmt: skip
