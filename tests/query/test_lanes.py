"""The gateway with several workers: each message goes to its home, whatever the list, and whoever is away."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from msgspec import structs

from runlake import wire
from runlake.homes import home_key, home_of
from runlake.logs import Log
from runlake.messages import RunStarted, RunUpdated
from runlake_query.delivery import Delivered, IngestUnreachable, OutcomeUnknown, PartlyStored
from runlake_query.gateway import Gateway
from support.homeworkers import Workers
from support.router import Received, Router, ack, ipc
from support.samples import started, updated

IDS = [UUID(int=number) for number in (1, 2, 3)]
NOBODY: dict[UUID, int] = {}


class Members:
    """Workers in the place of real ones, which share a list, and take what is their own by it."""

    def __init__(self, folder: Path, count: int) -> None:
        self.list = wire.Workers(
            version=1, members=[wire.Member(worker=IDS[n], endpoint=ipc(folder, f"w{n}")) for n in range(count)]
        )
        self.refused: list[int] = []
        self.mute: set[UUID] = set()
        """Who takes what it is sent, and never answers."""
        self._ends = ExitStack()
        self.routers = {
            member.worker: self._ends.enter_context(
                Router(member.endpoint, lambda received, worker=member.worker: self._take(worker, received), self.list)  # type: ignore[misc]
            )
            for member in self.list.members
        }
        self.taken: dict[UUID, list[Received]] = {worker: [] for worker in self.routers}

    def _take(self, worker: UUID, received: Received) -> list[wire.Reply | bytes]:
        mine = worker in [member.worker for member in self.list.members]
        if not mine or (len(self.list.members) > 1 and received.header.list_version != self.list.version):
            self.refused.append(received.header.batch)
            return [wire.NotMine(batch=received.header.batch, workers=self.list)]
        self.taken[worker].append(received)
        return [] if worker in self.mute else [structs.replace(ack(received.header), worker=worker)]

    def change(self, *workers: UUID) -> None:
        """Only these are on the list from now on."""
        members = [member for member in self.list.members if member.worker in workers]
        self.list = wire.Workers(version=self.list.version + 1, members=members)
        for router in self.routers.values():
            router.workers = self.list

    @property
    def endpoints(self) -> str:
        return ", ".join(member.endpoint for member in self.list.members)

    def home(self, message: RunStarted | RunUpdated) -> UUID:
        return home_of(home_key(message), [member.worker for member in self.list.members])

    def of_run(self, run: UUID) -> list[tuple[UUID, int]]:
        """Where the updates of a run were taken, in order, and what each said."""
        return [
            (worker, message.items_failed or 0)
            for worker, taken in self.taken.items()
            for received in taken
            for message in received.messages
            if isinstance(message, RunUpdated) and message.run_event_id == run
        ]

    def close(self) -> None:
        self._ends.close()


@pytest.fixture
def members(tmp_path: Path) -> Iterator[Members]:
    found = Members(tmp_path, 3)
    yield found
    found.close()


def through(
    endpoints: str, work: Callable[[Gateway], Awaitable[None]], connect_s: float = 10.0, timeout_s: float = 20.0
) -> str:
    """Do this with a gateway; returns its log."""
    log = io.StringIO()

    async def run() -> None:
        gateway = Gateway(endpoints, "http-test", Log("query", stream=log), connect_s=connect_s, timeout_s=timeout_s)
        gateway.start()
        try:
            await work(gateway)
        finally:
            await gateway.close()

    asyncio.run(run())
    return log.getvalue()


def encoded(messages: Sequence[RunStarted | RunUpdated]) -> list[bytes]:
    return [wire.encode_message(message) for message in messages]


def runs_of(members: Members, worker: UUID, count: int) -> list[RunStarted]:
    """Runs whose home this worker is."""
    found: list[RunStarted] = []
    while len(found) < count:
        found += [run for run in [started()] if members.home(run) == worker]
    return found


def test_each_message_goes_to_its_home_and_the_outcomes_keep_their_order(members: Members) -> None:
    runs = [started() for _ in range(40)]

    async def work(gateway: Gateway) -> None:
        outcomes = await gateway.deliver(encoded(runs), NOBODY)
        assert [outcome.worker for outcome in outcomes] == [members.home(run) for run in runs]
        assert {worker: seq for worker, seq in gateway.acknowledged.items() if worker in IDS} == {
            worker: sum(members.home(run) == worker for run in runs) for worker in IDS
        }
        assert [(link.worker, link.connected) for link in gateway.workers] == [(worker, True) for worker in IDS]

    through(members.list.members[1].endpoint, work)  # one of them is enough to know the others
    assert all(
        members.home(message) == worker  # type: ignore[arg-type]
        for worker, taken in members.taken.items()
        for received in taken
        for message in received.messages
    )
    producers = {received.header.producer for taken in members.taken.values() for received in taken}
    assert len(producers) == 3, "each worker knows another producer, with numbers of its own"


def test_a_change_of_the_list_loses_nothing_repeats_nothing_and_keeps_the_order_of_each_run(members: Members) -> None:
    runs = [uuid4() for _ in range(12)]

    async def work(gateway: Gateway) -> None:
        async def write(number: int) -> None:
            outcomes = await gateway.deliver(encoded([updated(run, items_failed=number) for run in runs]))
            assert all(isinstance(outcome, Delivered) and not outcome.duplicate for outcome in outcomes)

        await write(0)
        members.change(IDS[0], IDS[2])
        await asyncio.gather(*(write(number) for number in range(1, 30)))
        members.change(*IDS[:1])
        await asyncio.gather(*(write(number) for number in range(30, 50)))
        assert [link.worker for link in gateway.workers] == IDS[:1]

    log = through(members.endpoints, work)
    assert log.count("workers_listed") == 3
    assert members.refused, "somebody was sent what was not its own any more"
    for run in runs:
        updates = members.of_run(run)
        of_each = [[number for at, number in updates if at == worker] for worker in IDS]
        assert all(numbers == sorted(numbers) for numbers in of_each)
        assert sorted(number for _, number in updates) == list(range(50))
    for taken in members.taken.values():
        last: dict[str, int] = {}
        for received in taken:
            header = received.header
            assert header.first == last.get(header.producer, 0) + 1, "the books of a worker have no gap"
            last[header.producer] = header.first + header.count - 1


def test_while_a_worker_is_away_only_its_own_runs_are_refused_and_nothing_of_them_was_stored(members: Members) -> None:
    mine, away = runs_of(members, IDS[0], 3), runs_of(members, IDS[1], 2)
    members.routers[IDS[1]].close()

    async def work(gateway: Gateway) -> None:
        await gateway.deliver(encoded(mine[:1]), NOBODY)
        with pytest.raises(IngestUnreachable, match=f"{IDS[1]}.*Nothing was stored"):
            await gateway.deliver(encoded(away[:1]), NOBODY)
        with pytest.raises(IngestUnreachable, match=f"{IDS[1]}.*Nothing was stored"):
            await gateway.deliver(encoded([mine[1], *away]), NOBODY)
        assert sum(len(received.messages) for received in members.taken[IDS[0]]) == 1, "nor of the one that is there"
        each = await gateway.deliver_each(encoded([away[0], mine[1], away[1], mine[2]]), NOBODY)
        assert [isinstance(outcome, Delivered) for outcome in each] == [False, True, False, True]
        with pytest.raises(IngestUnreachable):
            await gateway.deliver_each(encoded(away), NOBODY)
        links = {link.worker: link for link in gateway.workers}
        assert (links[IDS[0]].connected, links[IDS[1]].connected, gateway.connected) == (True, False, False)
        assert links[IDS[1]].reason

    through(members.endpoints, work, connect_s=1.0)


def test_when_one_of_several_takes_its_part_and_another_never_answers_that_is_said(members: Members) -> None:
    async def work(gateway: Gateway) -> None:
        await gateway.deliver(encoded([run for worker in IDS for run in runs_of(members, worker, 1)]), NOBODY)
        members.mute.add(IDS[1])
        again = [*runs_of(members, IDS[0], 1), *runs_of(members, IDS[1], 1)]
        with pytest.raises(PartlyStored, match=r"Of 2 messages 1 are stored.*the outcome is unknown"):
            await gateway.deliver(encoded(again), NOBODY)
        with pytest.raises(OutcomeUnknown):
            await gateway.deliver(encoded(again[1:]), NOBODY)

    through(members.endpoints, work, connect_s=1.0, timeout_s=2.0)


def test_what_was_sent_to_the_only_worker_is_taken_by_it_alone_when_it_is_so_no_more(tmp_path: Path) -> None:
    """Else what of a batch's neighbours is its own would be taken before what came in the batch."""
    workers = Workers(tmp_path, 2)
    first = workers.all[0]
    with workers:
        workers.change([first])

        async def work(gateway: Gateway) -> None:
            await gateway.deliver(encoded([started()]), NOBODY)
            workers.change(workers.all)
            own = next(run for run in iter(started, None) if first.is_home(run))
            await gateway.deliver(encoded([own]), NOBODY)

        through(first.endpoint, work)
        assert [received.header.list_version for received in first.taken] == [0, workers.version]
        assert first.refused == 1


def test_a_worker_alone_and_one_that_knows_no_list_are_sent_all_by_no_list(tmp_path: Path) -> None:
    alone = wire.Workers(version=0, members=[wire.Member(worker=IDS[0], endpoint="tcp://elsewhere:1")])
    for workers in (alone, None):
        with Router(ipc(tmp_path), workers=workers) as router:

            async def work(gateway: Gateway, workers: wire.Workers | None = workers) -> None:
                assert len(await gateway.deliver(encoded([started() for _ in range(5)]), NOBODY)) == 5
                assert (gateway.connected, len(gateway.workers)) == (True, 1)

            log = through(router.endpoint, work)
            assert [received.header.list_version for received in router.received] == [0]
            assert {received.header.producer for received in router.received} == {"http-test"}
            assert (router.asked, "unreachable" in log) == (1, False)
