"""The routes that stay open and tell what happens."""

from __future__ import annotations

from runlake_query import events
from runlake_query.answers import JSON, NDJSON
from runlake_query.examples import EVENT_SHOWN
from runlake_query.routes import Answer, Route
from runlake_query.schemas import Event
from runlake_query.streams import EVENT_STREAM, LAST_EVENT_ID, PARAMETERS, REPEATABLE, Streams

_STREAM = tuple(dict.fromkeys((*PARAMETERS, *REPEATABLE)))


def stream_routes(streams: Streams) -> list[Route]:
    return [
        Route(
            method="GET", path="/api/v1/stream", handler=streams.stream, parameters=_STREAM, headers=(LAST_EVENT_ID,),
            problems=(503,), summary="Changes of runs, and run events, as server-sent events.",
            answers={200: Answer(
                "Events named run, event, stale, revived, coalesced, lost, position, dropped; the id is a position",
                {EVENT_STREAM: None},
            )},
        ),
        Route(
            method="GET", path="/api/v1/runs/{run_id}/events", handler=streams.events, parameters=events.PARAMETERS,
            headers=(LAST_EVENT_ID,), problems=(404, 503),
            summary="The events of a run, by time; `Accept` asks for lines, or for them as they happen.",
            answers={200: Answer("The events", {JSON: list[Event], NDJSON: None, EVENT_STREAM: None}, [EVENT_SHOWN])},
        ),
    ]  # fmt: skip
