"""Arrow and its Parquet, which have no type hints, for tests that read what was written."""

from __future__ import annotations

from importlib import import_module

pa = import_module("pyarrow")
pq = import_module("pyarrow.parquet")
