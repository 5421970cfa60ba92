"""`runlake replay`: the log of a lake makes the same lake again; and `runlake rebuild`, the same read model."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from runlake.messages import CommitAssociated, Message
from support.api import Api
from support.download import download
from support.processes import Process, Site, wait_until
from support.producer import Producer
from support.reading import LOG, one
from support.runlake_command import Command
from support.samples import START, event, started, updated

EXPORTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("/api/v1/runs", {"limit": 100_000}),  # with a limit, an export of runs is in an order
    ("/api/v1/events", {}),
    ("/api/v1/rollups", {"group_by": "agent_name,status", "bucket": "day", "order_by": "agent_name"}),
)


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def other(tmp_path: Path) -> Site:
    return Site(tmp_path / "other")


def everything() -> list[list[Message | bytes]]:
    """Batches of all kinds of messages, with every kind of field."""
    runs = [
        started(
            f"run-{number}", START + timedelta(hours=number, microseconds=number), model="gpt-4o", input_tokens=1000,
            status=("failed", "completed", None)[number % 3],
            metrics_json={"prompt_tokens": 7, "a": [1, 2.5, None, -0.0, 1e300, 2**63, {"ü\x00\u2028": "\x7f"}]},
        )
        for number in range(9)
    ]  # fmt: skip
    changes: list[Message | bytes] = [
        updated(runs[0].event_id, status="success", end_time=START + timedelta(hours=1), cost_usd="0.000000001"),
        updated(runs[1].event_id, context_json={"cost_usd": 0.25, "deep": {"er": [[], {}]}}, error_summary="a\nb\t\\"),
        CommitAssociated(
            event_id=UUID(int=77), run_event_id=runs[2].event_id, ts=START, commit_hash="0123456789abcdef",
            commit_source="llm", commit_timestamp=START,
        ),
        updated(UUID(int=5), status="failure"),  # its start never comes
        event(1, "run-3", START, blob=b"\x00\xff", when=START, nan=float("nan")),
        event(2, "nobody", START),
    ]  # fmt: skip
    many: list[Message | bytes] = [event(number, "run-4", START) for number in range(400)]
    return [[*runs], changes, [b"\x80"], many, [runs[0]]]


def fill(site: Site) -> Iterator[str]:
    """Messages in several flushes; gives the worker's position after each batch."""
    with site.ingest("--flush-interval-ms", "600000") as worker, Producer(site.ingest_endpoint) as producer:
        for batch in everything():
            producer.deliver(batch)
            position = producer.flush()
            yield f"{position.worker}:{position.accepted}"
        assert worker.terminate() == 0


def exports(site: Site) -> list[bytes]:
    query, url = site.query("--recent-days", "36500")
    with query:
        found = [download(f"{url}{path}", format="ndjson", **asked).body for path, asked in EXPORTS]
        assert query.terminate() == 0
    return found


def test_a_lake_made_from_the_log_of_another_gives_the_same_exports_byte_for_byte(
    site: Site, other: Site, command: Command
) -> None:
    list(fill(site))
    before = exports(site)
    assert [len(export.splitlines()) for export in before][:2] == [9, 402]
    with other.ingest() as worker, Producer(other.ingest_endpoint) as producer:
        done = command("replay", "--to", other.ingest_endpoint)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("415 messages accepted, 0 were there already, 0 refused")
        again = command("replay", "--to", other.ingest_endpoint)
        assert again.stdout.startswith("0 messages accepted, 415 were there already")
        producer.flush()
        assert worker.terminate() == 0
    assert exports(other) == before
    done = command("verify", "--data", str(other.data))
    assert done.returncode == 0, done.stdout
    log = f"SELECT string_agg(seq || ' ' || event_id, ',' ORDER BY seq) FROM {LOG}"
    assert one(other.catalog, log) == one(site.catalog, log)


def test_a_replay_begins_after_and_ends_with_the_positions_that_are_given(
    site: Site, command: Command, tmp_path: Path
) -> None:
    positions = list(fill(site))
    target = tmp_path / "log.ndjson"
    done = command("replay", "--from", positions[0], "--until", positions[1], "--to", str(target))
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in target.read_text().splitlines()]
    assert [line["seq"] for line in lines] == list(range(10, 16))
    assert [line["kind"] for line in lines[:4]] == ["run.updated", "run.updated", "commit.associated", "run.updated"]
    assert lines[0]["received_at"] and lines[0]["producer"] and Decimal(lines[0]["cost_usd"]) == Decimal("1e-9")
    assert lines[5]["payload"] == {"number": 2}
    assert command("replay", "--from", "nowhere", "--to", str(target)).returncode == 2
    assert "no ingest worker" in command("replay", "--to", f"ipc://{tmp_path}/nobody").stderr


def test_a_replay_into_a_file_goes_on_where_it_was_cut_off(site: Site, command: Command, tmp_path: Path) -> None:
    list(fill(site))
    target = tmp_path / "log.ndjson"
    assert command("replay", "--to", str(target)).returncode == 0
    whole = target.read_bytes()
    (line,) = [line for line in whole.splitlines(keepends=True) if json.loads(line)["seq"] == 100]
    cut = whole.index(line) + len(line)

    with subprocess.Popen(
        [sys.executable, "-m", "runlake.cli", "replay", "--to", str(tmp_path / "again.ndjson")],
        env=command.environment, cwd=tmp_path,
    ) as first:  # fmt: skip
        wait_until(lambda: bool(list(tmp_path.glob("again.ndjson*"))), "it has begun")
        first.send_signal(signal.SIGKILL)
    (partial, *_) = [*tmp_path.glob("again.ndjson.*.partial"), None]
    if partial is None:  # it was done before it was killed
        pytest.skip("the replay was quicker than the signal")
    partial.write_bytes(whole[: cut + 30])
    done = command("replay", "--to", str(tmp_path / "again.ndjson"))
    assert done.stdout.startswith("315 messages"), done.stdout
    assert (tmp_path / "again.ndjson").read_bytes() == whole


def model_of(site: Site) -> Path:
    return site.data / "query" / "model.duckdb"


def test_the_read_model_is_made_anew_and_the_old_one_stays_until_then(site: Site, command: Command) -> None:
    list(fill(site))
    before = exports(site)
    old = model_of(site).read_bytes()
    query, url = site.query()
    with query:
        refused = command("rebuild")
        assert refused.returncode == 1 and "Another query process uses" in refused.stderr
        assert "Rebuilding" not in refused.stderr, "it has not begun"
        with closing(Api(url)) as api:
            assert api.get("/ready").status == 200
        assert query.terminate() == 0

    events = next((site.data / "lake" / "main" / "events").iterdir())
    events.rename(events.with_suffix(".away"))
    kept = model_of(site).read_bytes()
    failed = command("rebuild")
    assert failed.returncode == 1 and str(events) in failed.stderr
    assert model_of(site).read_bytes() == kept and not (site.data / "query" / "rebuilding").exists()
    events.with_suffix(".away").rename(events)

    model_of(site).write_bytes(old[: len(old) // 2])  # a damaged one is replaced too
    done = command("rebuild", "--recent-days", "36500")
    assert done.returncode == 0, done.stderr
    assert "has all 415 messages" in done.stdout
    query = Process("runlake_query", "--data", str(site.data), "--http", "127.0.0.1:0", "--recent-days", "36500")
    with query:
        query.wait_for("caught_up")
        assert not any(line["event"] in ("read_model_set_aside", "read_model_emptied") for line in query.log)
        assert query.terminate() == 0
    assert exports(site) == before
