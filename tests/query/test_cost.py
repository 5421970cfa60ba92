"""What runs cost: reported, or computed by the price list in force; the same in the lake and in every read model."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from support.lakes import LakeWriter, Worker
from support.models import Model, lake_runs
from support.waiting import eventually

DAY = datetime(2025, 1, 1, tzinfo=UTC)
KINDS = ("input", "output", "cache_read", "cache_write")
MODELS = (
    "small", "small-2025-01-31", "small-001", "small-latest", "small@2025", "small-1", "small-preview", "smaller",
    "sma", "small-big", "small-big-20250131", "SMALL", "", "%", "large", None,
)  # fmt: skip


@dataclass(frozen=True)
class Listed:
    """One price, US dollars per million tokens."""

    model: str
    since: datetime
    input: Decimal
    output: Decimal
    cache_read: Decimal | None = None
    cache_write: Decimal | None = None


def add_list(lake: LakeWriter, version: int, prices: Sequence[Listed]) -> None:
    """Write a price list as another process does: rows of its own, in one transaction."""
    key = uuid4()
    rows = [
        f"('{key}', {version}, 'test', now(), '{one.model}', '{one.since.isoformat()}', "
        + ", ".join("NULL" if getattr(one, kind) is None else str(getattr(one, kind)) for kind in KINDS)
        + ")"
        for one in prices
    ]
    lake.sql(f"INSERT INTO lake.prices VALUES {', '.join(rows)}")


FIRST = (
    Listed("small", DAY, Decimal("0.15"), Decimal("0.600000001"), Decimal("0.075")),
    Listed("small", DAY + timedelta(days=10), Decimal("0.1"), Decimal("0.4"), Decimal("0.05"), Decimal("1.25")),
    Listed("small-big", DAY + timedelta(days=3), Decimal("15"), Decimal("75"), Decimal("1.5"), Decimal("18.75")),
    Listed("large", DAY, Decimal("999999999.999999999"), Decimal(0)),
)
SECOND = (
    Listed("small", DAY - timedelta(days=9), Decimal("7"), Decimal("9"), Decimal("0.000000001"), Decimal("0")),
    Listed("sma", DAY, Decimal("1"), Decimal("1"), Decimal("1"), Decimal("1")),
)


Shown = tuple[Decimal | None, str | None, str | None]


def cost_of(prices: Sequence[Listed], version: int, run: dict[str, Any]) -> Shown:
    """What a run shows, by the documented rule: slow, and plain to see that it is right."""
    if run.get("cost_usd") is not None:
        return Decimal(run["cost_usd"]), "reported", None
    tokens = {kind: run.get(f"{kind}_tokens") for kind in KINDS}
    name = _listed_name({one.model for one in prices}, run.get("model"))
    if name is None or all(count is None for count in tokens.values()):
        return None, None, None
    started = datetime.fromisoformat(run["start_time"])
    of_model = sorted((one for one in prices if one.model == name and one.since <= started), key=lambda one: one.since)
    if not of_model:
        return None, None, None
    total = Decimal(0)
    for kind, count in tokens.items():
        price = getattr(of_model[-1], kind)
        if count and price is None:
            return None, None, None
        total += (count or 0) * (price or Decimal(0))
    cost = (total / 1_000_000).quantize(Decimal("0.000000001"), ROUND_HALF_UP)
    return (None, None, None) if cost >= 10**9 else (cost, "computed", str(version))


def _listed_name(names: set[str], model: str | None) -> str | None:
    if model is None:
        return None
    if model in names:
        return model
    fitting = [name for name in names if model.startswith(name) and _is_dated(model[len(name) :])]
    return max(fitting, key=len, default=None)


def _is_dated(suffix: str) -> bool:
    if suffix[:1] not in ("-", "@"):
        return False
    rest = suffix[1:]
    parts = rest.split("-")
    is_day = [len(part) for part in parts] == [4, 2, 2] and all(part.isdigit() for part in parts)
    return rest == "latest" or is_day or (rest.isdigit() and len(rest) >= 3)


def made_up_runs(count: int, seed: int) -> list[dict[str, Any]]:
    """Runs of every kind of model, tokens and start."""
    print(f"seed {seed}")
    dice = random.Random(seed)
    runs = []
    for _ in range(count):
        fields: dict[str, Any] = {
            f"{kind}_tokens": dice.choice((None, 0, 1, dice.randrange(10**7), 2**63 - 1 if dice.random() < 0.1 else 5))
            for kind in KINDS
        }
        fields["model"] = dice.choice(MODELS)
        started = DAY + timedelta(days=dice.randrange(-2, 14), seconds=dice.choice((0, -1, 1)))
        fields["start_time"] = started.isoformat()
        fields["cost_usd"] = dice.choice((None, None, "0", "0.25"))
        runs.append(fields)
    return runs


def costs(model: Model) -> dict[UUID, tuple[Any, ...]]:
    return {row[0]: row[1:] for row in model.rows(f"SELECT event_id, {_COST} FROM shown")}


_COST = "cost_usd, cost_source, cost_table_version"


def version_of(model: Model) -> int:
    return int(model.rows("SELECT coalesce(max(version), 0) FROM prices")[0][0])


def repriced(model: Model, version: int) -> bool:
    left = "SELECT count(*) FROM runs WHERE priced_by <> (SELECT any_value(list) FROM prices)"
    return version_of(model) == version and model.rows(left) == [(0,)]


def test_costs_are_those_of_a_plain_reckoning_in_the_read_model_and_in_the_lake(tmp_path: Path) -> None:
    with LakeWriter(tmp_path / "data") as lake:
        add_list(lake, 2, FIRST)
        runs = made_up_runs(900, seed=11)
        worker = Worker()
        keys = [worker.start(f"r{index}", **fields) for index, fields in enumerate(runs)]
        lake.flush(worker)
        with Model(lake, tmp_path / "model") as model:
            model.caught_up(worker)
            wanted = {key: cost_of(FIRST, 2, fields) for key, fields in zip(keys, runs, strict=True)}
            assert costs(model) == wanted
            assert sum(source == "computed" for _, source, _ in wanted.values()) > 100
            assert model.shown() == lake_runs(lake)
            add_list(lake, 3, SECOND)
            eventually(lambda: repriced(model, 3))
            wanted = {key: cost_of(SECOND, 3, fields) for key, fields in zip(keys, runs, strict=True)}
            assert costs(model) == wanted
            assert model.shown() == lake_runs(lake)


def test_a_cost_follows_tokens_that_come_later_and_yields_to_one_that_is_reported(tmp_path: Path) -> None:
    with LakeWriter(tmp_path / "data") as lake:
        add_list(lake, 2, FIRST)
        worker = Worker()
        run = worker.start("r", model="small-big", start_time=(DAY + timedelta(days=5)).isoformat())
        lake.flush(worker)
        with Model(lake, tmp_path / "model") as model:
            assert costs(model.caught_up(worker)) == {run: (None, None, None)}
            steps: list[tuple[dict[str, Any], tuple[str | None, str | None, str | None]]] = [
                ({"input_tokens": 1000}, ("0.015000000", "computed", "2")),
                ({"status": "success"}, ("0.015000000", "computed", "2")),
                ({"output_tokens": 1000}, ("0.090000000", "computed", "2")),
                ({"input_tokens": 2000, "cache_read_tokens": 10}, ("0.105015000", "computed", "2")),
                ({"model": "nobody"}, (None, None, None)),
                ({"model": "small-big"}, ("0.105015000", "computed", "2")),
                ({"cost_usd": "0.5"}, ("0.500000000", "reported", None)),
                ({"input_tokens": 9}, ("0.500000000", "reported", None)),
            ]
            for fields, (cost, source, version) in steps:
                worker.update(run, **fields)
                lake.flush(worker)
                shown = costs(model.caught_up(worker))[run]
                assert shown == (None if cost is None else Decimal(cost), source, version), fields
                assert model.shown() == lake_runs(lake)


def test_a_price_holds_from_its_very_moment(tmp_path: Path) -> None:
    moment = DAY + timedelta(days=10)
    with LakeWriter(tmp_path / "data") as lake:
        add_list(lake, 2, FIRST)
        worker = Worker()
        before, at = (
            worker.start(name, model="small", input_tokens=1_000_000, start_time=(moment - less).isoformat())
            for name, less in (("before", timedelta(microseconds=1)), ("at", timedelta(0)))
        )
        lake.flush(worker)
        with Model(lake, tmp_path / "model") as model:
            found = costs(model.caught_up(worker))
            assert [found[key][0] for key in (before, at)] == [Decimal("0.15"), Decimal("0.1")]


def test_repricing_goes_in_steps_between_which_runs_are_applied(tmp_path: Path) -> None:
    started = (DAY + timedelta(days=1)).isoformat()
    with LakeWriter(tmp_path / "data") as lake:
        add_list(lake, 2, FIRST)
        worker = Worker()
        keys = [worker.start(f"r{n}", model="small", input_tokens=n, start_time=started) for n in range(250)]
        worker.start("reported", model="small", input_tokens=1, cost_usd="3", start_time=started)
        lake.flush(worker)
        with Model(lake, tmp_path / "model", reprice_runs=10) as model:
            model.caught_up(worker)
            add_list(lake, 3, SECOND)
            worker.update(keys[7], input_tokens=1_000_000)
            lake.flush(worker)
            model.caught_up(worker)
            eventually(lambda: repriced(model, 3))
            assert costs(model)[keys[7]][0] == Decimal(7)
            assert model.shown() == lake_runs(lake)
            eventually(lambda: '"repriced"' in model.log.getvalue())
            steps = model.log.getvalue().count('"repricing"')
            assert steps >= 24
            assert model.progress.counts.repriced in (249, 250)


def test_a_read_model_that_was_away_takes_the_list_that_came_meanwhile(tmp_path: Path) -> None:
    with LakeWriter(tmp_path / "data") as lake:
        worker = Worker()
        run = worker.start("r", model="small", input_tokens=1_000_000, start_time=DAY.isoformat())
        lake.flush(worker)
        with Model(lake, tmp_path / "model") as model:
            assert costs(model.caught_up(worker)) == {run: (None, None, None)}
            assert version_of(model) == 1
        add_list(lake, 2, SECOND)
        with Model(lake, tmp_path / "model") as model, Model(lake, tmp_path / "other") as other:
            eventually(lambda: repriced(model.caught_up(worker), 2) and repriced(other.caught_up(worker), 2))
            assert costs(model) == costs(other) == {run: (Decimal(7), "computed", "2")}


def test_of_two_lists_of_one_version_everyone_takes_the_same(tmp_path: Path) -> None:
    with LakeWriter(tmp_path / "data") as lake:
        worker = Worker()
        worker.start("r", model="small", input_tokens=1_000_000, start_time=DAY.isoformat())
        lake.flush(worker)
        add_list(lake, 2, FIRST)
        add_list(lake, 2, SECOND)
        with Model(lake, tmp_path / "model") as model:
            model.caught_up(worker)
            eventually(lambda: repriced(model, 2))
            assert model.shown() == lake_runs(lake)


def test_a_lake_of_a_worker_that_knows_no_prices_is_followed_without_them(tmp_path: Path) -> None:
    with LakeWriter(tmp_path / "data") as lake:
        lake.sql("DROP TABLE lake.prices")
        worker = Worker()
        run = worker.start("r", model="gpt-4o", input_tokens=1_000_000)
        reported = worker.start("s", model="gpt-4o", input_tokens=1, cost_usd="2")
        lake.flush(worker)
        with Model(lake, tmp_path / "model") as model:
            found = costs(model.caught_up(worker))
            assert found == {run: (None, None, None), reported: (Decimal(2), "reported", None)}
