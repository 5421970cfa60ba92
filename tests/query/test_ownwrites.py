"""What a process knows of the log by having written it."""

from __future__ import annotations

from uuid import UUID, uuid4

from runlake_query.ownwrites import OwnWrites

WORKER, OTHER = UUID(int=1), UUID(int=2)


def test_what_is_written_without_a_gap_is_its_own() -> None:
    own = OwnWrites()
    assert not own.alone(WORKER, 0, 1)
    own.accepted(WORKER, 5, 3)
    own.accepted(WORKER, 8, 2)
    own.accepted(WORKER, 10, 0)
    assert own.alone(WORKER, 4, 9)
    assert own.alone(WORKER, 8, 9)
    assert not own.alone(WORKER, 3, 9)
    assert not own.alone(WORKER, 4, 10)
    assert not own.alone(OTHER, 4, 9)


def test_after_a_gap_only_what_follows_it_is_its_own() -> None:
    own = OwnWrites()
    own.accepted(WORKER, 1, 5)
    own.accepted(WORKER, 7, 1)
    assert not own.alone(WORKER, 5, 7)
    assert own.alone(WORKER, 6, 7)


def test_a_change_names_the_one_before_it_of_the_same_run_at_the_same_worker() -> None:
    own, run = OwnWrites(), uuid4()
    assert own.changed(run, WORKER, 3) == 0
    assert own.changed(uuid4(), WORKER, 4) == 0
    assert own.changed(run, WORKER, 5) == 3
    assert own.changed(run, OTHER, 1) == 1  # not known by this worker's positions


def test_what_was_forgotten_counts_as_written_by_somebody_else() -> None:
    own, run = OwnWrites(max_changes=2), uuid4()
    own.accepted(WORKER, 1, 4)
    own.changed(run, WORKER, 1)
    for seq in (2, 3):
        own.changed(uuid4(), WORKER, seq)
    assert own.changed(run, WORKER, 4) == 0
    assert not own.alone(WORKER, 0, 4)
    assert own.alone(WORKER, 2, 4)
