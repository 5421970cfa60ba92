"""`runlake doctor` where there are several workers, and where a machine has only one of the two processes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runlake.cli import main
from runlake.cli.check_keys import check_keys
from runlake.cli.check_processes import check_processes, expected_here
from runlake.cli.findings import Finding
from runlake.cli.ports import elsewhere, listened_on, taken
from runlake.settings import load
from support.objectstore import ObjectStore
from support.postgres import free_port
from support.processes import Process
from support.runlake_command import Command


class Worker:
    """The addresses of one, on loopback."""

    def __init__(self, folder: Path) -> None:
        self.endpoint = f"tcp://127.0.0.1:{free_port()}"
        self._flags = (
            "--data", str(folder), "--ingest", self.endpoint, "--push", f"ipc://{folder}-p", "--feed",
            f"ipc://{folder}-f", "--metrics", "127.0.0.1:0",
        )  # fmt: skip

    def start(self, env: dict[str, str] | None = None) -> Process:
        return Process("runlake_ingest", *self._flags, env=env or {})


def doctor(command: Command, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
    done = command("doctor", "--json", *arguments)
    return done.returncode, json.loads(done.stdout)["findings"]


def of_state(findings: list[dict[str, Any]], state: str) -> list[str]:
    return [f"{finding['what']} {finding['fix'] or ''}" for finding in findings if finding["state"] == state]


def test_each_worker_that_the_settings_name_is_asked(tmp_path: Path) -> None:
    one, other = Worker(tmp_path / "one"), Worker(tmp_path / "other")
    command = Command(tmp_path)
    command.more = {"RUNLAKE_INGEST": f"{one.endpoint},{other.endpoint}"}
    with one.start() as process:
        process.wait_for("ready")
        status, findings = doctor(command, "ingest")
        assert status == 1
        assert any(f"ingest answers at {one.endpoint}" in text for text in of_state(findings, "good"))
        (missing,) = of_state(findings, "problem")
        assert f"no ingest worker at {other.endpoint}" in missing
        with other.start() as second:
            second.wait_for("ready")
            status, findings = doctor(command, "ingest")
            assert status == 0
            for worker in (one, other):
                assert any(f"ingest answers at {worker.endpoint}" in text for text in of_state(findings, "good"))


def test_on_a_machine_of_a_cluster_what_runs_there_is_looked_for_and_the_rest_is_named(
    tmp_path: Path, database: str, bucket: str, object_store: ObjectStore
) -> None:
    worker = Worker(tmp_path / "data")
    lake = object_store.env | {"RUNLAKE_CATALOG": database, "RUNLAKE_STORAGE": bucket}
    command = Command(tmp_path)
    command.more = lake | {"RUNLAKE_INGEST": worker.endpoint, "RUNLAKE_HTTP": f"127.0.0.1:{free_port()}"}
    with worker.start(lake) as process:
        process.wait_for("ready")
        status, findings = doctor(command)
        assert (status, of_state(findings, "problem")) == (0, [])
        assert any("a query process of this machine's own was not looked for" in t for t in of_state(findings, "note"))
        status, findings = doctor(command, "query")
        assert status == 1
        (missing,) = of_state(findings, "problem")
        assert "no query process at" in missing
    status, findings = doctor(command)
    assert status == 1, "the worker that the settings name does not answer"


@pytest.fixture
def cluster(tmp_path: Path) -> dict[str, str]:
    """Settings of a machine of a cluster on which nothing runs."""
    return {
        "RUNLAKE_DATA": str(tmp_path),
        "RUNLAKE_CATALOG": "postgresql://runlake@127.0.0.1:1/runlake",
        "RUNLAKE_INGEST": f"tcp://127.0.0.1:{free_port()}",
        "RUNLAKE_HTTP": f"127.0.0.1:{free_port()}",
    }


def test_what_systemd_starts_on_a_machine_of_a_cluster_ought_to_run_there(cluster: dict[str, str]) -> None:
    def told(enabled: list[str]) -> Iterator[Finding]:
        settings = load({}, cluster, Path("/dev/null"))
        yield from check_processes(settings, expected_here(settings, None, enabled))

    def missing(enabled: list[str]) -> bool:
        return any("no query process at" in finding.what for finding in told(enabled))

    assert missing(["query"])
    assert not missing(["ingest"])
    assert any("systemd does not start it here" in finding.what for finding in told(["ingest"]))
    assert not missing([])


def test_who_only_connects_to_workers_with_keys_needs_no_pair_of_a_worker(
    cluster: dict[str, str], tmp_path: Path
) -> None:
    server, client = tmp_path / "server", tmp_path / "client"
    for line in [["create", "server", "--keys", str(server)], ["create", "client", "query", "--dir", str(client)]]:
        assert main(["keys", *line]) == 0
    cluster |= {
        "RUNLAKE_INGEST": "tcp://192.0.2.11:8766",
        "RUNLAKE_FEED": "tcp://192.0.2.11:8768",
        "RUNLAKE_SERVER_KEY": str(server / "server.key"),
        "RUNLAKE_CLIENT_KEY": str(client / "query.key_secret"),
    }
    settings = load({}, cluster, Path("/dev/null"))
    assert [finding.state for finding in check_keys(settings, with_worker=False)] == ["good"]
    assert [finding.state for finding in check_keys(settings, with_worker=True)] == ["problem"]


def test_an_address_is_free_or_listened_on_or_another_machines() -> None:
    port = free_port()
    assert not listened_on(f"tcp://127.0.0.1:{port}")
    assert not elsewhere(f"tcp://127.0.0.1:{port}")
    for address in ("tcp://192.0.2.11:8766", "no-such-host.invalid:8766"):
        assert elsewhere(address)
        assert not listened_on(address)
        assert taken(address) not in (None, "another program listens there")
