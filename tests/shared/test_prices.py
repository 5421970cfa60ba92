"""Price lists: as they are read, as they come with RunLake, and as `runlake reprice` puts them in force."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from runlake.errors import InvalidPrices
from runlake.lake import duck, schema
from runlake.lake.attach import CATALOG, attach_for_writing
from runlake.lake.durability import ParquetSync
from runlake.lake.place import LakePlace
from runlake.prices import Price, built_in_prices, parse_prices
from support.api import Api
from support.runlake_command import Command

GOOD = """
[[price]]
model = "big"
from = 2025-01-31
input = 2.5
output = 10
cache_read = 0.000000001

[[price]]
model = "big"
from = 2025-01-01
input = 0
output = 1
"""


def test_a_list_is_read_exactly_and_in_order() -> None:
    found = parse_prices(GOOD, "mine.toml")
    assert found.source == "mine.toml"
    assert found.prices == (
        Price("big", datetime(2025, 1, 1, tzinfo=UTC), Decimal(0), Decimal(1)),
        Price("big", datetime(2025, 1, 31, tzinfo=UTC), Decimal("2.5"), Decimal(10), Decimal("0.000000001")),
    )


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("input = 2.5", "", "x.toml, price 1 (line 2): input is missing."),
        ("input = 0", "inputs = 0", "x.toml, price 2 (line 9): inputs is not known; there are model, from, input,"),
        ("output = 1\n", "output = -1\n", "price 2 (line 9): output must be at least 0 and below 10^9, not -1."),
        ("output = 10", "output = 1000000000", "price 1 (line 2): output must be at least 0 and below 10^9"),
        ("output = 10", "output = nan", "price 1 (line 2): output must be at least 0 and below 10^9, not NaN."),
        ("input = 2.5", 'input = "2.5"', "input must be a number of dollars per million tokens, not '2.5'."),
        ("input = 2.5", "input = true", "input must be a number of dollars per million tokens, not True."),
        ("0.000000001", "0.0000000001", "cache_read may have 9 decimals, not more"),
        ("2025-01-31", '"2025-01-31"', "from must be a day, as in 2026-01-31 without quotes"),
        ("2025-01-31", "2025-01-31T10:00:00Z", "from must be a day"),
        ("2025-01-31", "2025-01-01", "price 2 (line 9): from: 'big' has a price from 2025-01-01 already."),
        ('model = "big"\nfrom = 2025-01-31', 'model = ""\nfrom = 2025-01-31', "model must be a text of 1 to"),
        ("[[price]]", "[[prices]]", "x.toml: prices is not known; there are price, as_of."),
        ("output = 10", "output =", "x.toml: this is no TOML: Invalid value (at line 6"),
        (GOOD, "", "x.toml: there is no [[price]] in it"),
        (GOOD, "price = []", "x.toml: there is no [[price]] in it"),
        (GOOD, "price = [1]", "x.toml, price 1: it must be a table."),
    ],
)
def test_a_wrong_list_is_refused_with_the_entry_and_the_key(before: str, after: str, said: str) -> None:
    assert before in GOOD
    with pytest.raises(InvalidPrices) as refused:
        parse_prices(GOOD.replace(before, after), "x.toml")
    assert said in str(refused.value)


def test_the_list_that_comes_with_runlake_says_of_what_day_it_is() -> None:
    found = built_in_prices()
    assert found.source.startswith("built-in, public list prices as of 20")
    assert {"gpt-4o", "claude-sonnet-4-5"} <= {price.model for price in found.prices}
    assert all(price.cache_read is None or price.cache_read < price.input < price.output for price in found.prices)


def test_a_lake_of_the_first_schema_gets_the_table_with_the_list_and_keeps_its_runs(tmp_path: Path) -> None:
    migrations = schema._migrations()
    with duck.connect() as connection:
        attach_for_writing(connection, LakePlace.of_files(tmp_path / "catalog.sqlite", tmp_path / "lake"))
        connection.execute(f"USE {CATALOG}")
        connection.execute(migrations[0][1])
        connection.execute("INSERT INTO identity VALUES (?, now())", [str(uuid4())])
        connection.execute("INSERT INTO schema_migrations VALUES (1, now())")
        run = str(uuid4())
        connection.execute(
            "INSERT INTO run_changes BY NAME SELECT ?::UUID AS worker, 1 AS seq, now() AS received_at, 'p' AS producer,"
            " 'run.started' AS kind, ?::UUID AS event_id, ?::UUID AS run_event_id, now() AS ts, 'r' AS run_id,"
            " TIMESTAMPTZ '2025-03-01 00:00:00+00' AS start_time, 'gpt-4o-2024-11-20' AS model, 1000 AS input_tokens",
            [run, run, run],
        )
        connection.execute("USE memory")
        assert schema.check_version(connection, CATALOG) == 1
        schema.migrate(connection, CATALOG, uuid4(), ParquetSync(tmp_path / "lake"))
        assert schema.stored_version(connection, CATALOG) == len(migrations)
        lists = connection.execute(f"SELECT DISTINCT version, source FROM {CATALOG}.prices").fetchall()
        assert lists == [(1, built_in_prices().source)]
        count = connection.execute(f"SELECT count(*) FROM {CATALOG}.prices").fetchone()
        assert count == (len(built_in_prices().prices),)
        shown = connection.execute(f"SELECT cost_usd, cost_source, cost_table_version FROM {CATALOG}.runs").fetchall()
        assert shown == [(Decimal("0.0025"), "computed", "1")]
        schema.migrate(connection, CATALOG, uuid4(), ParquetSync(tmp_path / "lake"))
        assert connection.execute(f"SELECT count(*) FROM {CATALOG}.prices").fetchone() == count


@pytest.fixture(scope="module")
def runlake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """RunLake, running."""
    command = Command(tmp_path_factory.mktemp("prices"))
    with command.up():
        yield command


def start(run: str, **fields: Any) -> dict[str, Any]:
    given = {"event_id": run, "run_id": run, "agent_name": "a", "job_type": "j", "start_time": "2025-03-01T00:00:00Z"}
    return given | fields


def cost(api: Api, run: str) -> tuple[Any, ...]:
    shown = api.ok(f"/api/v1/runs/{run}")
    return shown["cost_usd"], shown["cost_source"], shown["cost_table_version"]


def test_reprice_puts_a_list_in_force_while_runlake_runs_and_waits_for_its_costs(runlake: Command) -> None:
    api = Api(f"http://{runlake.http}")
    computed, reported, unknown = str(uuid4()), str(uuid4()), str(uuid4())
    made = api.post("/api/v1/runs", start(computed, metrics_json={"model": "gpt-4o-mini", "input_tokens": 10**6}))
    assert (made.status, made.json["cost_usd"], made.json["cost_source"]) == (201, 0.15, "computed")
    batch = [start(reported, metrics_json={"model": "gpt-4o-mini", "input_tokens": 1, "cost_usd": 0.5}),
             start(unknown, metrics_json={"model": "mine", "input_tokens": 2 * 10**6})]  # fmt: skip
    stored = api.post("/api/v1/runs/batch", {"runs": batch})
    assert (stored.status, stored.json["created"]) == (201, 2)
    assert cost(api, computed) == (0.15, "computed", "1")
    assert cost(api, unknown) == (None, None, None)
    before = api.ok("/api/v1/prices")
    assert before["version"] == 1
    assert before["runs_to_reprice"] == 0

    list_of_mine = runlake.folder / "mine.toml"
    list_of_mine.write_text('[[price]]\nmodel = "mine"\nfrom = 2024-01-01\ninput = 3\noutput = 1\n')
    said = runlake("reprice", "--prices", str(list_of_mine))
    assert said.returncode == 0, said.stderr
    assert "Version 2 of the price list is in force: 1 prices" in said.stdout
    assert cost(api, computed) == (None, None, None)
    assert cost(api, reported) == (0.5, "reported", None)
    assert cost(api, unknown) == (6.0, "computed", "2")
    rollup = api.ok("/api/v1/rollups", measures="cost_usd")
    assert rollup["totals"]["cost_usd"] == 6.5
    tree = api.ok(f"/api/v1/runs/{unknown}/tree")
    assert tree["runs"][0]["totals"]["cost_usd"] == 6.0

    shown = json.loads(runlake("prices").stdout)
    assert [(one["model"], one["input"], one["cache_read"]) for one in shown["prices"]] == [("mine", 3.0, None)]
    assert "runlake_query_repriced_runs_total" in api.get("/metrics").text

    said = runlake("reprice", "--built-in")
    assert said.returncode == 0, said.stderr
    assert cost(api, computed) == (0.15, "computed", "3")
    assert cost(api, unknown) == (None, None, None)
    assert runlake("verify").returncode == 0
    api.close()


def test_reprice_refuses_a_wrong_list_and_writes_nothing(runlake: Command) -> None:
    api = Api(f"http://{runlake.http}")
    version = api.ok("/api/v1/prices")["version"]
    wrong = runlake.folder / "wrong.toml"
    wrong.write_text('[[price]]\nmodel = "mine"\nfrom = 2024-01-01\ninput = -3\noutput = 1\n')
    said = runlake("reprice", "--prices", str(wrong))
    assert said.returncode == 1
    assert "price 1 (line 1): input must be at least 0" in said.stderr
    missing = runlake("reprice", "--prices", str(runlake.folder / "none.toml"))
    assert missing.returncode == 1
    assert "none.toml cannot be read" in missing.stderr
    assert api.ok("/api/v1/prices")["version"] == version
    api.close()


def test_reprice_says_so_where_there_is_no_lake_or_nobody_to_ask(tmp_path: Path) -> None:
    command = Command(tmp_path)
    command.http = "127.0.0.1:1"
    said = command("reprice", "--built-in")
    assert said.returncode == 1
    assert "there is no lake at" in said.stderr
    with duck.connect() as connection:
        attach_for_writing(connection, LakePlace.of_files(command.data / "catalog.sqlite", command.data / "lake"))
        schema.migrate(connection, CATALOG, uuid4(), ParquetSync(command.data / "lake"))
    said = command("reprice", "--built-in")
    assert said.returncode == 1
    assert "Version 2 of the price list is in force" in said.stdout
    assert "query processes take it when they run" in said.stderr


def test_two_query_processes_show_the_same_costs(runlake: Command) -> None:
    run = str(uuid4())
    first = Api(f"http://{runlake.http}")
    assert first.post("/api/v1/runs", start(run, metrics_json={"model": "o1", "output_tokens": 7})).status == 201
    environment = runlake.environment | {
        "RUNLAKE_HTTP": "127.0.0.1:0", "RUNLAKE_READ_MODEL": str(runlake.folder / "other"),
    }  # fmt: skip
    with subprocess.Popen(
        [sys.executable, "-m", "runlake_query"], stderr=subprocess.PIPE, text=True, env=environment, cwd=runlake.folder
    ) as other:
        try:
            assert other.stderr is not None
            lines = (json.loads(line) for line in other.stderr)
            listening = next(line for line in lines if line["event"] == "listening")
            next(line for line in lines if line["event"] == "caught_up")
            second = Api(f"http://{listening['http']}")
            position = first.get("/api/v1/runs").headers["runlake-position"]
            for api in (first, second):
                assert api.ok(f"/api/v1/runs/{run}", after=position)["cost_usd"] == 0.00042
            assert cost(first, run) == cost(second, run)
            second.close()
        finally:
            other.terminate()
            other.wait(30)
    first.close()
