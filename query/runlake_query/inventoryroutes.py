"""The routes of what there is, and the shapes of their answers."""

from __future__ import annotations

from msgspec import Struct

from runlake_query.inventory import LAKE_PARAMETERS, VALUE_PARAMETERS, VALUE_REPEATABLE, Inventory
from runlake_query.routes import Route, answer


class Value(Struct):
    """A value of a dimension, and how many of the runs that match have it."""

    value: str
    runs: int


class Values(Struct):
    """The values of a dimension, the most frequent first. `truncated`: there are more."""

    dimension: str
    values: list[Value]
    truncated: bool


class LakeTable(Struct):
    """The Parquet files of one table of the lake."""

    table: str
    files: int
    bytes: int


class LakeFiles(Struct):
    """The Parquet files of the lake, as the newest copy of its catalog has them, and those of each table."""

    files: int
    bytes: int
    tables: list[LakeTable]


def inventory_routes(inventory: Inventory) -> list[Route]:
    """The routes, for the route table."""
    parameters = tuple(dict.fromkeys((*VALUE_PARAMETERS, *VALUE_REPEATABLE)))
    example = {"dimension": "agent_name", "values": [{"value": "crawler", "runs": 12}], "truncated": False}
    return [
        Route(
            method="GET", path="/api/v1/values", handler=inventory.values, parameters=parameters, tagged=True,
            problems=(503,), summary="The values of a `dimension` that begin with `prefix`, of runs that match.",
            answers={200: answer("The most frequent first", Values, example)},
        ),
        Route(
            method="GET", path="/api/v1/lake", handler=inventory.lake, parameters=LAKE_PARAMETERS, tagged=True,
            problems=(503,), summary="How many files the lake has, and how large they are.",
            answers={200: answer("By table, the largest first", LakeFiles)},
        ),
    ]  # fmt: skip
