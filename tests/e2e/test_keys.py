"""With keys: agents, HTTP and the feed work as ever, between hosts too; without, nobody starts to."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest

import runlake
from runlake.cli.keyfiles import new_pair
from support.api import Api
from support.keys import Keys
from support.network import Network
from support.processes import Process, Site, wait_until
from support.runlake_command import Command
from support.samples import events, started

_PAGE = (Path(__file__).parents[2] / "docs" / "keys.md").read_text("utf-8")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def keys(site: Site, tmp_path: Path) -> Keys:
    return Keys(site.data, tmp_path / "clients")


def emitter_for(endpoint: str, keys: Keys, name: str | None, spool: Path) -> runlake.Emitter:
    """An agent's; without a name it has no keys."""
    given: dict[str, Any] = {}
    if name is not None:
        told = keys.variables(name)
        given = {"server_key": told["RUNLAKE_SERVER_KEY"], "client_key": told["RUNLAKE_CLIENT_KEY"]}
    return runlake.Emitter(endpoint=endpoint, spool=spool, exit_timeout_s=0, **given)


def run_over_http(run_id: str) -> dict[str, str]:
    start = "2026-01-28T10:30:00Z"
    return {"event_id": str(uuid4()), "run_id": run_id, "agent_name": "a", "job_type": "j", "start_time": start}


def from_feed(api: Api) -> float:
    """How many messages the query process applied from the feed."""
    lines = api.get("/metrics").text.splitlines()
    return sum(float(line.split(" ")[1]) for line in lines if line.startswith("runlake_query_feed_messages_total"))


def test_agents_http_and_feed_work_with_keys(site: Site, keys: Keys, tmp_path: Path) -> None:
    keys.client("agent")
    keys.client("query")
    with site.ingest("--log-level", "debug") as worker:
        query, url = site.query("--log-level", "debug", env=keys.variables("query"))
        agent = emitter_for(site.ingest_endpoint, keys, "agent", tmp_path / "spool")
        with query:
            api = Api(url)
            assert agent.emit(started("by-agent"))
            for message in events(3, "by-agent"):
                assert agent.emit(message)
            assert agent.flush(30), agent.stats()
            wait_until(lambda: api.get("/api/v1/runs/by-agent").status == 200, "the agent's run to be seen")
            assert api.post("/api/v1/runs", run_over_http("by-http")).status == 201
            assert api.ok("/api/v1/runs/by-http")["run_id"] == "by-http"
            wait_until(lambda: from_feed(api) > 0, "the feed to be heard")
            agent.close(5)
            api.close()
            query.terminate()
        worker.terminate()
    text = "".join((*worker.text, *query.text))
    assert "keys_in_force" in text
    secrets = [file.read_text().split('secret-key = "')[1][:40] for file in tmp_path.rglob("*.key_secret")]
    assert len(secrets) == 3
    assert not [secret for secret in secrets if secret in text]


def test_up_and_its_commands_go_on_as_before_once_the_worker_has_keys(tmp_path: Path) -> None:
    command = Command(tmp_path)
    assert command("keys", "create", "server").returncode == 0
    with command.up() as up:
        assert up.wait_for("keys_in_force")["allowed"] == 1
        done = command("demo", "--files", "4", "--agents", "1", "--json")
        assert done.returncode == 0, done.stderr
        assert msgspec.json.decode(done.stdout[done.stdout.index("{") :])["equal"] is True


def test_an_agent_that_is_revoked_delivers_nothing_more_and_what_it_emits_waits(
    site: Site, keys: Keys, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    friend, foe = keys.client("friend"), keys.client("foe")
    with site.ingest() as worker, caplog.at_level(logging.WARNING, "runlake"):
        agents = {name: emitter_for(site.ingest_endpoint, keys, name, tmp_path / name) for name in ("friend", "foe")}
        for agent in agents.values():
            agent.emit(events(1)[0])
            assert agent.flush(30), agent.stats()
        (keys.folder.allowed_folder / "foe.key").unlink()
        worker.wait_for("connections_cut")
        for agent in agents.values():
            agent.emit(events(1)[0])
        assert agents["friend"].flush(30), agents["friend"].stats()
        wait_until(lambda: foe.own.public in caplog.text, "the agent to say why it cannot deliver")
        assert f"runlake keys allow '{foe.own.public}'" in caplog.text
        assert agents["foe"].stats().acknowledged == 1
        assert friend.own.public not in caplog.text
        keys.allow("foe", foe.own)  # and when it is let in again, it delivers what waited
        assert agents["foe"].flush(60), agents["foe"].stats()
        for agent in agents.values():
            agent.close(5)
    assert foe.own.secret not in caplog.text


def test_an_agent_says_once_why_it_does_not_get_in(
    site: Site, keys: Keys, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keys.client("agent")
    with site.ingest(), caplog.at_level(logging.WARNING, "runlake"):
        other = runlake.Emitter(
            endpoint=site.ingest_endpoint, spool=tmp_path / "1", exit_timeout_s=0,
            server_key=new_pair().public, client_key=keys.variables("agent")["RUNLAKE_CLIENT_KEY"],
        )  # fmt: skip
        none = emitter_for(site.ingest_endpoint, keys, None, tmp_path / "2")
        for emitter in (other, none):
            emitter.emit(events(1)[0])
        for words in ("Most likely RUNLAKE_SERVER_KEY is not its public key", "none are set here"):
            wait_until(lambda: words in caplog.text, words)  # noqa: B023
        for emitter in (other, none):
            assert emitter.stats().acknowledged == 0
            emitter.close(0)
    assert caplog.text.count("Most likely") == caplog.text.count("none are set here") == 1


def test_a_query_process_whose_key_is_allowed_later_hears_the_feed_then(site: Site, keys: Keys) -> None:
    late = keys.client("late", allowed=False)
    with site.ingest() as worker:
        query, url = site.query(env=keys.variables("late"))
        with query:
            api = Api(url)
            worker.wait_for("connection_refused")
            refused = api.post("/api/v1/runs", run_over_http("r"))
            assert refused.status == 503
            assert late.own.public in refused.text
            keys.allow("late", late.own)
            worker.wait_for("keys_changed")
            wait_until(lambda: api.post("/api/v1/runs", run_over_http("r")).status == 201, "HTTP to be let in")

            def heard() -> bool:
                return api.post("/api/v1/runs", run_over_http("r")).status == 201 and from_feed(api) > 0

            wait_until(heard, "the feed to be heard")
            api.close()


def test_the_example_for_any_language_pushes(site: Site, keys: Keys) -> None:
    keys.client("other")
    ((code,),) = (re.findall(r"^```python\n(.*?)^```$", _PAGE, re.MULTILINE | re.DOTALL),)
    code = code.replace("tcp://127.0.0.1:8767", site.push_endpoint)
    with site.ingest() as worker:
        subprocess.run([sys.executable, "-c", code], env=os.environ | keys.variables("other"), check=True, timeout=60)
        assert worker.terminate() == 0
    assert worker.wait_for("stopped")["position"]["accepted"] == 1


def across(site: Site, address: str) -> dict[str, str]:
    """Bind everything on a host, and say where that is."""
    endpoints = {"ingest": 8766, "push": 8767, "feed": 8768}
    site.ingest_endpoint, site.push_endpoint, site.feed_endpoint = (
        f"tcp://{address}:{port}" for port in endpoints.values()
    )
    return {f"RUNLAKE_{name.upper()}_BIND": f"tcp://0.0.0.0:{port}" for name, port in endpoints.items()}


def test_between_hosts_all_of_it_works_with_keys(site: Site, keys: Keys, network: Network, tmp_path: Path) -> None:
    keys.client("agent")
    keys.client("query")
    worker_host, query_host = network.add_host(), network.add_host()
    site.env, site.prefix = across(site, worker_host.address), worker_host.prefix
    with site.ingest():
        agent = emitter_for(site.ingest_endpoint, keys, "agent", tmp_path / "spool")
        agent.emit(started("far"))
        assert agent.flush(30), agent.stats()
        agent.close(5)
        site.env, site.prefix = {"RUNLAKE_TOKEN": "a-token-of-this-test-0123456789"}, query_host.prefix
        query, url = site.query("--http", f"{query_host.address}:8765", env=keys.variables("query"))
        with query:
            api = Api(url)
            token = {"Authorization": f"Bearer {site.env['RUNLAKE_TOKEN']}"}
            wait_until(lambda: api.get("/api/v1/runs/far", token).status == 200, "the run is shown")
            assert api.get("/api/v1/runs/far").status == 401
            api.close()


def test_between_hosts_nobody_starts_without_keys(
    site: Site, tmp_path: Path, network: Network, caplog: pytest.LogCaptureFixture
) -> None:
    host = network.add_host()
    site.env, site.prefix = across(site, host.address), host.prefix
    processes: dict[str, Process] = {"worker": site.ingest(ready=False), "query": site.query_process()}
    for name, process in processes.items():
        with process:
            assert process.wait() == 2, name
        assert "runlake keys create server" in "".join(process.text), name
    assert not site.data.exists()
    with caplog.at_level(logging.WARNING, "runlake"):
        agent = runlake.Emitter(endpoint=site.ingest_endpoint, spool=tmp_path / "spool", exit_timeout_s=0)
        agent.emit(started())
        wait_until(lambda: "runlake keys create client" in caplog.text, "the agent to say why it does not connect")
        assert agent.stats().sent == 0
        agent.close(0)
