"""A data folder of the first schema, as an earlier RunLake wrote it, is brought to the latest one and is whole."""

from __future__ import annotations

import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

from runlake.lake.schema import latest_version
from support.api import Api
from support.processes import Site
from support.producer import Producer
from support.reading import one, rows
from support.runlake_command import Command
from support.samples import event, started

_FIRST_SCHEMA = """
import sys, uuid
from pathlib import Path
from runlake.lake import attach, duck, schema
from runlake.lake.place import LakePlace

sql = sys.stdin.read()
connection = duck.connect()
attach.attach_for_writing(connection, LakePlace.of_files(*map(Path, sys.argv[1:])))
connection.execute("USE lake")
for statement in sql.split(";\\n"):
    connection.execute(statement)
connection.execute("USE memory")
attach.inline_flushes(connection)
connection.close()
"""
"""In a process of its own, for a live catalog is attached by one library in a process."""
_ROWS = """
INSERT INTO identity VALUES ('018d4f00-0000-7000-8000-0000000000aa', now());
INSERT INTO schema_migrations VALUES (1, now());
INSERT INTO run_changes BY NAME SELECT
    '018d4f00-0000-7000-8000-0000000000bb'::UUID AS worker, range + 1 AS seq, now() AS received_at, 'p' AS producer,
    'run.started' AS kind, md5(range::VARCHAR)::UUID AS event_id, md5(range::VARCHAR)::UUID AS run_event_id,
    now() AS ts, 'run-' || range AS run_id,
    'agent' AS agent_name, 'job' AS job_type, 'success' AS status, now() AS start_time, 'gpt-4o' AS model,
    1000 AS input_tokens
FROM range(5);
INSERT INTO deliveries VALUES ('018d4f00-0000-7000-8000-0000000000bb', 1, now(), 'p', 1, 1, 5, 5, 0, 0);
INSERT INTO flushes VALUES ('018d4f00-0000-7000-8000-0000000000bb', 1, 1, 5, now());
CREATE VIEW runs AS SELECT run_event_id AS event_id, run_id FROM run_changes
"""


def first_schema(site: Site, more: str = "") -> None:
    """A lake as the first migration made it, with a log of five runs."""
    first = files("runlake.lake").joinpath("migrations", "0001_initial.sql").read_text("utf-8")
    subprocess.run(
        [sys.executable, "-c", _FIRST_SCHEMA, str(site.catalog), str(site.data / "lake")],
        input=f"{first}\n{_ROWS}{more}", text=True, check=True, timeout=60,
    )  # fmt: skip


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_a_lake_of_the_first_schema_is_upgraded_by_the_worker_and_whole(site: Site, tmp_path: Path) -> None:
    first_schema(site)
    command = Command(tmp_path)
    assert one(site.catalog, "SELECT max(version) FROM schema_migrations") == 1
    refused = command("maintain")
    assert refused.returncode == 1 and "start the ingest worker once" in refused.stderr
    with site.ingest() as worker, Producer(site.ingest_endpoint) as producer:
        accepted = producer.deliver([started("new"), event(1)])
        assert (accepted.first_seq, accepted.accepted) == (6, 2)
        producer.flush()
        query, url = site.query()
        with query:
            api = Api(url)
            runs = {run["run_id"]: run for run in api.ok("/api/v1/runs")["runs"]}
            assert set(runs) == {"new", *(f"run-{number}" for number in range(5))}
            assert runs["run-3"]["cost_source"] == "computed"
            command.http = url.removeprefix("http://")
            done = command("verify")
            assert done.returncode == 0, done.stdout
            assert "✓ read model: 6 runs" in done.stdout
            api.close()
            assert query.terminate() == 0
        assert worker.terminate() == 0
    versions = [version for (version,) in rows(site.catalog, "SELECT version FROM schema_migrations ORDER BY 1")]
    assert versions == list(range(1, latest_version() + 1))
    assert one(site.catalog, "SELECT count(*) FROM runs") == 6


def test_a_lake_of_a_later_schema_is_refused_by_everyone_and_left_as_it_is(site: Site, tmp_path: Path) -> None:
    first_schema(site, ";\nINSERT INTO schema_migrations VALUES (99, now())")
    before = site.catalog.read_bytes()
    said = "schema version 99"
    with site.ingest(ready=False) as worker:
        assert said in worker.wait_for("cannot_run")["reason"]
        assert worker.wait() == 1
    command = Command(tmp_path)
    for line in (("verify",), ("maintain",), ("backup", str(tmp_path / "b")), ("replay", "--to", str(tmp_path / "f"))):
        refused = command(*line)
        assert refused.returncode == 1 and said in refused.stderr and "newer" in refused.stderr, refused.stderr
    query, _ = site.query(caught_up=False)
    with query:
        assert said in query.wait_for("lake_not_followed")["reason"]
        assert query.terminate() == 0
    assert site.catalog.read_bytes() == before
