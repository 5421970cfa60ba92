"""Asking a RunLake from a notebook or a script: plain rows, and a table of pandas or Arrow when it is asked for.

    lake = runlake.connect("http://127.0.0.1:8765")
    lake.rollup(group_by="agent_name", bucket="day", since="2026-01-01T00:00:00Z").to_pandas()
    lake.runs(status="failure", limit=20)
    lake.sql("SELECT model, sum(cost_usd) AS usd FROM runs WHERE start_time >= $since GROUP BY ALL", since="2026-01-01")

HTTP is that of the standard library. Times are datetimes with a zone, costs and decimals are `Decimal`, ids are texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode

from runlake.clienthttp import ClientHttp, Download
from runlake.clientrows import Rows, column_kinds, typed
from runlake.fields import RUN_FIELDS

_RUN_KINDS = column_kinds({field.name: field.sql_type for field in RUN_FIELDS})
_EVENT_KINDS = column_kinds({"ts": "TIMESTAMPTZ"})
_PAGE = 1_000

Filter = str | int | bool | datetime | list[str] | tuple[str, ...] | None
"""The value of a filter: one, several (any of them), or none."""


def connect(url: str = "http://127.0.0.1:8765", token: str | None = None, *, timeout_s: float = 120.0) -> Client:
    """A client of the RunLake whose HTTP API is at `url`. Nothing is sent yet. Raises ValueError for no address."""
    return Client(url, token, timeout_s=timeout_s)


class Client:
    """One RunLake, at `url`. Every method raises ApiUnreachable, ApiBusy or ApiRefused, which say what to do.

    Filters are those of `GET /api/v1/runs`: `status="failure"`, `agent_name=["a", "b"]`, `start_time_from=datetime`, …;
    `since` and `until` are other names of `start_time_from` and `start_time_to`. `after`, a position, waits for it.
    """

    def __init__(self, url: str, token: str | None = None, *, timeout_s: float = 120.0) -> None:
        self._http = ClientHttp(url, token, timeout_s)

    def rollup(
        self,
        group_by: str | list[str] | None = None,
        *,
        bucket: str | None = None,
        tz: str | None = None,
        measures: str | list[str] | None = None,
        order_by: str | list[str] | None = None,
        limit: int = _PAGE,
        **filters: Filter,
    ) -> Rows:
        """Runs counted and summed: one row for each group and bucket. `.totals` is the row of all of them.

        The API gives the first `limit` rows, 1,000 at most; `.truncated` says whether there are more.
        """
        asked = {
            "group_by": _words(group_by), "bucket": bucket, "tz": tz, "measures": _words(measures),
            "order_by": _words(order_by), "limit": limit,
        }  # fmt: skip
        answer = self._get("/api/v1/rollups", {**asked, **filters})
        names = answer.value["totals"].keys() | {"bucket"}
        kinds = column_kinds(
            {name: "TIMESTAMPTZ" for name in names if name == "bucket" or name.endswith("_time")}
            | {"cost_usd": "DECIMAL(38,9)"}
        )
        rows = typed(answer.value["rows"], kinds)
        (totals,) = typed([answer.value["totals"]], kinds)
        return Rows(rows, answer.position, truncated=answer.value["truncated"], totals=totals)

    def runs(self, *, limit: int | None = None, **filters: Filter) -> Rows:
        """Runs, newest start first: the first `limit`, or all that match, page by page.

        Pages are stable while runs arrive; for millions of runs, `runlake export runs` is the better tool.
        """
        found: list[dict[str, Any]] = []
        cursor = None
        while True:
            size = _PAGE if limit is None else min(_PAGE, limit - len(found))
            answer = self._get("/api/v1/runs", {"limit": size, "cursor": cursor, **filters})
            found += typed(answer.value["runs"], _RUN_KINDS)
            cursor = answer.value["next_cursor"]
            done = cursor is None or (limit is not None and len(found) >= limit)
            if done:
                return Rows(found, answer.position, truncated=cursor is not None)

    def run(self, run_id: str) -> dict[str, Any]:
        """One run: the latest of that run_id, or that of that event_id. Raises ApiRefused when there is none."""
        (row,) = typed([self._get(f"/api/v1/runs/{quote(run_id, safe='')}", {}).value], _RUN_KINDS)
        return row

    def events(self, run_id: str, *, type: str | None = None) -> Rows:
        """The events of one run, by time."""
        answer = self._get(f"/api/v1/runs/{quote(run_id, safe='')}/events", {"type": type})
        return Rows(typed(answer.value, _EVENT_KINDS), answer.position)

    def sql(
        self, statement: str, parameters: list[Any] | None = None, *, limit: int | None = None, **named: Any
    ) -> Rows:
        """The rows of one SELECT over the views `runs` and `events`; `named` values are bound to `$name`.

        The server cuts results at `limit` rows (default 10,000), and says so in `.truncated`.
        """
        if parameters is not None and named:
            raise TypeError("give parameters as a list or by name, not both")
        body = {"sql": statement, "parameters": parameters if parameters is not None else named}
        answer = self._http.post("/api/v1/sql", body | ({"limit": limit} if limit is not None else {}))
        kinds = column_kinds({column["name"]: column["type"] for column in answer.value["columns"]})
        rows = typed(answer.value["rows"], kinds)
        return Rows(rows, answer.position, truncated=answer.value["truncated"])

    def download(self, path: str, parameters: Mapping[str, Filter]) -> Download:
        """An export as it comes, in pieces; enter it with `with`."""
        return self._http.download(_url(path, parameters))

    def _get(self, path: str, parameters: Mapping[str, Filter]) -> Any:
        return self._http.get(_url(path, parameters))


def _url(path: str, parameters: Mapping[str, Filter]) -> str:
    pairs: list[tuple[str, str]] = []
    for given, value in parameters.items():
        name = {"since": "start_time_from", "until": "start_time_to"}.get(given, given)
        values = value if isinstance(value, list | tuple) else [value]
        pairs += [(name, _text(item)) for item in values if item is not None]
    return f"{path}?{urlencode(pairs)}" if pairs else path


def _text(value: object) -> str:
    match value:
        case datetime():
            return value.astimezone().isoformat() if value.tzinfo is None else value.isoformat()
        case bool():
            return "true" if value else "false"
        case _:
            return str(value)


def _words(value: str | list[str] | None) -> str | None:
    return ",".join(value) if isinstance(value, list) else value
