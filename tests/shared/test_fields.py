"""The run fields are told in five places: messages, the field table, the migration, the fold. They tell the same."""

from __future__ import annotations

import re
from datetime import datetime
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin
from uuid import UUID

import duckdb
import msgspec
import pytest
from msgspec import inspect

from runlake.fields import CHANGE_FIELDS, RUN_FIELD_NAMES, RUN_FIELDS, Role
from runlake.lake import duck
from runlake.lake.schema import changes_query, fold_query, present_query, runs_view_query
from runlake.messages import MAX_COUNT, CommitAssociated, RunEvent, RunStarted, RunUpdated
from runlake.validation import COST_STEP, MAX_COST

CHANGE_ONLY = ["worker", "seq", "received_at", "producer", "kind", "event_id", "run_event_id", "ts"]
EVENT_ONLY = ["worker", "seq", "received_at", "producer"]


@pytest.fixture
def tables() -> duckdb.DuckDBPyConnection:
    """The tables of the newest schema, in a plain DuckDB."""
    connection = duck.connect()
    folder = files("runlake.lake").joinpath("migrations")
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        if file.name.endswith(".sql"):
            connection.execute(file.read_text("utf-8"))
    return connection


def columns(connection: duckdb.DuckDBPyConnection, query: str) -> dict[str, str]:
    rows = connection.execute(f"DESCRIBE {query}").fetchall()
    return {name: kind.replace("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ") for name, kind, *_ in rows}


def plain_type(kind: Any) -> inspect.Type:
    """The type of a field without its None."""
    info = inspect.type_info(kind)
    if isinstance(info, inspect.UnionType):
        (info,) = (part for part in info.types if not isinstance(part, inspect.NoneType))
    return info


def sql_type(kind: Any) -> str:
    """The column that everything of this type fits."""
    match plain_type(kind):
        case inspect.StrType() | inspect.LiteralType():
            return "VARCHAR"
        case inspect.IntType(ge=0, le=most) if most == MAX_COUNT:
            return "BIGINT"
        case inspect.DateTimeType(tz=True):
            return "TIMESTAMPTZ"
        case inspect.DecimalType():
            return "DECIMAL(18,9)"
        case inspect.UUIDType():
            return "UUID"
        case inspect.DictType():
            return "JSON"
        case other:
            raise AssertionError(f"no column fits {other}")


def struct_fields(kind: type[msgspec.Struct]) -> dict[str, str]:
    return {field.name: sql_type(field.type) for field in msgspec.structs.fields(kind)}


def test_the_field_names_are_unique_and_those_of_the_table() -> None:
    assert len(set(RUN_FIELD_NAMES)) == len(RUN_FIELD_NAMES) == len(RUN_FIELDS)


def test_a_start_sets_every_field_that_runlake_does_not_set_itself() -> None:
    given = {field.name: field.sql_type for field in RUN_FIELDS if field.role is not Role.SYSTEM}
    assert struct_fields(RunStarted) == given


def test_an_update_sets_the_updatable_fields_and_no_others() -> None:
    updatable = {field.name: field.sql_type for field in RUN_FIELDS if field.role is Role.UPDATABLE}
    own = {"event_id": "UUID", "run_event_id": "UUID", "ts": "TIMESTAMPTZ"}
    assert struct_fields(RunUpdated) == updatable | own


def test_an_associated_commit_sets_fields_of_a_run_with_their_types() -> None:
    known = {field.name: field.sql_type for field in RUN_FIELDS} | {"run_event_id": "UUID", "ts": "TIMESTAMPTZ"}
    assert struct_fields(CommitAssociated).items() <= known.items()


@pytest.mark.parametrize("kind", [RunStarted, RunUpdated, CommitAssociated, RunEvent])
def test_every_text_and_number_of_a_message_is_bounded(kind: type[msgspec.Struct]) -> None:
    for field in msgspec.structs.fields(kind):
        match plain_type(field.type):
            case inspect.StrType(max_length=longest, pattern=pattern):
                assert longest is not None or pattern is not None, field.name
            case inspect.IntType(ge=least, le=most):
                assert (least, most) == (0, 2**63 - 1), field.name
            case _:
                pass


@pytest.mark.parametrize("kind", [RunStarted, RunUpdated, CommitAssociated, RunEvent])
def test_what_a_message_need_not_give_is_none(kind: type[msgspec.Struct]) -> None:
    for field in msgspec.structs.fields(kind):
        optional = NoneType in get_args(field.type) or NoneType in get_args(get_origin(field.type) or ())
        assert (field.default is None) == optional == (not field.required), field.name


def test_the_change_table_has_a_column_of_its_type_for_each_field(tables: duckdb.DuckDBPyConnection) -> None:
    found = columns(tables, "run_changes")
    assert list(found) == [*CHANGE_ONLY, *(field.name for field in CHANGE_FIELDS)]
    assert {field.name: found[field.name] for field in CHANGE_FIELDS} == {
        field.name: field.sql_type for field in CHANGE_FIELDS
    }


def test_the_event_table_has_a_column_of_its_type_for_each_field(tables: duckdb.DuckDBPyConnection) -> None:
    found = columns(tables, "events")
    assert {name: kind for name, kind in found.items() if name not in EVENT_ONLY} == struct_fields(RunEvent)


def test_what_a_message_must_give_is_not_null_in_its_table(tables: duckdb.DuckDBPyConnection) -> None:
    required = {field.name for field in msgspec.structs.fields(RunEvent) if field.required}
    rows = tables.execute("DESCRIBE events").fetchall()
    assert {name for name, _, null, *_ in rows if null == "NO"} == required | set(EVENT_ONLY)
    rows = tables.execute("DESCRIBE run_changes").fetchall()
    assert {name for name, _, null, *_ in rows if null == "NO"} == set(CHANGE_ONLY)


def test_the_fold_gives_every_field_with_its_type(tables: duckdb.DuckDBPyConnection) -> None:
    found = columns(tables, fold_query(changes_query("run_changes")))
    given = {field.name: field.sql_type for field in RUN_FIELDS if field.role is not Role.SYSTEM}
    own = {"created_at": "TIMESTAMPTZ", "updated_at": "TIMESTAMPTZ", "created_seq": "BIGINT", "seq": "BIGINT"}
    assert found == given | own | {"worker": "UUID"}


def test_runs_are_shown_with_every_field_in_order_and_with_its_type(tables: duckdb.DuckDBPyConnection) -> None:
    shown = columns(tables, runs_view_query())
    assert list(shown.items()) == [(field.name, field.sql_type) for field in RUN_FIELDS]
    folded = f"({fold_query(changes_query('run_changes'))})"
    assert columns(tables, present_query(folded)) == shown


VALUES: dict[str, list[Any]] = {
    "BIGINT": [0, MAX_COUNT],
    "DECIMAL(18,9)": [COST_STEP, MAX_COST - COST_STEP, Decimal("0E-9")],
    "TIMESTAMPTZ": ["1970-01-01T00:00:00Z", "1969-12-31T23:30:00-01:00", "2026-01-28T10:30:00.000001+14:00"],
    "UUID": [UUID(int=0), UUID(int=2**128 - 1)],
    "VARCHAR": ["", "\x00", "𝕏" * 1_024, "\x01" * 65_536, '{"not": "json'],
    "JSON": [{}, {"n": [2**64 - 1, -(2**63), 1e308, 5e-324, None]}, {"\x00": "\x00" * 100}],
}
"""The bounds of what is accepted, for each type of column."""


@pytest.mark.parametrize("kind", VALUES)
def test_the_bounds_of_what_is_accepted_fit_the_column_when_read_from_json(kind: str, tmp_path: Path) -> None:
    """The worker stores what it accepted by having DuckDB read lines of JSON."""
    assert {field.sql_type for field in RUN_FIELDS} == set(VALUES)
    file = tmp_path / "values.ndjson"
    file.write_bytes(b"".join(msgspec.json.encode({"value": value}) + b"\n" for value in VALUES[kind]))
    read = duck.connect().execute(
        f"SELECT value::VARCHAR FROM read_json(?, format = 'newline_delimited', columns = {{value: '{kind}'}})",
        [str(file)],
    )
    stored = [row[0] for row in read.fetchall()]
    match kind:
        case "VARCHAR":
            assert stored == VALUES[kind]
        case "JSON":
            assert [msgspec.json.decode(text) for text in stored] == VALUES[kind]
        case "TIMESTAMPTZ":
            assert [datetime.fromisoformat(text) for text in stored] == [
                datetime.fromisoformat(text) for text in VALUES[kind]
            ]
        case "UUID":
            assert [UUID(text) for text in stored] == VALUES[kind]
        case _:
            assert [Decimal(text) for text in stored] == VALUES[kind]


def test_the_largest_cost_is_the_largest_that_its_column_holds() -> None:
    (kind,) = {field.sql_type for field in RUN_FIELDS if field.name == "cost_usd"}
    digits, decimals = map(int, re.findall(r"\d+", kind))
    assert Decimal(10) ** (digits - decimals) == MAX_COST
    assert Decimal(1).scaleb(-decimals) == COST_STEP
