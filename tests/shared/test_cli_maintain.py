"""`runlake maintain`: by hand while no worker runs, and a look at what is due at any time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.processes import Site
from support.producer import Producer
from support.reading import assert_stored_once
from support.runlake_command import Command
from support.samples import event


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def fill(site: Site, flushes: int) -> None:
    with site.ingest("--maintenance-interval-ms", "0") as worker, Producer(site.ingest_endpoint) as producer:
        for number in range(flushes):
            producer.deliver([event(number)])
            producer.flush()
        assert worker.terminate() == 0


_SCHEMA_FILES = 5
"""What a lake begins with: its identity, one file for each migration, the built-in prices."""


def parquet(site: Site) -> int:
    return len(list((site.data / "lake").rglob("*.parquet")))


def test_by_hand_small_files_are_merged_and_what_they_replaced_is_kept(site: Site, command: Command) -> None:
    fill(site, 9)
    files = parquet(site)
    dry = command("maintain", "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert "9 small files of events to merge" in dry.stdout
    assert "9 rows of flushes to move from the catalog to a file" in dry.stdout
    assert parquet(site) == files
    done = command("maintain")
    assert done.returncode == 0, done.stderr
    assert "9 small files of events merged" in done.stdout
    assert f"The lake has {_SCHEMA_FILES + 3} live files" in done.stdout
    assert parquet(site) == files + 3
    again = json.loads(command("maintain", "--json").stdout)
    assert again["steps"] == []
    assert again["lake"]["files"] == _SCHEMA_FILES + 3
    assert_stored_once(site.catalog, 9)


def test_what_has_been_replaced_for_long_enough_is_removed(site: Site, command: Command) -> None:
    fill(site, 9)
    command("maintain")
    done = json.loads(command("maintain", "--json", "--maintenance-keep-s", "1").stdout)
    assert {"count": 18, "what": "replaced files deleted"} in done["steps"]
    assert done["lake"]["snapshots"] == 1
    assert parquet(site) == _SCHEMA_FILES + 3
    assert_stored_once(site.catalog, 9)


def test_beside_a_running_worker_it_refuses_and_only_the_dry_run_works(site: Site, command: Command) -> None:
    with site.ingest("--maintenance-interval-ms", "0") as worker, Producer(site.ingest_endpoint) as producer:
        for number in range(8):
            producer.deliver([event(number)])
            producer.flush()
        refused = command("maintain")
        assert refused.returncode == 1
        assert f"process {worker.pid}" in refused.stderr and "stop the worker first" in refused.stderr
        assert "8 small files of events to merge" in command("maintain", "--dry-run").stdout
        assert worker.terminate() == 0


def test_where_there_is_no_lake_it_says_so_and_makes_none(site: Site, command: Command) -> None:
    for flags in ((), ("--dry-run",)):
        refused = command("maintain", *flags)
        assert refused.returncode == 1
        assert "there is no lake at" in refused.stderr
    assert not site.data.exists()
