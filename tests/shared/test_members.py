"""The list of workers in PostgreSQL: made once, changed only when all have reported, and the locks beside it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from uuid import UUID, uuid4

import psycopg
import pytest

from runlake.errors import LakeError, LakeUnavailable
from runlake.lake.members import ListChanged, Members, lock_key, writer_name
from runlake.lake.place import CatalogAddress, LakePlace
from runlake.wire import Member
from support.postgres import Postgres
from support.waiting import eventually

A, B, C = (Member(worker=UUID(int=number), endpoint=f"tcp://host-{number}:8766") for number in (1, 2, 3))


@pytest.fixture
def place(database: str) -> LakePlace:
    return LakePlace(CatalogAddress(database), "/nowhere/")


@pytest.fixture
def members(place: LakePlace) -> Iterator[Members]:
    made = Members(place)
    yield made
    made.close()


def test_of_several_that_begin_at_once_one_makes_the_list(place: LakePlace) -> None:
    began: list[tuple[Member, bool]] = []
    together = threading.Barrier(4)

    def begin(number: int) -> None:
        member = Member(worker=UUID(int=number), endpoint="ipc:///x")
        together.wait(30)
        mine = Members(place)
        began.append((member, mine.begin_with(member)))
        mine.close()

    threads = [threading.Thread(target=begin, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    (first,) = [member for member, did in began if did]
    assert len(began) == 4
    later = Members(place)
    assert (later.standing().active.version, later.standing().active.members) == (1, [first])
    later.close()


def test_a_change_is_in_force_once_all_of_the_old_and_the_new_list_have_reported(members: Members) -> None:
    assert members.begin_with(A)
    assert members.announce([B], "A goes, B comes", 1) == 2
    assert members.standing().missing == [A.worker, B.worker]
    members.report(2, B.worker)
    assert not members.activate(2)
    assert members.standing().active.members == [A]
    members.report(2, A.worker)
    assert members.activate(2) and members.activate(2)
    standing = members.standing()
    assert (standing.active.version, standing.active.members, standing.next) == (2, [B], None)


def test_a_change_that_was_taken_back_never_comes_into_force_and_its_version_is_not_used_again(
    members: Members,
) -> None:
    members.begin_with(A)
    members.announce([A, B], "add B", 1)
    members.report(2, A.worker)
    assert members.withdraw(2)
    members.report(2, B.worker)
    assert not members.activate(2) and not members.withdraw(2)
    assert members.standing().active.version == 1 and members.standing().next is None
    assert members.announce([A, C], "add C", 1) == 3
    assert members.standing().missing == [A.worker, C.worker]


def test_there_is_one_change_at_a_time_and_a_list_is_never_empty(members: Members) -> None:
    members.begin_with(A)
    with pytest.raises(LakeError, match="at least one"):
        members.announce([], "nobody", 1)
    members.announce([A, B], "add B", 1)
    with pytest.raises(LakeError, match="under way: add B"):
        members.announce([A, C], "add C", 1)
    members.withdraw(2)
    assert members.announce([A, C], "add C", 1) == 3


def test_a_change_made_from_a_list_that_is_not_in_force_any_more_is_refused(members: Members) -> None:
    members.begin_with(A)
    assert members.announce([A, B], "add B", 1, (A.worker, B.worker)) == 2
    assert members.activate(2)
    with pytest.raises(ListChanged, match="version 2"):
        members.announce([A, C], "add C", 1)
    assert members.standing().active.members == [A, B] and members.standing().next is None


def test_who_is_gone_is_reported_by_who_announces(members: Members) -> None:
    members.begin_with(A)
    members.announce([B], "retire A", 1, (A.worker,))
    assert members.standing().missing == [B.worker]


def test_a_member_that_moved_has_its_new_address_on_the_next_list(members: Members) -> None:
    members.begin_with(A)
    assert not members.moved(A) and not members.moved(B)
    moved = Member(worker=A.worker, endpoint="tcp://elsewhere:8766")
    assert members.moved(moved)
    assert members.standing().active.version == 2 and members.standing().active.members == [moved]


def test_a_worker_that_was_retired_stays_so(members: Members) -> None:
    assert not members.retire(A.worker, uuid4())
    members.take_place(A, uuid4(), "host", 1)
    assert members.retire(A.worker, uuid4()) and members.retire(A.worker, uuid4())
    members.take_place(A, uuid4(), "host", 2)
    (known,) = members.known()
    assert known.retired_at is not None and known.process == 2


def test_a_lock_is_held_by_one_connection_until_that_ends(place: LakePlace, members: Members) -> None:
    key = lock_key("lease", A.worker)
    other = Members(place)
    assert other.try_lock(key) and not members.try_lock(key)
    assert members.running([A.worker, B.worker]) == {A.worker}
    other.close()
    eventually(lambda: members.try_lock(key))  # the server has to see it


def test_a_connection_that_was_cut_off_is_noticed_and_its_locks_are_free(place: LakePlace, members: Members) -> None:
    one = Members(place, writer_name(A.worker, uuid4()))
    assert one.try_lock(lock_key("change"))
    assert members.end_writers(B.worker) == 0 and members.end_writers(A.worker) == 1
    with pytest.raises(LakeUnavailable):
        one.confirm()
    assert members.try_lock(lock_key("change"))


def test_an_error_never_repeats_the_password(database: str) -> None:
    place = LakePlace(CatalogAddress(database.replace("@127.0.0.1:", "@127.0.0.1:1")), "/nowhere/")
    password = psycopg.conninfo.conninfo_to_dict(database)["password"]
    with pytest.raises(LakeUnavailable) as caught:
        Members(place)
    assert str(password) not in str(caught.value)


def test_texts_are_texts_in_a_database_without_an_encoding(postgres: Postgres) -> None:
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE no_encoding ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
    members = Members(LakePlace(CatalogAddress(postgres.url("no_encoding")), "/nowhere/"))
    try:
        member = Member(worker=uuid4(), endpoint="tcp://127.0.0.1:1")
        assert members.begin_with(member)
        assert members.standing().active.members == [member]
    finally:
        members.close()
        postgres.drop_database(postgres.url("no_encoding"))
