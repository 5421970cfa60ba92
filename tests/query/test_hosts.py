"""Under which names a process answers: against DNS rebinding."""

from __future__ import annotations

import pytest

from runlake_query.hosts import Hosts, Misdirected


@pytest.mark.parametrize(
    "header",
    [
        "localhost",
        "localhost:8765",
        "LOCALHOST:8765",
        "app.localhost:1",
        "127.0.0.1:8765",
        "[::1]:8765",
        "192.0.2.7",
        "box:8765",
        "Box.",
        "runs.example:443",
        None,
        "",
    ],
)
def test_its_own_names_and_all_addresses_are_answered(header: str | None) -> None:
    Hosts(["box"], listed=["runs.example", " "]).check(header)


@pytest.mark.parametrize(
    "header", ["evil.example", "evil.example:8765", "localhost.evil.example", "127.0.0.1.evil.example"]
)
def test_other_names_are_refused_and_the_setting_is_named(header: str) -> None:
    with pytest.raises(Misdirected, match="RUNLAKE_HOSTS") as refused:
        Hosts(["box"]).check(header)
    assert refused.value.status == 421


def test_where_all_needs_a_token_any_name_is_answered_unless_names_are_listed() -> None:
    Hosts(guarded=True).check("runs.example")
    with pytest.raises(Misdirected):
        Hosts(listed=["runs.example"], guarded=True).check("evil.example")
