"""What `runlake workers` says where it cannot do what it was asked to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from uuid import uuid4

import pytest

from runlake.lake.members import Members
from runlake.wire import Member
from support.waiting import eventually
from support.workers import Workers

ONE, OTHER = (Member(worker=uuid4(), endpoint=f"tcp://127.0.0.1:{port}") for port in (1, 2))


@pytest.fixture
def members(workers: Workers) -> Iterator[Members]:
    """A catalog whose list has one worker, and which another one has run on. Neither runs now."""
    members = Members(workers.place)
    for member in (ONE, OTHER):
        members.take_place(member, uuid4(), "host", 1)
    assert members.begin_with(ONE)
    yield members
    members.close()


@pytest.mark.usefixtures("members")
@pytest.mark.parametrize("action", [("add",), ("remove",), ("retire", "--journal-lost")])
def test_a_worker_that_nobody_knows_is_an_error_that_names_those_that_are_known(
    workers: Workers, action: tuple[str, ...]
) -> None:
    unknown = str(uuid4())
    done = workers.run(action[0], unknown, *action[1:])
    assert done.returncode == 1
    assert f"no worker {unknown} has" in done.stderr
    for known in (ONE, OTHER):
        assert str(known.worker) in done.stderr


def test_who_waits_for_a_worker_that_does_not_run_is_told_the_way_out_and_can_take_the_change_back(
    workers: Workers, members: Members
) -> None:
    nothing = workers.run("cancel")
    assert (nothing.returncode, "no change of the list is under way" in nothing.stderr) == (1, True)
    with workers.command("remove", str(OTHER.worker)) as already:
        assert already.wait() == 0, "it is not on the list"
    version = members.announce([ONE, OTHER], f"add {OTHER.worker}", 1)
    with workers.command("add", str(OTHER.worker)) as add:
        eventually(lambda: any(f"`runlake workers retire {OTHER.worker}`" in line for line in add.text))
        done = workers.run("cancel")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == {"version": 1, "workers": [str(ONE.worker)]}
        assert add.wait() == 1
        assert "the change was taken back" in add.text[-1]
    assert members.standing().next is None
    assert version == 2
