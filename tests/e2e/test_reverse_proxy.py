"""Streams behind nginx, with the configuration of `deploy/`."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.api import Api
from support.postgres import free_port
from support.processes import Site, wait_until
from support.producer import Producer
from support.samples import event, started
from support.streaming import Stream

CONFIGURATION = Path(__file__).parents[2] / "deploy" / "nginx.conf"
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin") or shutil.which("nginx")

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed (Debian: nginx-light)")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    with site.ingest():
        yield site


@pytest.fixture
def direct(site: Site) -> Iterator[str]:
    process, url = site.query()
    with process:
        process.wait_for("feed_heard")
        yield url


@pytest.fixture
def proxied(direct: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of nginx before the query process. The parameter leaves out lines of the configuration."""
    port = free_port()
    folder = tmp_path / "nginx"
    folder.mkdir()
    text = CONFIGURATION.read_text()
    for name, address in (("127.0.0.1:8765", direct.removeprefix("http://")), ("127.0.0.1:8080", f"127.0.0.1:{port}")):
        assert text.count(name) == 1
        text = text.replace(name, address)
    left_out = getattr(request, "param", "(nothing)")
    (folder / "runlake.conf").write_text("\n".join(line for line in text.splitlines() if left_out not in line))
    temporary = "\n".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"pid {folder}/pid;\nerror_log stderr;\ndaemon off;\nevents {{}}\n"
        f"http {{\naccess_log off;\ngzip on;\ngzip_types *;\n{temporary}\ninclude {folder}/runlake.conf;\n}}\n"
    )
    command = [str(NGINX), "-p", str(folder), "-c", str(folder / "nginx.conf")]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as nginx:
        try:
            wait_until(lambda: _listens(port), "nginx listens")
            yield f"http://127.0.0.1:{port}"
        finally:
            nginx.terminate()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def clients(api: Api) -> float:
    (line,) = [line for line in api.get("/metrics").text.splitlines() if line.startswith("runlake_stream_clients ")]
    return float(line.split()[1])


@pytest.mark.parametrize(
    "proxied",
    # Without it nginx asks in HTTP/1.0, and would collect a stream in its buffers if the answer did not say otherwise.
    ["(nothing)", "proxy_http_version"],
    indirect=True,
)
def test_what_happens_arrives_through_the_proxy_at_once_and_that_the_client_left_is_seen(
    site: Site, direct: str, proxied: str
) -> None:
    api = Api(direct)
    with Producer(site.ingest_endpoint) as producer:
        with Stream(proxied) as stream, Stream(proxied, "/api/v1/stream", agent_name="nobody") as quiet:
            assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
            assert stream.headers["cache-control"] == "no-cache, no-transform"
            assert "content-encoding" not in stream.headers
            stream.wait("position")
            for number in range(5):  # each is far smaller than any buffer, and the next is sent after it was heard
                producer.deliver([event(number)])
                assert stream.wait("event", number + 1)[-1].data["payload"] == {"number": number}
            assert clients(api) == 2
            wait_until(lambda: quiet.comments > 0, "a heartbeat comes")
        wait_until(lambda: clients(api) == 0, "the query process sees that its clients left")
    api.close()


def test_a_stream_is_resumed_and_answers_are_the_same_through_the_proxy(site: Site, direct: str, proxied: str) -> None:
    api, through = Api(direct), Api(proxied)
    with Producer(site.ingest_endpoint) as producer:
        run = started("r")
        producer.deliver([run, event(1, "r")])
        with Stream(proxied, "/api/v1/runs/r/events") as stream:
            last = stream.wait("event")[0].position
        producer.deliver([event(2, "r")])
        with Stream(proxied, "/api/v1/runs/r/events", last=last) as stream:
            assert stream.wait("event")[0].data["payload"] == {"number": 2}
    assert through.ok("/api/v1/runs/r") == api.ok("/api/v1/runs/r")
    reply = through.get("/api/v1/stream", {"Last-Event-ID": "yesterday"})
    assert (reply.status, reply.headers["content-type"]) == (400, "application/problem+json")
    api.close()
    through.close()
