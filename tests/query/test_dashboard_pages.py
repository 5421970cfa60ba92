"""What serves the dashboard, over HTTP: pages, files, signing in, names."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from runlake.fields import DIMENSIONS
from runlake_query.auth import Auth
from runlake_query.dashboard.paths import VIEWS
from support.api import Api
from support.processes import Site

TOKEN = "a-token-of-the-tests-long-enough"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A query process that asks for a token; ingest is not needed."""
    site = Site(tmp_path_factory.mktemp("guarded"))
    with site.ingest():
        query, url = site.query(env={"RUNLAKE_TOKEN": TOKEN})
        with query:
            yield url


@pytest.fixture
def api(guarded: str) -> Iterator[Api]:
    api = Api(guarded)
    yield api
    api.close()


@pytest.mark.parametrize("path", ["/", "/runs", "/runs/any/run", "/commits/9fceb02", "/system"])
def test_every_view_is_the_one_page_with_a_strict_policy_and_no_token(api: Api, path: str) -> None:
    reply = api.get(path)
    assert (reply.status, reply.headers["content-type"]) == (200, "text/html; charset=utf-8")
    policy = reply.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert reply.headers["cache-control"] == "no-cache"
    assert TOKEN not in reply.text
    assert all(f'"{name}"' in reply.text for name in DIMENSIONS)


def test_a_page_names_all_that_it_loads_so_that_it_comes_at_once(api: Api) -> None:
    overview, runs = (
        re.findall(r'<link rel="(\w*preload)"[^>]*href="([^"]+)"', api.get(path).text) for path in ("/", "/runs")
    )
    assert all(api.get(path).status == 200 for _, path in overview)
    modules = {path.rsplit("/", 1)[1] for kind, path in overview if kind == "modulepreload"}
    scripts = (api.get(path).text for kind, path in overview if kind == "modulepreload")
    imported = {name for script in scripts for name in re.findall(r'from "\./([a-z]+\.js)"', script)}
    assert modules == imported | {"app.js"}
    assert [path.rsplit("/", 1)[1] for kind, path in overview if kind == "preload"] == ["Chart.bundle.js"]
    assert len(runs) == len(overview) - 1, "only the overview has charts from the start"


def test_its_files_are_kept_for_good_under_their_version(api: Api) -> None:
    version = version_of(api)
    for name, kind in (("app.js", "text/javascript"), ("style.css", "text/css"), ("icon.svg", "image/svg+xml")):
        reply = api.get(f"/ui/{version}/{name}")
        assert reply.status == 200
        assert reply.headers["content-type"].startswith(kind)
        assert "immutable" in reply.headers["cache-control"]
    charts = api.get(f"/ui/{version}/Chart.bundle.js", headers={"Accept-Encoding": "gzip"})
    assert charts.headers["content-encoding"] == "gzip"
    assert len(gzip.compress(charts.text.encode())) < 200_000


@pytest.mark.parametrize(
    "path", ["/ui/{version}/none.js", "/ui/0000000000000000/app.js", "/ui/{version}/..%2Fassets.py", "/nothing"]
)
def test_what_is_not_there_is_a_problem(api: Api, path: str) -> None:
    reply = api.get(path.format(version=version_of(api)), headers={"Authorization": f"Bearer {TOKEN}"})
    assert (reply.status, reply.headers["content-type"]) == (404, "application/problem+json")


def test_signing_in_gives_a_cookie_that_scripts_and_other_sites_cannot_use(api: Api) -> None:
    assert api.get("/api/v1/runs").status == 401
    assert api.post("/session", {"token": "wrong"}).status == 401
    assert api.post("/session", {"key": TOKEN}).status == 400
    reply = api.post("/session", {"token": TOKEN})
    assert reply.status == 204
    cookie = reply.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert TOKEN not in cookie
    name = cookie.partition(";")[0]
    assert api.get("/api/v1/runs", headers={"Cookie": name}).status == 200
    assert api.get("/api/v1/runs", headers={"Cookie": name, "Origin": "http://evil.example"}).status == 401
    assert api.get("/api/v1/runs", headers={"Cookie": name, "Origin": api.url}).status == 200
    gone = api.request("DELETE", "/session")
    assert gone.status == 204
    assert "Max-Age=0" in gone.headers["set-cookie"]


def test_behind_tls_the_cookie_is_for_tls_alone(api: Api) -> None:
    assert "Secure" not in api.post("/session", {"token": TOKEN}).headers["set-cookie"]
    secure = api.post("/session", {"token": TOKEN}, headers={"X-Forwarded-Proto": "https"})
    assert "Secure" in secure.headers["set-cookie"]


def test_with_a_token_on_everything_any_name_is_answered(api: Api) -> None:
    assert api.get("/health", headers={"Host": "runs.example"}).status == 200


def test_every_view_is_open_and_nothing_else_is() -> None:
    auth = Auth(TOKEN)
    for path in (*VIEWS, "/ui/x/app.js", "/health", "/session"):
        auth.check("GET", path, None)
    for path in ("/api/v1/runs", "/metrics", "/ready", "/openapi.json", "/runsomething", "/ui"):
        with pytest.raises(Exception, match="token"):
            auth.check("GET", path, None)
    with pytest.raises(Exception, match="token"):
        auth.check("POST", "/runs/x", None)


def test_without_a_token_other_names_are_refused(tmp_path: Path) -> None:
    site = Site(tmp_path)
    with site.ingest():
        query, url = site.query(env={"RUNLAKE_HOSTS": "runs.example"})
        with query:
            api = Api(url)
            assert api.get("/health", headers={"Host": "runs.example:80"}).status == 200
            refused = api.get("/api/v1/runs", headers={"Host": "evil.example"})
            assert (refused.status, refused.headers["content-type"]) == (421, "application/problem+json")
            assert "RUNLAKE_HOSTS" in refused.json["detail"]
            api.close()


def version_of(api: Api) -> str:
    found = re.search(r"/ui/([0-9a-f]{16})/app\.js", api.get("/").text)
    assert found is not None
    return found[1]
