"""What a run has added up: tokens, cost, and the metrics that were given one by one."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from runlake.llm import Tokens, count, dollars
from runlake.messages import MAX_COUNT

TOKEN_FIELDS = Tokens.__struct_fields__


class Totals:
    """Sums of one run. Not for several threads at once; the run keeps them apart."""

    def __init__(self, given: dict[str, Any]) -> None:
        self._sums: dict[str, Any] = {}
        self._metrics: dict[str, Any] = {}
        self._names: set[str] = set()
        self._called = False
        self.take(given)

    def take(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Take over what the agent sets itself: later calls are added to it. Returns the fields."""
        self._names.update(name for name in ("model", "provider") if fields.get(name) is not None)
        for name in TOKEN_FIELDS:
            value = count(fields.get(name))
            if value is not None:
                self._sums[name] = value
        cost = dollars(fields.get("cost_usd"))
        if cost is not None:
            self._sums["cost_usd"] = cost
        metrics = fields.get("metrics_json")
        if isinstance(metrics, Mapping):
            self._metrics = dict(metrics)
        return fields

    def name(self, names: Mapping[str, str]) -> dict[str, Any]:
        """The names, of model and provider, that the run does not have yet."""
        new = {name: value for name, value in names.items() if name not in self._names}
        self._names.update(new)
        return new

    def add(self, tokens: Tokens, cost_usd: Decimal | None) -> dict[str, Any]:
        """Add a call. Returns the run's fields that changed, with their sums."""
        self._called = True
        changed: dict[str, Any] = {}
        for name in TOKEN_FIELDS:
            value = getattr(tokens, name)
            if value is not None:
                changed[name] = min(self._sums.get(name, 0) + value, MAX_COUNT)
        if cost_usd is not None:
            changed["cost_usd"] = self._sums.get("cost_usd", Decimal(0)) + cost_usd
        self._sums.update(changed)
        return changed

    def merge(self, metrics: Mapping[str, Any]) -> dict[str, Any]:
        """Add metrics to those before. Returns the run's fields; a map replaces a whole map, so it is all."""
        self._metrics = {**self._metrics, **metrics}
        return {"metrics_json": self._metrics}

    def sums(self) -> dict[str, Any]:
        """The sums, once a call was added. They go with every map of metrics, whose own `input_tokens` would be taken
        for the run's."""
        return self._sums if self._called else {}
