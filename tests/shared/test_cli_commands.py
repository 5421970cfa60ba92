"""The `runlake` command without a RunLake to talk to: help, wrong flags, and what it says when nobody answers."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest


def _runlake(*arguments: str, cwd: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RUNLAKE_")}
    return subprocess.run(
        [sys.executable, "-m", "runlake.cli", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment | (env or {}),
        timeout=60,
        check=False,
    )


@pytest.fixture
def free_port() -> Iterator[int]:
    """A port that refuses connections: bound, and not listened on."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


def test_version_is_that_of_the_distribution(tmp_path: Path) -> None:
    said = _runlake("--version", cwd=tmp_path)
    assert said.stdout == f"runlake {version('runlake')}\n"
    assert said.returncode == 0


@pytest.mark.parametrize("command", ["up", "ingest", "query", "demo", "runs", "rollup", "doctor", "runs show", ""])
def test_every_command_has_help(command: str, tmp_path: Path) -> None:
    said = _runlake(*command.split(), "--help", cwd=tmp_path)
    assert said.returncode == 0
    assert said.stdout.startswith("usage: ")


@pytest.mark.parametrize("arguments", [[], ["fly"], ["runs", "--limit", "many"], ["runs", "--colour", "red"]])
def test_a_wrong_command_line_ends_with_status_2(arguments: list[str], tmp_path: Path) -> None:
    said = _runlake(*arguments, cwd=tmp_path)
    assert said.returncode == 2
    assert "usage: " in said.stderr


@pytest.mark.parametrize("command", [["runs"], ["up"], ["doctor"], ["demo"], ["ingest"], ["query"]])
def test_a_wrong_setting_is_one_line_that_names_it(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "runlake.toml").write_text('colour = "red"\n')
    said = _runlake(*command, cwd=tmp_path)
    assert said.returncode == 2
    assert "there is no setting 'colour'" in said.stderr
    assert said.stderr.count("\n") == 1


@pytest.mark.parametrize("command", [["runs"], ["runs", "show", "x"], ["rollup"], ["demo"]])
def test_a_refused_connection_says_how_to_start(command: list[str], free_port: int, tmp_path: Path) -> None:
    said = _runlake(*command, "--http", f"127.0.0.1:{free_port}", cwd=tmp_path)
    assert said.returncode == 1
    assert said.stderr.startswith(f"runlake: nothing answers at http://127.0.0.1:{free_port}. Start RunLake with")
    assert said.stderr.count("\n") == 1


def test_a_program_that_does_not_speak_http_is_named_as_such(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = subprocess.Popen(
            [sys.executable, "-m", "runlake.cli", "runs", "--http", f"127.0.0.1:{server.getsockname()[1]}"],
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
        )
        with client:
            server.settimeout(30)
            connection, _ = server.accept()
            connection.recv(1024)
            connection.sendall(b"220 mail.example ESMTP\r\n")
            connection.close()
            assert client.stderr is not None
            words = client.stderr.read()
    assert client.returncode == 1
    assert words.startswith("runlake: ")
    assert words.count("\n") == 1


def test_up_refuses_a_taken_port_and_names_the_setting(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        said = _runlake("up", "--http", address, "--data", str(tmp_path / "data"), cwd=tmp_path)
    assert said.returncode == 1
    assert f"{address} cannot be used (another program listens there): set RUNLAKE_HTTP" in said.stderr
    assert not (tmp_path / "data").exists()


def _doctor(tmp_path: Path, *flags: str, data: Path | None = None) -> tuple[int, dict[str, list[dict[str, str]]]]:
    said = _runlake(
        "doctor", "--json", "--data", str(data or tmp_path / "data"), "--http", "127.0.0.1:0", "--ingest",
        f"ipc://{tmp_path}/i", "--push", f"ipc://{tmp_path}/p", "--feed", f"ipc://{tmp_path}/f", *flags, cwd=tmp_path,
    )  # fmt: skip
    return said.returncode, json.loads(said.stdout)


def test_doctor_finds_a_data_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    status, found = _doctor(tmp_path, data=tmp_path / "file" / "data")
    assert status == 1
    problems = [finding for finding in found["findings"] if finding["state"] == "problem"]
    assert any("is no folder" in finding["what"] and "--data" in finding["fix"] for finding in problems)


def test_doctor_finds_a_catalog_that_is_damaged(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "catalog.sqlite").write_bytes(b"this is no database" * 100)
    status, found = _doctor(tmp_path)
    assert status == 1
    assert any("catalog.sqlite cannot be read" in finding["what"] for finding in found["findings"])


def test_doctor_tells_a_foreign_program_on_the_http_port_from_a_query_process(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        server.close()
        listener = subprocess.Popen(
            [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=tmp_path,
        )
        try:
            _wait_for_listener(port)
            status, found = _doctor(tmp_path, "--http", f"127.0.0.1:{port}")
        finally:
            listener.kill()
            listener.wait()
    assert status == 1
    assert any("is no query process of RunLake" in finding["what"] for finding in found["findings"])


def _wait_for_listener(port: int) -> None:
    from support.processes import wait_until

    def listens() -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except ConnectionRefusedError:
            return False
        return True

    wait_until(listens, "a listener")


def test_every_problem_says_how_to_fix_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    _, found = _doctor(tmp_path, data=tmp_path / "file")
    assert all(finding["fix"] for finding in found["findings"] if finding["state"] == "problem")
