"""The files of `deploy/cluster` and the guide to it: each is used here as the guide says, with addresses of the test's
own in the place of the example's; what needs an engine of containers is read instead."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
import yaml  # type: ignore[import-untyped]
from psycopg import sql

from runlake.cli import entry
from runlake.lake.attach import read_lake
from runlake.lake.place import CatalogAddress, LakePlace
from support.api import Api
from support.cluster import clean_environment
from support.guide import section
from support.haproxy import HAProxy, find_haproxy
from support.objectstore import ObjectStore
from support.postgres import Postgres, find_binaries, free_port
from support.processes import Process, wait_until

_ROOT = Path(__file__).parents[2]
_FILES = _ROOT / "deploy" / "cluster"
_GUIDE = (_ROOT / "docs" / "deploy.md").read_text("utf-8")
_CAPACITY = (_ROOT / "docs" / "capacity.md").read_text("utf-8")
_COMPOSE: dict[str, Any] = yaml.safe_load((_FILES / "compose.yaml").read_text("utf-8"))
_BLOCK = re.compile(r"^```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_EXAMPLES = ip_network("192.0.2.0/24")
"""RFC 5737: for documentation, and nobody's."""
_TOKEN = "a-token-for-the-cluster-of-this-test"


def guide_commands() -> list[str]:
    """Every `runlake …` that stands in the guide as a command, without what runs it and without comments."""
    lines = [line for block in _BLOCK.findall(_GUIDE) for line in block.splitlines()]
    commands = [
        match.group(1) for line in lines if (match := re.match(r"(?:.* -- |.* exec \w+ )?(runlake [^#&|;]*)", line))
    ]
    return [command.replace("…", "x").strip() for command in commands]


class Host:
    """A folder in the place of /etc/runlake and /var/lib, and addresses of its own in the place of the example's."""

    def __init__(self, folder: Path, catalog: str, bucket: str, variables: dict[str, str]) -> None:
        self.folder = folder
        self._catalog, self._bucket = catalog, bucket
        self._ports = {port: free_port() for port in (8765, 8766, 8767, 8768)}
        self.variables = variables
        reader = catalog.replace(catalog.partition("//")[2].partition("@")[0], "runlake_query")
        self.place = LakePlace(CatalogAddress(reader), f"{bucket}lake/")
        """As a reader has it."""
        for name in ("etc", "worker", "query"):
            (folder / name).mkdir()

    def address(self, port: int) -> str:
        return f"127.0.0.1:{self._ports[port]}"

    def settings(self, name: str, user: str) -> Path:
        """One of the settings files of `deploy/cluster`, for this host."""
        text = (_FILES / name).read_text("utf-8")
        server = self._catalog.rpartition("@")[2].partition("/")[0]
        text, found = re.subn(r"postgresql://.*\?sslmode=verify-full", f"postgresql://{user}@{server}/runlake", text)
        assert found == 1
        text = text.replace("s3://example-runlake/", self._bucket)
        text = re.sub(r",tcp://192\.0\.2\.1[23]:\d+", "", text)
        text = re.sub(r"192\.0\.2\.\d+:(\d+)", lambda match: self.address(int(match.group(1))), text)
        text = text.replace("/etc/runlake/", f"{self.folder}/etc/")
        text = text.replace("/var/lib/runlake-query", f"{self.folder}/query").replace(
            "/var/lib/runlake", f"{self.folder}/worker"
        )
        assert "192.0." not in text
        path = self.folder / "etc" / name
        path.write_text(text, "utf-8")
        return path

    def run(self, line: str) -> str:
        """A command of the guide, with this host's folders."""
        line = line.replace("/etc/runlake/runlake.toml", f"{self.folder}/etc/worker.toml")
        line = line.replace("/etc/runlake", f"{self.folder}/etc")
        done = subprocess.run(
            [sys.executable, "-m", "runlake.cli", *shlex.split(line)[1:]],
            env=clean_environment() | self.variables, capture_output=True, text=True, timeout=60, check=False,
            cwd=self.folder,
        )  # fmt: skip
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        return done.stdout


def live_files(place: LakePlace, env: dict[str, str]) -> list[str]:
    """What the query of docs/capacity.md tells a reader: the files that another engine is to read."""
    (query,) = re.findall(r"^```sql\n(.*?)^```$", _CAPACITY, re.MULTILINE | re.DOTALL)
    with pytest.MonkeyPatch.context() as environment:
        for name, value in env.items():
            environment.setenv(name, value)
        with read_lake(place) as connection:
            return [row[0] for row in connection.execute(query).fetchall()]


def set_up(postgres: Postgres) -> dict[str, str]:
    """Run postgres.sql as the guide says, and give both roles passwords; returns these."""
    psql = shutil.which("psql")
    assert psql is not None, "it comes with PostgreSQL"
    done = subprocess.run(
        [psql, "--set", "ON_ERROR_STOP=1", "--file", str(_FILES / "postgres.sql"), postgres.url()],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    passwords = {"runlake_ingest": "of-the-workers", "runlake_query": "of-the-readers"}
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        for role, password in passwords.items():
            connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), sql.Literal(password)))
    return passwords


@pytest.mark.skipif(find_haproxy() is None, reason="needs Debian's package haproxy")
def test_the_files_and_the_commands_of_the_guide_make_a_cluster(object_store: ObjectStore, tmp_path: Path) -> None:
    if find_binaries() is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    with Postgres() as postgres:
        passwords = set_up(postgres)
        host = Host(tmp_path, postgres.url("runlake"), object_store.create_bucket(), object_store.env)
        for command in guide_commands():
            if command.startswith("runlake keys ") and "revoke" not in command:
                host.run(command)
        (tmp_path / "etc" / "server.key").write_bytes((tmp_path / "etc" / "keys" / "server.key").read_bytes())
        (tmp_path / "etc" / "token").write_text(_TOKEN, "ascii")
        worker_file, query_file = (
            host.settings("worker.toml", "runlake_ingest"),
            host.settings("query.toml", "runlake_query"),
        )
        writer = object_store.env | {"PGPASSWORD": passwords["runlake_ingest"]}
        reader = object_store.env | {"PGPASSWORD": passwords["runlake_query"]}
        host.variables = writer
        flags = ("--settings", str(worker_file), "--metrics", "127.0.0.1:0")
        with (
            Process("runlake_ingest", *flags, env=writer) as worker,
            Process("runlake_query", "--settings", str(query_file), env=reader) as query,
        ):
            worker.wait_for("ready")
            host.run("runlake workers add --settings /etc/runlake/runlake.toml")
            assert worker.wait_for("ready")["worker"] in host.run(
                "runlake workers ls --settings /etc/runlake/runlake.toml"
            )
            query.wait_for("caught_up")
            tokens = {"RUNLAKE_READ_TOKEN": _TOKEN}
            with HAProxy(tmp_path, f"127.0.0.1:{free_port()}", [host.address(8765)], tokens) as haproxy:
                api = Api(f"http://{haproxy.address}")
                told = {"Authorization": f"Bearer {_TOKEN}"}
                wait_until(lambda: api.get("/ready", told).status == 200, "HAProxy finds the query process")
                assert api.get("/ready").status == 401
                run = {
                    "event_id": "01a1f2b0-7c5a-7d11-9c40-3f1de5a0c0de", "run_id": "one", "agent_name": "a",
                    "job_type": "b", "start_time": "2026-01-28T10:30:00Z",
                }  # fmt: skip
                assert api.post("/api/v1/runs", run, told).status == 201
                assert api.get("/api/v1/runs/one", told).json["agent_name"] == "a"
                api.close()
            assert query.terminate() == 0
            assert worker.terminate() == 0
        assert {path.split("/")[0].split("-")[0] for path in live_files(host.place, reader)} == {"ducklake"}
        with (
            psycopg.connect(
                postgres.url("runlake"), user="runlake_query", password=passwords["runlake_query"], autocommit=True
            ) as connection,
            pytest.raises(psycopg.errors.InsufficientPrivilege),
        ):
            connection.execute("SET default_transaction_read_only = off")
            connection.execute("DELETE FROM ducklake_snapshot")


def test_every_command_of_the_guide_is_one() -> None:
    commands = guide_commands()
    assert len(commands) > 20
    parser = entry._parser()
    for command in commands:
        words = shlex.split(command)[1:]
        if words[0] in ("ingest", "query"):
            continue
        parser.parse_args(words)


def test_every_file_of_the_cluster_is_in_the_guide() -> None:
    assert [path.name for path in _FILES.iterdir() if f"cluster/{path.name}" not in _GUIDE] == []


def test_the_guide_and_all_files_of_the_cluster_have_the_same_example_addresses() -> None:
    guide = section("deploy.md", "## A cluster")
    texts = {path.name: path.read_text("utf-8") for path in _FILES.iterdir()} | {"the guide": guide}
    for name, text in texts.items():
        strange = {
            found
            for found in re.findall(r"\b\d+\.\d+\.\d+\.\d+\b", text)
            if not (ip_address(found).is_loopback or ip_address(found) in _EXAMPLES)
        }
        assert strange == set(), name
    query = tomllib.loads(texts["query.toml"])
    servers = re.findall(r"^    server \S+ (\S+) ", texts["haproxy.cfg"], re.MULTILINE)
    assert query["http"] in servers
    workers = [urlsplit(endpoint).hostname for endpoint in query["ingest"].split(",")]
    table = re.findall(r"^\| (192\S+) to (192\S+) \|", guide, re.MULTILINE)
    assert table == [
        (workers[0], workers[-1]), (servers[0].partition(":")[0], servers[-1].partition(":")[0]),
    ]  # fmt: skip
    assert f"IPAddressAllow={_EXAMPLES}" in texts["cluster.conf"]
    for name in ("db.example.org", "s3.example.org", "example-runlake", "RUNLAKE_READ_TOKEN", "/etc/runlake/balancer"):
        assert name in guide and any(name in text for file, text in texts.items() if file != "the guide"), name


def test_no_container_of_the_cluster_publishes_a_port_or_keeps_a_right() -> None:
    for name, service in _COMPOSE["services"].items():
        assert "ports" not in service, name
        assert service["profiles"], name
        assert service["network_mode"] == "host"
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["read_only"] is True
        if "build" in service:
            build = service["build"]
            assert (_FILES / build["context"] / build["dockerfile"]).is_file()
            assert build["args"]["EXTRAS"] == f"{name},cluster"
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert source.startswith("/etc/") or (_FILES / source).exists() or source in _COMPOSE["volumes"], source


def test_the_files_of_the_cluster_hold_no_secret_and_what_they_name_is_there() -> None:
    values = dict(
        line.lstrip("#").split("=", 1)
        for line in (_FILES / "environment").read_text("utf-8").splitlines()
        if re.match(r"#?[A-Z_0-9]+=", line)
    )
    assert {values[name] for name in ("PGPASSWORD", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")} == {""}
    worker, query = (tomllib.loads((_FILES / f"{name}.toml").read_text("utf-8")) for name in ("worker", "query"))
    assert worker["storage"] == query["storage"]
    assert worker["ingest"] in query["ingest"].split(",")
    assert worker["feed"] in query["feed"].split(",")
    agent = dict(
        line.split("=", 1) for line in (_FILES / "agent.env").read_text("utf-8").splitlines() if line[0] != "#"
    )
    assert agent["RUNLAKE_INGEST"] == query["ingest"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs Debian's package systemd")
@pytest.mark.parametrize("name", ["ingest", "query"])
def test_systemd_knows_every_word_of_the_units_with_what_a_cluster_adds(name: str, tmp_path: Path) -> None:
    assert entry.main(["init", "--system", "--root", str(tmp_path), "--python", "/bin/sh"]) == 0
    unit = tmp_path / f"etc/systemd/system/runlake-{name}.service"
    beside = unit.with_name(f"{unit.name}.d") / "cluster.conf"
    beside.parent.mkdir()
    beside.write_bytes((_FILES / "cluster.conf").read_bytes())
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(unit)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
