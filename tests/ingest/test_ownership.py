"""Which batches and messages a worker takes, by the list of workers."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from msgspec import UNSET, UnsetType

from runlake import wire
from runlake.homes import home_key, home_of
from runlake.messages import Message
from runlake_ingest.intake import BatchIn, read_batch
from runlake_ingest.ownership import Ownership, ownership
from support.producer import payload
from support.samples import event, started, updated

ME, OTHER, THIRD = (UUID(int=number) for number in (1, 2, 3))


def workers(version: int, *ids: UUID) -> wire.Workers:
    return wire.Workers(version=version, members=[wire.Member(worker=one, endpoint="ipc:///x") for one in ids])


def owned(version: int, *ids: UUID) -> Ownership:
    found = ownership(ME, workers(version, *ids))
    assert found is not None
    return found


def batch(*messages: Message | bytes, version: int | UnsetType = UNSET) -> tuple[wire.Batch, BatchIn]:
    header = wire.Batch(producer="p", batch=1, first=1, count=len(messages), list_version=version)
    return header, read_batch(header, payload(messages), datetime.now(UTC))


def of(worker: UUID, *ids: UUID) -> Message:
    """A message whose home among these is this worker."""
    events = (event(run_id=f"run-{number}") for number in itertools.count())
    return next(message for message in events if home_of(home_key(message), ids) == worker)


def run_of(worker: UUID, *ids: UUID) -> Message:
    """A run whose home among these is this worker."""
    return next(run for run in iter(started, None) if home_of(home_key(run), ids) == worker)


def test_without_a_list_nothing_is_asked() -> None:
    assert ownership(ME, workers(0)) is None
    assert ownership(ME, workers(0, ME)) is None


@pytest.mark.parametrize(("version", "takes"), [(UNSET, True), (0, True), (4, True), (3, False), (5, False)])
def test_the_only_worker_takes_all_but_what_was_sent_by_another_list(version: int | UnsetType, takes: bool) -> None:
    """What was sent by another list would leave a gap in what it has of a producer's numbers."""
    assert owned(4, ME).takes(*batch(event(), version=version)) is takes


@pytest.mark.parametrize(("version", "takes"), [(0, False), (4, True), (3, False), (5, False)])
def test_of_several_a_worker_takes_what_was_sent_by_its_own_list(version: int, takes: bool) -> None:
    assert owned(4, ME, OTHER).takes(*batch(event(), event(), version=version)) is takes


def test_a_batch_that_names_no_list_is_taken_when_all_of_it_is_this_worker_s() -> None:
    all_of = (ME, OTHER, THIRD)
    mine, other = of(ME, *all_of), of(OTHER, *all_of)
    run = run_of(ME, *all_of)
    ownership_of_me = owned(4, *all_of)
    assert ownership_of_me.takes(*batch(mine, run, updated(run.event_id), b"\x01"))
    assert not ownership_of_me.takes(*batch(mine, other))


@pytest.mark.parametrize("version", [UNSET, 0, 4])
def test_who_is_not_on_the_list_takes_nothing(version: int | UnsetType) -> None:
    assert not owned(4, OTHER).takes(*batch(event(), version=version))
    assert owned(4, OTHER).split(read_batch(None, payload([event()]), datetime.now(UTC)))[0].count == 0


def test_a_push_is_split_into_what_is_this_worker_s_with_what_nobody_can_read_and_the_rest_in_order() -> None:
    all_of = (ME, OTHER, THIRD)
    messages = [of(worker, *all_of) for worker in (OTHER, ME, THIRD, OTHER, ME)]
    read = read_batch(None, payload([*messages, b"\x01"]), datetime.now(UTC))
    own, others = owned(4, *all_of).split(read)
    assert (own.count, len(own.items)) == (3, 3)
    assert [message.event_id for message in others] == [messages[at].event_id for at in (0, 2, 3)]


def test_who_has_not_looked_behind_a_change_of_the_list_is_believed_no_further_than_the_least_he_looked() -> None:
    names = {str(ME): 50, str(OTHER): 20}
    header = wire.Batch(producer="p", batch=1, first=1, count=1, searched=names)

    def searched(since: int) -> int | None:
        return read_batch(header, payload([event()]), datetime.now(UTC), str(ME), since).searched

    assert (searched(0), searched(50), searched(51)) == (50, 50, 20)
    nothing = wire.Batch(producer="p", batch=1, first=1, count=1, searched={})
    assert read_batch(nothing, payload([event()]), datetime.now(UTC), str(uuid4()), 1).searched == 0
