"""`?format=sql`: what a list or a rollup asks, as one SELECT over the documented view `runs` (docs/sql.md).

It is text to be read, changed, and run by `POST /api/v1/sql`, `runlake sql` or any DuckDB with such a view. Measures
and filters are those of `measures.sql` and `filters.sql`, so that both say the same. Buckets without runs are not made.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

from runlake.sqlfile import load_queries
from runlake_query import rollups, runorder, runs
from runlake_query.filters import Where, where
from runlake_query.formats import SQL
from runlake_query.parameters import Parameters
from runlake_query.problems import InvalidParameter
from runlake_query.rollups import MEASURES, Plan
from runlake_query.routes import Handler
from runlake_query.staleclock import stale_clock

_SQL = load_queries("runlake_query", "statements.sql")
_BOUND = re.compile(r"\$(\w+)")
_SHORT_BUCKETS = ("minute", "hour")
_NOT_IN_VIEW = ("events", "stale")
"""Measures of what the view `runs` does not have."""


def runs_or_sql(otherwise: Handler) -> Handler:
    """`GET /api/v1/runs`, answered by `otherwise` where no SQL is wanted."""
    return _or_sql(otherwise, runs.LIST_PARAMETERS, runs.LIST_REPEATABLE, runs_statement)


def rollups_or_sql(otherwise: Handler) -> Handler:
    """`GET /api/v1/rollups`, answered by `otherwise` where no SQL is wanted."""
    return _or_sql(otherwise, rollups.PARAMETERS, rollups.REPEATABLE, rollup_statement)


def _or_sql(
    otherwise: Handler, known: tuple[str, ...], repeatable: tuple[str, ...], make: Callable[[Parameters], str]
) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        if request.query.get("format") != SQL.name:
            return await otherwise(request)
        parameters = Parameters(request.query.items(), ("format", *known), repeatable, stale_clock(request))
        body = make(parameters).encode()
        return web.Response(body=body, headers={"Content-Type": f"{SQL.content_type}; charset=utf-8"})

    return handle


def runs_statement(parameters: Parameters) -> str:
    """A page of the list, by `limit` alone. Raises InvalidParameter."""
    for name in ("cursor", "offset"):
        if parameters.text(name) is not None:
            raise InvalidParameter(name, "has no SQL; take another range or limit")
    order = runorder.order(parameters) or runorder.NEWEST
    return _SQL["runs"].format(where=_literally(_condition(parameters)), order=order.sql, limit=parameters.limit())


def rollup_statement(parameters: Parameters) -> str:
    """Its rows; its one row of totals where nothing is grouped. Raises InvalidParameter."""
    plan = rollups.plan(parameters)
    named = parameters.words("measures") or ()
    for name in named:
        if name in _NOT_IN_VIEW:
            raise InvalidParameter("measures", f"{name!r} has no SQL: the view runs does not have it")
    measures = [name for name in plan.measures if name not in _NOT_IN_VIEW]
    columns = [*plan.dimensions, *([f"{_bucket(plan)} AS bucket"] if plan.bucket else [])]
    columns += [f"{MEASURES[name].replace('{', '').replace('}', '')} AS {name}" for name in measures]
    text = ",\n    ".join(columns)
    condition = _literally(_condition(parameters))
    if not plan.keys:
        return _SQL["totals"].format(columns=text, where=condition)
    keys = ", ".join(str(number + 1) for number in range(len(plan.keys)))
    order = [f"{name} {'DESC' if descends else 'ASC'} NULLS LAST" for name, descends in plan.order]
    order += [f"{name} ASC NULLS LAST" for name in plan.keys]
    return _SQL["rollup"].format(columns=text, where=condition, keys=keys, order=", ".join(order), limit=plan.limit)


def _condition(parameters: Parameters) -> Where:
    if parameters.boolean("stale") is not None:
        raise InvalidParameter("stale", "has no SQL: the view runs does not say which runs are stale")
    return where(parameters)


def _bucket(plan: Plan) -> str:
    name = "short_bucket" if plan.bucket in _SHORT_BUCKETS else "long_bucket"
    return _SQL[name].format(time="start_time", bucket=_literal(plan.bucket), zone=_literal(plan.zone))


def _literally(condition: Where) -> str:
    """The condition with its values in it. They are put in in one pass: nothing in a value is looked at again."""
    values: Mapping[str, Any] = condition.values
    return _BOUND.sub(lambda match: _literal(values[match[1]]), condition.sql)


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    return "'" + str(value).replace("'", "''") + "'"
