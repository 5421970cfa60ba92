"""The routes of exports and of SQL, and what the OpenAPI document says of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runlake_query.answers import JSON
from runlake_query.exports import EVENT_PARAMETERS, EVENT_REPEATABLE, Exports
from runlake_query.formats import EXPORTS
from runlake_query.routes import Answer, Route
from runlake_query.sql.service import FORMATS, PARAMETERS, Sql, SqlResult, Statement

EXPORTED: Mapping[str, Any] = {kind.content_type: None for kind in EXPORTS}
"""The content types of an export, for an Answer."""
_EXAMPLE = {
    "sql": "SELECT agent_name, count(*) AS runs FROM runs WHERE status = $status GROUP BY ALL ORDER BY runs DESC",
    "parameters": {"status": "failure"},
}


def bulk_routes(exports: Exports, sql: Sql) -> list[Route]:
    """`GET /api/v1/events` and `POST /api/v1/sql`."""
    return [
        Route(
            method="GET", path="/api/v1/events", handler=exports.events, problems=(503,),
            parameters=tuple(dict.fromkeys((*EVENT_PARAMETERS, *EVENT_REPEATABLE))),
            summary="Export run events, or those of the runs that match, the oldest first; NDJSON by default.",
            answers={200: Answer("All that match, at one position", EXPORTED)},
        ),
        Route(
            method="POST", path="/api/v1/sql", handler=sql.sql, parameters=PARAMETERS, body=Statement,
            body_example=_EXAMPLE, problems=(413, 415, 503),
            summary="Run one SELECT over the views `runs` and `events`. Off (403) unless it is enabled.",
            answers={
                200: Answer(
                    "The rows, at one position", {JSON: SqlResult, **{kind.content_type: None for kind in FORMATS}}
                )
            },
        ),
    ]  # fmt: skip
