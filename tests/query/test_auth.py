"""Bearer tokens and cross-origin requests, against a real process; nothing of a token is ever shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.api import Api, Start
from support.contract import new_run, problem
from support.lakes import LakeWriter
from support.processes import Process, Site

TOKEN, READ_TOKEN = "only-for-this-test-0123456789", "reads-of-this-test-0123456789"
WRITES = "/api/v1/runs/00000000-0000-4000-8000-000000000001"


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def guarded(site: Site, folder: Path, **env: str) -> tuple[Process, Api]:
    file = folder / "token"
    file.write_text(f"{TOKEN}\n")
    process = Process(
        "runlake_query", "--data", str(site.data), "--http", "127.0.0.1:0", "--ingest", site.ingest_endpoint,
        "--feed", site.feed_endpoint, "--token-file", str(file), env=env,
    )  # fmt: skip
    api = Api(f"http://{process.wait_for('listening')['http']}")
    process.wait_for("caught_up")
    return process, api


@pytest.mark.parametrize(
    ("scope", "guards_reads", "guards_writes"), [("both", True, True), ("reads", True, False), ("writes", False, True)]
)
def test_a_token_guards_reads_writes_or_both(
    site: Site, lake: LakeWriter, tmp_path: Path, scope: str, guards_reads: bool, guards_writes: bool
) -> None:
    process, api = guarded(site, tmp_path, RUNLAKE_TOKEN_SCOPE=scope)
    with process:
        for path in ("/api/v1/runs", "/metrics", "/openapi.json", "/ready", "/nothing"):
            assert (api.get(path).status == 401) is guards_reads, path
            assert api.get(path, bearer(TOKEN)).status == (404 if path == "/nothing" else 200)
        assert (api.patch(WRITES, {"status": "success"}).status == 401) is guards_writes
        assert api.patch(WRITES, {"status": "success"}, bearer(TOKEN)).status == 404
        assert api.get("/health").status == 200
        api.close()


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer  ", "Basic abc", TOKEN, f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}"]
)
def test_no_token_or_a_wrong_one_is_401_and_says_what_to_send(
    site: Site, lake: LakeWriter, tmp_path: Path, header: str | None
) -> None:
    process, api = guarded(site, tmp_path)
    with process:
        reply = api.get("/api/v1/runs", {} if header is None else {"Authorization": header})
        assert TOKEN not in problem(reply, 401)["detail"]
        assert reply.headers["www-authenticate"].startswith('Bearer realm="runlake"')
        api.close()


def test_a_token_for_reading_reads_and_is_403_for_writes(site: Site, lake: LakeWriter, tmp_path: Path) -> None:
    process, api = guarded(site, tmp_path, RUNLAKE_READ_TOKEN=READ_TOKEN)
    with process:
        assert api.get("/api/v1/runs", bearer(READ_TOKEN)).status == 200
        assert problem(api.post("/api/v1/runs", new_run(), bearer(READ_TOKEN)), 403)["detail"].startswith("This token")
        assert api.get("/api/v1/runs", bearer(TOKEN)).status == 200
        api.close()


def test_the_token_is_in_no_log_no_answer_and_no_argument(site: Site, lake: LakeWriter, tmp_path: Path) -> None:
    process, api = guarded(site, tmp_path, RUNLAKE_LOG_LEVEL="debug")
    with process:
        said = api.get("/metrics", bearer(TOKEN)).text + api.get("/api/v1/runs?x=1", bearer(TOKEN)).text
        assert TOKEN not in Path(f"/proc/{process.pid}/cmdline").read_text()
        api.close()
        assert process.terminate() == 0
        assert TOKEN not in said + "".join(process.text)


def test_beyond_loopback_without_a_token_it_refuses_to_start_and_says_how(site: Site) -> None:
    with Process("runlake_query", "--data", str(site.data), "--http", "0.0.0.0:0") as process:
        assert process.wait() == 2
        said = "".join(process.text)
        assert "RUNLAKE_TOKEN" in said
        assert "openssl rand -hex 32" in said


# Cross-origin


def preflight(api: Api, origin: str) -> dict[str, str]:
    headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    reply = api.request("OPTIONS", "/api/v1/runs", headers)
    return {**reply.headers, "status": str(reply.status)}


@pytest.mark.parametrize("origin", ["http://localhost:5173", "http://127.0.0.1", "https://[::1]:8443"])
def test_pages_of_this_machine_may_call_when_the_setting_says_local(
    lake: LakeWriter, start: Start, origin: str
) -> None:
    _, api = start("--cors-origins", "local")
    answer = preflight(api, origin)
    assert (answer["status"], answer["access-control-allow-origin"]) == ("204", origin)
    assert "Authorization" in answer["access-control-allow-headers"]
    reply = api.get("/api/v1/runs", {"Origin": origin})
    assert reply.headers["access-control-allow-origin"] == origin
    assert "RunLake-Position" in reply.headers["access-control-expose-headers"]
    assert api.get("/nothing", {"Origin": origin}).headers["access-control-allow-origin"] == origin


def test_other_pages_may_not_and_by_default_none_may(lake: LakeWriter, start: Start) -> None:
    _, local = start("--cors-origins", "local")
    folder = lake.catalog.parent
    _, named = start("--cors-origins", "https://a.example, https://b.example", "--read-model", str(folder / "q2"))
    _, none = start("--read-model", str(folder / "q3"))
    for api, origin, allowed in (
        (local, "https://example.org", False), (local, "http://localhost.example.org", False), (local, "null", False),
        (named, "https://b.example", True), (named, "http://localhost", False), (none, "http://localhost", False),
    ):  # fmt: skip
        answer = preflight(api, origin)
        assert (answer["status"] == "204") is allowed
        assert ("access-control-allow-origin" in answer) is allowed
        assert ("access-control-allow-origin" in api.get("/api/v1/runs", {"Origin": origin}).headers) is allowed
