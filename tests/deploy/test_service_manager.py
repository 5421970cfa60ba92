"""What the two processes tell systemd, on a real datagram socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from runlake.servicemanager import ServiceManager
from support.api import Api
from support.freezing import frozen
from support.manager import Manager
from support.processes import Process, Site

_WATCHDOG_S = 0.4
_MANY_INTERVALS_S = 2.0


def _ingest(site: Site, env: dict[str, str]) -> Process:
    return Process(
        "runlake_ingest", "--data", str(site.data), "--ingest", site.ingest_endpoint, "--push", site.push_endpoint,
        "--feed", site.feed_endpoint, "--metrics", "127.0.0.1:0", env=env,
    )  # fmt: skip


def _is_ready(message: dict[str, str]) -> bool:
    return message.get("READY") == "1"


def _is_alive(message: dict[str, str]) -> bool:
    return message.get("WATCHDOG") == "1"


def _is_stopping(message: dict[str, str]) -> bool:
    return message.get("STOPPING") == "1"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_ingest_says_that_it_is_ready_alive_and_stopping_and_nothing_while_its_loop_hangs(
    site: Site, tmp_path: Path
) -> None:
    with Manager(tmp_path, _WATCHDOG_S) as manager, _ingest(site, manager.variables) as worker:
        ready = manager.wait_for(_is_ready)[-1]
        assert ready["STATUS"] == f"Taking in messages at {site.ingest_endpoint}"
        for _ in range(3):
            manager.wait_for(_is_alive)
        page = Api(f"http://{worker.wait_for('ready')['metrics']}")
        with frozen(worker.pid), closing(page):
            manager.forget()
            assert page.get("/metrics").status == 200  # by a thread of its own
            assert manager.next(_MANY_INTERVALS_S) is None
        manager.wait_for(_is_alive)
        assert worker.terminate() == 0
        assert "STATUS" in manager.wait_for(_is_stopping)[-1]


def test_query_says_how_far_it_is_and_that_it_is_alive_and_stopping_and_nothing_while_its_loop_hangs(
    site: Site, tmp_path: Path
) -> None:
    with Manager(tmp_path, _WATCHDOG_S) as manager, ExitStack() as stack:
        query, _ = site.query(caught_up=False, env=manager.variables)
        stack.enter_context(query)
        assert manager.wait_for(_is_ready)[-1]["STATUS"].startswith("Behind the lake: ")
        manager.wait_for(_is_alive)
        with frozen(query.pid):
            manager.forget()
            stack.enter_context(site.ingest())  # which its follower finds meanwhile
            query.wait_for("caught_up")
            assert manager.next(_MANY_INTERVALS_S) is None
        manager.wait_for(lambda message: message.get("STATUS") == "In step with the lake")
        manager.wait_for(_is_alive)
        assert query.terminate() == 0
        manager.wait_for(_is_stopping)


class _Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_sign_of_life_goes_out_when_half_of_the_interval_has_passed(tmp_path: Path) -> None:
    clock = _Clock()
    with Manager(tmp_path, 20.0) as manager:
        service = ServiceManager(dict(manager.variables), clock)
        sent = []
        for _ in range(41):
            service.alive()
            sent.append(manager.next(0) is not None)
            clock.now += 1
        assert [second for second, was in enumerate(sent) if was] == [0, 10, 20, 30, 40]


def test_the_same_status_is_sent_once_and_always_as_one_line(tmp_path: Path) -> None:
    with Manager(tmp_path) as manager:
        service = ServiceManager(dict(manager.variables))
        service.ready("one\nREADY=0")
        service.status("one\nREADY=0")
        service.status("two")
        assert [manager.next(0), manager.next(0), manager.next(0)] == [
            {"READY": "1", "STATUS": "one READY=0"},
            {"STATUS": "two"},
            None,
        ]


@pytest.mark.parametrize(
    ("variables", "seconds"),
    [
        ({}, 0.0),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, 0.0),
        ({"WATCHDOG_USEC": "soon"}, 0.0),
    ],
)
def test_the_watchdog_is_on_when_it_is_meant_for_this_process(variables: dict[str, str], seconds: float) -> None:
    assert ServiceManager(dict(variables)).watchdog_s == seconds


def test_the_variables_are_not_left_for_children(tmp_path: Path) -> None:
    with Manager(tmp_path, 1.0) as manager:
        environ = {**manager.variables, "WATCHDOG_PID": str(os.getpid()), "HOME": "/"}
        assert ServiceManager(environ).listens
        assert environ == {"HOME": "/"}


def test_an_abstract_socket_is_spoken_to_as_well() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind("")  # the kernel names it
        ServiceManager({"NOTIFY_SOCKET": "@" + heard.getsockname()[1:].decode()}).ready("up")
        heard.settimeout(5)
        assert heard.recv(100) == b"READY=1\nSTATUS=up"


_SAYINGS: list[Callable[[ServiceManager], None]] = [
    lambda service: service.ready("up"),
    lambda service: service.status("well"),
    lambda service: service.alive(),
    lambda service: service.stopping("bye"),
]


@pytest.mark.parametrize("address", ["", "relative", "/nowhere/at/all"])
def test_without_somebody_who_hears_nothing_happens(address: str) -> None:
    service = ServiceManager({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000"})
    for say in _SAYINGS:
        say(service)
