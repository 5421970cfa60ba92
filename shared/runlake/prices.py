"""Lists of what models cost: read from TOML, and refused with the entry and key that are wrong.

    [[price]]
    model = "gpt-4o"         # as runs name it
    from = 2024-10-02        # from 00:00 UTC of this day until the model's next entry
    input = 2.50             # US dollars per million tokens; at most nine decimals
    output = 10
    cache_read = 1.25        # where it is left out, a run that has such tokens has no computed cost
    cache_write = 0

Input is what was neither read from a cache nor written to one.
"""

from __future__ import annotations

import re
import tomllib
from datetime import UTC, date, datetime
from decimal import Decimal
from importlib.resources import files
from typing import Any

from msgspec import Struct

from runlake.errors import InvalidPrices
from runlake.messages import MAX_NAME_CHARS

_REQUIRED = ("model", "from", "input", "output")
_OPTIONAL = ("cache_read", "cache_write")
_BELOW = Decimal(10) ** 9
_DECIMALS = 9
_ENTRY = re.compile(r"^\s*\[\[\s*price\s*\]\]")


class Price(Struct, frozen=True):
    """What a model costs from a time on: US dollars per million tokens of each kind; None where it is not known."""

    model: str
    valid_from: datetime
    input: Decimal
    output: Decimal
    cache_read: Decimal | None = None
    cache_write: Decimal | None = None


class PriceList(Struct, frozen=True):
    """Prices that hold together. `source` says for people where they are from."""

    source: str
    prices: tuple[Price, ...]


def parse_prices(text: str, source: str) -> PriceList:
    """The price list in a TOML text. Raises InvalidPrices, which names `source`, the entry, its line and the key."""
    try:
        document = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        raise InvalidPrices(f"{source}: this is no TOML: {error}") from None
    _refuse_unknown(document, ("price", "as_of"), source)
    entries = document.get("price")
    if not isinstance(entries, list) or not entries:
        raise InvalidPrices(f"{source}: there is no [[price]] in it; a list has at least one.")
    lines = [number for number, line in enumerate(text.splitlines(), 1) if _ENTRY.match(line)]
    prices: dict[tuple[str, datetime], Price] = {}
    for index, entry in enumerate(entries):
        where = f"{source}, price {index + 1}"
        if len(lines) == len(entries):
            where += f" (line {lines[index]})"
        price = _price(entry, where)
        if (price.model, price.valid_from) in prices:
            raise InvalidPrices(f"{where}: from: {price.model!r} has a price from {entry['from']} already.")
        prices[price.model, price.valid_from] = price
    return PriceList(source, tuple(prices[key] for key in sorted(prices)))


def built_in_prices() -> PriceList:
    """The list that comes with RunLake: public list prices, with the date of the list in `source`."""
    text = files("runlake").joinpath("prices.toml").read_text("utf-8")
    as_of = tomllib.loads(text)["as_of"]
    return PriceList(f"built-in, public list prices as of {as_of}", parse_prices(text, "prices.toml").prices)


def _price(entry: Any, where: str) -> Price:
    if not isinstance(entry, dict):
        raise InvalidPrices(f"{where}: it must be a table.")
    _refuse_unknown(entry, (*_REQUIRED, *_OPTIONAL), where)
    for key in _REQUIRED:
        if key not in entry:
            raise InvalidPrices(f"{where}: {key} is missing.")
    model, since = entry["model"], entry["from"]
    if not isinstance(model, str) or not 0 < len(model) <= MAX_NAME_CHARS:
        raise InvalidPrices(f"{where}: model must be a text of 1 to {MAX_NAME_CHARS} characters, not {model!r}.")
    if not isinstance(since, date) or isinstance(since, datetime):
        raise InvalidPrices(f"{where}: from must be a day, as in 2026-01-31 without quotes, not {since!s}.")
    return Price(
        model,
        datetime(since.year, since.month, since.day, tzinfo=UTC),
        _dollars(entry["input"], "input", where),
        _dollars(entry["output"], "output", where),
        *(_dollars(entry[key], key, where) if key in entry else None for key in _OPTIONAL),
    )


def _dollars(value: Any, key: str, where: str) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise InvalidPrices(f"{where}: {key} must be a number of dollars per million tokens, not {value!r}.")
    dollars = Decimal(value)
    if not dollars.is_finite() or not 0 <= dollars < _BELOW:
        raise InvalidPrices(f"{where}: {key} must be at least 0 and below 10^9, not {value}.")
    if dollars != round(dollars, _DECIMALS):
        raise InvalidPrices(f"{where}: {key} may have {_DECIMALS} decimals, not more: {value}.")
    return dollars


def _refuse_unknown(table: dict[str, Any], known: tuple[str, ...], where: str) -> None:
    for key in table:
        if key not in known:
            raise InvalidPrices(f"{where}: {key} is not known; there are {', '.join(known)}.")
