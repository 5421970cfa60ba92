"""The order in which several workers' logs are applied: a run's changes in theirs, however runs move."""

from __future__ import annotations

from collections import defaultdict
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from runlake_query.logorder import Stretch, in_order

WORKERS = [UUID(int=number) for number in range(4)]
A, B, C, D = WORKERS

Step = tuple[str, int, int]
"""What happens: a worker writes of a run, or the list changes."""


def steps() -> st.SearchStrategy[list[Step]]:
    write = st.tuples(st.just("write"), st.integers(0, 3), st.integers(0, 5))
    change = st.tuples(st.just("change"), st.integers(0, 3), st.just(0))
    return st.lists(st.one_of(write, write, write, change), max_size=60)


class Log:
    """Workers that number what they take, and hand runs over when the list changes."""

    def __init__(self, *, marked: bool) -> None:
        self.marked = marked
        """Whether a change of the list leaves a jump in each worker's numbering, or only where the greatest is not its
        own."""
        self.last = dict.fromkeys(WORKERS, 0)
        self.home: dict[int, UUID] = {}
        self.changes: dict[tuple[UUID, int], int] = {}
        """Which run a position is a change of."""
        self.stretches: list[Stretch] = []

    def write(self, worker: UUID, run: int) -> None:
        home = self.home.setdefault(run, worker)
        seq = self.last[home] = self.last[home] + 1
        self.changes[home, seq] = run
        for number, (owner, first, last) in enumerate(self.stretches):
            if owner == home and last == seq - 1:
                self.stretches[number] = Stretch(home, first, seq)
                return
        self.stretches.append(Stretch(home, seq, seq))

    def change(self, worker: UUID) -> None:
        """All runs go to this worker."""
        greatest = max(self.last.values()) + self.marked
        for one in WORKERS:
            if self.marked:
                self.stretches.append(Stretch(one, greatest + 1, greatest))
            self.last[one] = greatest
        self.home = dict.fromkeys(self.home, worker)


@given(steps(), st.booleans(), st.data())
def test_p4_no_change_of_a_run_is_applied_before_an_earlier_one_of_whatever_worker(
    history: list[Step], marked: bool, data: st.DataObject
) -> None:
    log = Log(marked=marked)
    for kind, number, run in history:
        if kind == "write":
            log.write(WORKERS[number], run)
        else:
            log.change(WORKERS[number])
    ordered = in_order(log.stretches, {})
    done = ordered[: data.draw(st.integers(0, len(ordered)))]  # a process that ended there goes on with what is left
    confirmed = {stretch.worker: stretch.last for stretch in done}
    left = [stretch for stretch in log.stretches if stretch.last > confirmed.get(stretch.worker, -1)]
    applied = [(worker, seq) for worker, first, last in done for seq in range(first, last + 1)]
    applied += [
        (worker, seq)
        for worker, first, last in in_order(left, confirmed)
        for seq in range(max(first, confirmed.get(worker, 0) + 1), last + 1)
    ]
    changes = [(log.changes[at], at[1]) for at in applied if at in log.changes]
    assert len(changes) == len(log.changes)
    of_run: dict[int, list[int]] = defaultdict(list)
    for found, seq in changes:
        of_run[found].append(seq)
    assert all(numbers == sorted(numbers) for numbers in of_run.values())


def test_what_lies_before_a_jump_of_anyone_comes_first_of_everyone() -> None:
    stretches = [Stretch(A, 1, 600), Stretch(B, 1, 10), Stretch(B, 502, 510), Stretch(C, 502, 501), Stretch(D, 1, 499)]
    assert in_order(stretches, {}) == [
        (B, 1, 10), (D, 1, 499), (A, 1, 501), (C, 502, 501), (B, 502, 510), (A, 502, 600),
    ]  # fmt: skip
    assert in_order([Stretch(A, 401, 600), Stretch(B, 502, 510)], {A: 400, B: 10}) == [
        (A, 401, 501), (B, 502, 510), (A, 502, 600),
    ]  # fmt: skip
