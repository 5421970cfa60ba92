"""Signing in from a browser: cookies that hold no token, end, and cannot be made up."""

from __future__ import annotations

import pytest

from runlake_query.auth import Auth, Forbidden, Unauthorized
from runlake_query.sessions import LIFETIME_S, Sessions

NOW = 1_800_000_000.0


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def test_a_cookie_says_what_it_allows_and_holds_no_token() -> None:
    sessions = Sessions("the secret token", lambda: NOW)
    cookie = sessions.begin("reads")
    assert sessions.scope(cookie) == "reads"
    assert sessions.scope(sessions.begin("all")) == "all"
    assert "secret" not in cookie


def test_a_cookie_ends() -> None:
    clock = Clock()
    sessions = Sessions("token", clock)
    cookie = sessions.begin("all")
    clock.now += LIFETIME_S - 1
    assert sessions.scope(cookie) == "all"
    clock.now += 1
    assert sessions.scope(cookie) is None


@pytest.mark.parametrize(
    "forge",
    [
        lambda cookie: cookie.replace(".reads.", ".all."),
        lambda cookie: f"9{cookie}",
        lambda cookie: cookie[:-1] + ("0" if cookie[-1] != "0" else "1"),
        lambda _: "",
        lambda _: "..",
        lambda _: "99999999999.all.",
        lambda _: "\udcff.all.\udcff",
    ],
)
def test_a_cookie_cannot_be_made_up(forge: object) -> None:
    sessions = Sessions("token", lambda: NOW)
    assert callable(forge)
    assert sessions.scope(forge(sessions.begin("reads"))) is None


def test_another_token_ends_all_sessions() -> None:
    cookie = Sessions("old", lambda: NOW).begin("all")
    assert Sessions("new", lambda: NOW).scope(cookie) is None


def test_without_a_token_no_cookie_is_good_for_anything() -> None:
    sessions = Sessions("", lambda: NOW)
    assert sessions.scope(sessions.begin("all")) is None


def test_a_session_may_do_what_its_token_may() -> None:
    auth = Auth("whole-token", "read-token", now=lambda: NOW)
    whole, reading = auth.begin_session("whole-token"), auth.begin_session("read-token")
    auth.check("GET", "/api/v1/runs", None, whole)
    auth.check("POST", "/api/v1/runs", None, whole)
    auth.check("GET", "/api/v1/runs", None, reading)
    with pytest.raises(Forbidden):
        auth.check("POST", "/api/v1/runs", None, reading)
    with pytest.raises(Unauthorized):
        auth.begin_session("another")
    with pytest.raises(Unauthorized):
        auth.check("GET", "/api/v1/runs", None, "1.all.x")


def test_a_wrong_token_is_refused_whatever_the_cookie_says() -> None:
    auth = Auth("whole-token", now=lambda: NOW)
    with pytest.raises(Unauthorized):
        auth.check("GET", "/api/v1/runs", "Bearer wrong", auth.begin_session("whole-token"))
