"""The container files: what they say can be read, and what they run is run here, as their users, in plain processes."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from support.identities import Identity
from support.postgres import free_port
from support.processes import wait_until

_ROOT = Path(__file__).parents[2]
_DEPLOY = _ROOT / "deploy"
_COMPOSE: dict[str, Any] = yaml.safe_load((_DEPLOY / "compose.yaml").read_text())
_OURS = ("ingest", "query")
_READ_ONLY = 'mount --bind "$0" "$0"; mount -o remount,bind,ro "$0"; exec "$@"'


class Image:
    """What a container file says of its last stage."""

    def __init__(self, name: str) -> None:
        text = (_DEPLOY / f"{name}.Dockerfile").read_text().replace("\\\n", " ")
        self.lines = [line for line in text.splitlines() if line and not line.startswith("#")]
        last = max(at for at, line in enumerate(self.lines) if line.startswith("FROM "))
        self.stage = self.lines[last:]
        self.entrypoint: list[str] = json.loads(self.word("ENTRYPOINT"))
        self.health: list[str] = json.loads(self.word("HEALTHCHECK").partition(" CMD ")[2])
        user, _, group = self.word("USER").partition(":")
        self.identity = Identity(int(user), int(group))
        self.variables = dict(pair.split("=", 1) for pair in self.word("ENV").split())

    def word(self, name: str) -> str:
        (line,) = [line for line in self.stage if line.startswith(f"{name} ")]
        return line.removeprefix(f"{name} ")


class Machine:
    """Folders in the place of volumes, and addresses of its own in the place of the host's."""

    def __init__(self, folder: Path) -> None:
        self.volumes = {"/var/lib/runlake": folder / "data", "/var/lib/runlake-query": folder / "model"}
        owners = {"/var/lib/runlake": "ingest", "/var/lib/runlake-query": "query"}
        folder.chmod(0o755)
        for inside, path in self.volumes.items():
            path.mkdir()
            if os.geteuid() == 0:
                identity = Image(owners[inside]).identity
                os.chown(path, identity.user, identity.group)
            path.chmod(0o750)
        self.sockets = folder / "sockets"
        self.sockets.mkdir()
        self.sockets.chmod(0o2777)
        self.ports = {"RUNLAKE_HTTP": free_port(), "RUNLAKE_METRICS": free_port()}

    def environment(self, image: Image) -> dict[str, str]:
        """What a container has, with the test's own paths and addresses."""
        own = {name: self._outside(value) for name, value in image.variables.items() if name != "PATH"}
        ipc = {name: f"ipc://{self.sockets}/{name}" for name in ("RUNLAKE_INGEST", "RUNLAKE_PUSH", "RUNLAKE_FEED")}
        path = f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}"
        return own | ipc | {name: f"127.0.0.1:{port}" for name, port in self.ports.items()} | {"PATH": path}

    def prefix(self, name: str, image: Image) -> list[str]:
        """As the image's user, and for query with the lake mounted read-only. Only root can."""
        if os.geteuid() != 0:
            return []
        lake = str(self.volumes["/var/lib/runlake"])
        mounted = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", _READ_ONLY, lake]
        return [*(mounted if name == "query" else []), *image.identity.prefix()]

    @contextmanager
    def run(self, name: str) -> Iterator[subprocess.Popen[bytes]]:
        """The image's own command, until the block ends."""
        image = Image(name)
        command = [*self.prefix(name, image), *image.entrypoint]
        workdir = self._outside(image.word("WORKDIR"))
        with subprocess.Popen(command, env=self.environment(image), cwd=workdir) as process:
            try:
                yield process
            finally:
                process.terminate()
                process.wait(60)

    def healthy(self, name: str) -> bool:
        """What the image's own health check says."""
        image = Image(name)
        done = subprocess.run(
            [*image.identity.prefix(), *image.health] if os.geteuid() == 0 else image.health,
            env=self.environment(image),
            cwd=self._outside(image.word("WORKDIR")),
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, "well" in done.stdout) in ((0, True), (1, False)), done.stderr
        return done.returncode == 0

    def _outside(self, inside: str) -> str:
        return str(self.volumes[inside])


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def machine() -> Iterator[Machine]:
    with tempfile.TemporaryDirectory(prefix="runlake-containers-") as folder:  # others may enter it, unlike pytest's
        yield Machine(Path(folder))


def test_each_images_command_serves_and_its_health_check_tells(machine: Machine) -> None:
    assert not machine.healthy("ingest")
    assert not machine.healthy("query")
    with machine.run("query") as query:
        with machine.run("ingest") as ingest:
            wait_until(lambda: _listens(machine.ports["RUNLAKE_METRICS"]), "ingest to listen")
            wait_until(lambda: machine.healthy("ingest"), "ingest to be well")
            wait_until(lambda: machine.healthy("query"), "query to be well")
            catalog = machine.volumes["/var/lib/runlake"] / "catalog.sqlite"
            assert catalog.stat().st_mode & 0o777 == 0o640
        assert ingest.returncode == 0  # SIGTERM reaches it, and is no failure
        assert not machine.healthy("ingest")
        assert machine.healthy("query")  # it goes on without
    assert query.returncode == 0


@pytest.mark.parametrize("name", _OURS)
def test_an_image_runs_as_a_user_without_rights_and_has_what_its_side_needs(name: str) -> None:
    image = Image(name)
    assert image.identity.user > 1_000
    assert any(f"useradd --uid {image.identity.user} " in line for line in image.stage)
    (install,) = [line for line in image.lines if "pip install" in line]
    assert '"/src[$EXTRAS]"' in install
    assert f"ARG EXTRAS={name}" in image.lines
    assert not any("pip install" in line or "apt-get" in line for line in image.stage)
    bases = {line.split()[1] for line in image.lines if line.startswith("FROM ")}
    assert len(bases) == 1
    assert all(re.fullmatch(r"python:3\.\d+-slim-\w+", base) for base in bases)


def test_both_images_share_the_group_that_reads_the_lake() -> None:
    ingest, query = (Image(name).identity for name in _OURS)
    assert ingest.group == query.group
    assert ingest.user != query.user


@pytest.mark.parametrize("name", _OURS)
def test_what_an_image_copies_is_in_what_the_build_is_sent(name: str) -> None:
    sent = {line[1:] for line in (_ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [line.split()[1:-1] for line in Image(name).lines if line.startswith("COPY ") and "--from" not in line]
    assert {path for paths in copied for path in paths} == sent
    assert all((_ROOT / path).exists() for path in sent)


def test_no_service_publishes_a_port_or_keeps_a_right() -> None:
    for name, service in _COMPOSE["services"].items():
        assert "ports" not in service
        assert service["network_mode"] == "host"
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert "privileged" not in service
        if name in _OURS:
            assert service["read_only"] is True
    for option in _COMPOSE["services"]["prometheus"]["command"]:
        assert "listen-address" not in option or "127.0.0.1:" in option
    assert _COMPOSE["services"]["grafana"]["environment"]["GF_SERVER_HTTP_ADDR"] == "127.0.0.1"


def test_query_has_the_lake_to_read_and_ingest_to_write() -> None:
    (lake,) = [volume for volume in _COMPOSE["services"]["query"]["volumes"] if isinstance(volume, dict)]
    assert (lake["source"], lake["target"], lake["read_only"]) == ("data", "/var/lib/runlake", True)
    assert _COMPOSE["services"]["ingest"]["volumes"] == ["data:/var/lib/runlake"]


def test_every_file_and_volume_that_compose_names_is_there() -> None:
    for service in _COMPOSE["services"].values():
        for volume in service["volumes"]:
            source = volume["source"] if isinstance(volume, dict) else volume.split(":")[0]
            assert (_DEPLOY / source).exists() if source.startswith(".") else source in _COMPOSE["volumes"], source
        if "build" in service:
            assert (_DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
        for secret in service.get("secrets", ()):
            assert _COMPOSE["secrets"][secret] == {"environment": "GRAFANA_PASSWORD"}
