"""The order of a list of runs: the newest start first, or `order_by` a column, nulls last, then the newest start.

A page begins after the last run of the page before: its cursor holds that run's value of the column, and its place.
"""

from __future__ import annotations

from typing import Any, NamedTuple
from uuid import UUID

from msgspec import Struct

from runlake.fields import RUN_FIELDS
from runlake.sqlfile import load_queries
from runlake_query.newest import Place
from runlake_query.parameters import Microseconds, Parameters, encode_cursor, one_of
from runlake_query.problems import InvalidParameter
from runlake_query.reader import Snapshot

_SQL = load_queries("runlake_query", "runorder.sql")
_TEXTS = ("input_summary", "output_summary", "error_summary", "error_details")
"""Too long for a cursor; nobody sorts by them."""
COLUMNS: dict[str, str] = {
    field.name: field.sql_type for field in RUN_FIELDS if field.sql_type != "JSON" and field.name not in _TEXTS
}
"""What lists are sorted by, and its type."""


class Order(NamedTuple):
    """A column, and whether its largest values come first."""

    column: str
    descends: bool

    @property
    def word(self) -> str:
        """As it was asked for."""
        return f"{'-' if self.descends else ''}{self.column}"

    @property
    def sql(self) -> str:
        """What follows ORDER BY."""
        if self == NEWEST:
            return _SQL["newest"]
        return _SQL["order"].format(column=self.column, direction="DESC" if self.descends else "ASC")


NEWEST = Order("start_time", True)
"""The order of a list that names none."""


class SortedCursor(Struct, array_like=True, frozen=True):
    """The order, and the last run of a page: its value as text, its start in microseconds, its event_id."""

    order: str
    value: str | None
    start_us: Microseconds
    event_id: UUID


class SortedPage(NamedTuple):
    """Where the runs of a page are, and the cursor of the next page when there is one."""

    places: list[Place]
    next_cursor: str | None


def order(parameters: Parameters) -> Order | None:
    """What `order_by` asks for; None for the newest first. Raises InvalidParameter."""
    word = parameters.text("order_by")
    if not word:
        return None
    found = Order(one_of("order_by", word.removeprefix("-"), COLUMNS), word.startswith("-"))
    return None if found == NEWEST else found


def sorted_page(
    snapshot: Snapshot, parameters: Parameters, asked: Order, where: str, values: dict[str, Any], limit: int
) -> SortedPage:
    """A page in this order. Raises InvalidParameter."""
    conditions, values = [where], dict(values)
    cursor = parameters.cursor(SortedCursor)
    if cursor is not None:
        if cursor.order != asked.word:
            raise InvalidParameter("cursor", "belongs to a list in another order")
        name = "after_null" if cursor.value is None else "after_value"
        beyond = _SQL[name].format(
            column=asked.column, sql_type=COLUMNS[asked.column], beyond="<" if asked.descends else ">"
        )
        conditions.append(beyond)
        values |= {"cursor_time": cursor.start_us, "cursor_id": str(cursor.event_id)}
        if cursor.value is not None:
            values["cursor_value"] = cursor.value
    query = _SQL["page"].format(column=asked.column, where=" AND ".join(conditions), order=asked.sql)
    rows = snapshot.rows(query, values | {"rows": limit + 1, "skip": parameters.offset()})
    places = [Place(start_us, UUID(event_id)) for start_us, event_id, _ in rows[:limit]]
    if len(rows) <= limit:
        return SortedPage(places, None)
    return SortedPage(places, encode_cursor(SortedCursor(asked.word, rows[limit - 1][2], *places[-1])))
