"""Benchmarks: what RunLake claims of its speed is measured here, and printed by `scripts/bench`."""
