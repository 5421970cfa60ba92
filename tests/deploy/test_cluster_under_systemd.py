"""The guide to a cluster, line by line under a real systemd: its files as they are, with its example addresses.

All hosts are one here. So the query host's settings and secrets are in files of their own, and `ssh` to a host is a
shell. Not run are the lines that install RunLake, and the one that starts HAProxy by its unit.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.guide import Step, section, steps
from support.haproxy import find_haproxy
from support.postgres import find_binaries
from support.processes import wait_until
from support.systemd import Systemd, missing

pytestmark = [
    pytest.mark.skipif(bool(missing()), reason=missing() or "systemd"),
    pytest.mark.skipif(find_binaries() is None, reason="needs PostgreSQL (Debian: apt-get install postgresql)"),
]

_ROOT = Path(__file__).parents[2]
_SETTINGS, _QUERY_SETTINGS = "/etc/runlake/runlake.toml", "/etc/runlake/query.toml"
_SECRETS, _QUERY_SECRETS = "/etc/runlake/environment", "/etc/runlake/query.environment"
_RUNLAKE = f"{sys.executable} -m runlake.cli"
_ADDRESSES = ("192.0.2.11", "192.0.2.21", "192.0.2.5", "192.0.2.6")
_NAMES = "192.0.2.5 db.example.org\n"
_PASSWORD = "of-both-roles-in-this-test"
_STORE = "http://192.0.2.6:9000"
_SEEN = "[Service]\nProtectHome=no\nPrivateTmp=no\n"
"""The tests' own interpreter may be below /root or /tmp, which the units rightly do not see."""
_LEFT_OUT = ("python3 -m venv", "/opt/runlake/bin/pip", "ln -s", "systemctl restart haproxy")
_EMIT = """
import os
os.environ["XDG_STATE_HOME"] = "/run/agent"
import runlake
with runlake.track_run("agent", "job", run_id="in-the-cluster"):
    pass
assert runlake.flush(30), runlake.stats()
"""


class Site:
    """One machine in the place of all hosts, with PostgreSQL and S3."""

    def __init__(self, systemd: Systemd) -> None:
        self._systemd = systemd

    def shell(self, script: str) -> str:
        return self._systemd.ok("sh", "-ec", f"cd {_ROOT}\n{script}")

    def write(self, path: str, text: str, mode: str = "w") -> None:
        target = ">" if mode == "w" else ">>"
        self.shell(f"mkdir -p {Path(path).parent}; printf %s {shlex.quote(text)} {target} {path}")

    def unit(self, name: str, command: str, more: str = "") -> None:
        """Have systemd run a program of the test's."""
        self.write(f"/etc/systemd/system/{name}.service", f"[Service]\n{more}ExecStart={command}\n")
        self.shell(f"systemctl daemon-reload; systemctl start {name}")

    def follow(self, step: Step) -> str:
        """One line of the guide."""
        line = step.command
        if line.startswith(_LEFT_OUT):
            return ""
        secrets = _SECRETS
        for_query = re.match("On (a|the) query host", step.where) is not None
        if for_query or "query.toml" in line or "root@192.0.2.21" in line:
            secrets = _QUERY_SECRETS
            line = line.replace(_SETTINGS, _QUERY_SETTINGS).replace(_SECRETS, _QUERY_SECRETS)
        if "haproxy -c" in line and find_haproxy() is None:
            return ""
        if line.startswith("set -a;"):  # for all that comes after it
            return ""
        line = line.replace("runlake init --system", f"runlake init --system --python {sys.executable}")
        line = re.sub(r"ssh root@192\.0\.2\.\d+ ", "sh -ec ", line)
        known = f"[ ! -e {secrets} ] || {{ set -a; . {secrets}; set +a; }}\n"
        return self.shell(f'{known}runlake() {{ {_RUNLAKE} "$@"; }}\n{line}')


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Systemd(tmp_path / "log") as systemd:
        site = Site(systemd)
        systemd.ok("ip", "link", "set", "lo", "up")
        if systemd.run("ip", "link", "add", "d0", "type", "veth", "peer", "name", "d1").returncode:
            pytest.skip("no address beyond loopback can be made here")
        for address in _ADDRESSES:
            systemd.ok("ip", "address", "add", f"{address}/24", "dev", "d0")
        systemd.ok("ip", "link", "set", "d0", "up")
        site.write("/etc/hosts", _NAMES, "a")
        _postgres(site)
        _store(site)
        yield site


def _postgres(site: Site) -> None:
    """With TLS, and a certificate that the machine trusts."""
    binaries = find_binaries()
    assert binaries is not None
    site.shell(
        f"""
        umask 022; mkdir -p /var/pg /etc/ssl/certs; chown postgres /var/pg; cd /var/pg
        setpriv --reuid postgres --regid postgres --clear-groups {binaries}/initdb -D data -A trust --no-sync --locale C
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=db.example.org \
            -addext subjectAltName=DNS:db.example.org -keyout data/server.key -out data/server.crt
        chown postgres data/server.key data/server.crt; chmod 0600 data/server.key
        cat data/server.crt >> /etc/ssl/certs/ca-certificates.crt
        echo 'hostssl all all 192.0.2.0/24 scram-sha-256' >> data/pg_hba.conf
        """
    )
    options = "-c listen_addresses=192.0.2.5 -c ssl=on -c fsync=off -c unix_socket_directories=/var/pg"
    site.unit("db", f"{binaries}/postgres -D /var/pg/data {options}", "User=postgres\n")
    psql = "psql -h /var/pg -U postgres --set ON_ERROR_STOP=1"
    wait_until(lambda: "1" in _said(site, f"{psql} -Atc 'SELECT 1'"), "PostgreSQL answers")
    site.shell(f"{psql} --file deploy/cluster/postgres.sql")
    for role in ("runlake_ingest", "runlake_query"):
        site.shell(f"{psql} -c \"ALTER ROLE {role} PASSWORD '{_PASSWORD}'\"")


def _store(site: Site) -> None:
    server = _ROOT / "tests" / "support" / "objectstore.py"
    site.unit("store", f"/bin/sh -c 'sleep infinity | {sys.executable} {server} 192.0.2.6 9000'")
    make = f"import urllib.request as u; u.urlopen(u.Request('{_STORE}/example-runlake', method='PUT'), timeout=5)"
    wait_until(lambda: _said(site, f'{sys.executable} -c "{make}" && echo made') == "made", "S3 answers")


def _said(site: Site, command: str) -> str:
    return site.shell(f"({command}) 2>&1 || true").strip()


def test_every_line_of_the_guide_to_a_cluster_can_be_copied_in_its_order(site: Site) -> None:
    copy, keys, run, check = (
        list(steps(section("deploy.md", f"### {name}", within="## A cluster")))
        for name in ("Copy", "Keys between hosts", "Run", "Check")
    )
    assert all(len(part) > 4 for part in (copy, keys, run, check))
    for step in copy:
        site.follow(step)
    fill_in(site)
    for step in (*keys, *run):
        site.follow(step)
    assert site.shell(
        "cd /etc/runlake; stat -c '%U %a %n' keys keys/server.key_secret keys/allowed/query.key query.key_secret token"
        " environment /etc/default/haproxy"
    ).splitlines() == [
        "runlake-ingest 700 keys",
        "runlake-ingest 600 keys/server.key_secret",
        "runlake-ingest 644 keys/allowed/query.key",
        "runlake-query 600 query.key_secret",
        "runlake-query 600 token",
        "root 600 environment",
        "root 600 /etc/default/haproxy",
    ]
    agent = "set -a; . deploy/cluster/agent.env; RUNLAKE_INGEST=tcp://192.0.2.11:8766"
    site.shell(f"{agent} {sys.executable} -c {shlex.quote(_EMIT)}")
    said = []
    for step in check:
        here, there = ("query", "ingest") if "query host" in step.where else ("ingest", "query")
        site.shell(f"systemctl enable runlake-{here}; systemctl disable runlake-{there}")  # as on its host
        said.append((step, site.follow(step)))
    ours = [text for step, text in said if step.command.startswith("runlake doctor") and "worker" in step.where]
    theirs = [text for step, text in said if step.command.startswith("runlake doctor") and "query" in step.where]
    assert all("a query process of this machine's own was not looked for" in text for text in ours)
    assert all("query answers at http://192.0.2.21:8765" in text for text in theirs)
    assert (len(ours), len(theirs)) == (1, 1)
    verified = [text for step, text in said if step.command.startswith("runlake verify")]
    assert ["read model: not compared" in text for text in verified] == [True, False]
    assert "✓ read model: 1 runs" in verified[1]


def fill_in(site: Site) -> None:
    """What the guide leaves to who follows it; and what is otherwise here, since all hosts are one."""
    values = {
        "PGPASSWORD": _PASSWORD, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_ENDPOINT_URL_S3": _STORE,
    }  # fmt: skip
    for name, value in values.items():
        site.shell(f"grep -q ^{name}= {_SECRETS}; sed -i s,^{name}=.*,{name}={value}, {_SECRETS}")
    for unit in ("ingest", "query"):
        site.write(f"/etc/systemd/system/runlake-{unit}.service.d/seen.conf", _SEEN)
    site.shell(f"cp -p {_SECRETS} {_QUERY_SECRETS}")
    command = f'"{sys.executable}" -P -m runlake.cli query --settings {_QUERY_SETTINGS}'
    site.write(
        "/etc/systemd/system/runlake-query.service.d/settings.conf",
        f"[Service]\nExecStart=\nExecStart={command}\nEnvironmentFile={_QUERY_SECRETS}\n",
    )
    site.shell(f"sed -i -E 's/,tcp:[^,\"]*192.0.2.1[23]:[0-9]+//g' {_QUERY_SETTINGS}")
