"""Several workers as an agent sees them: real ROUTER sockets with one list, each of which keeps a ledger.

Each takes what a worker takes: a batch that was sent by its own version of the list, or, where the header names none,
one all of whose messages are its own; where it stands alone, one that was sent by no list, too. Of all else it takes
nothing, and answers `NotMine`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import UUID

from msgspec import UNSET

from runlake import wire
from runlake.homes import home_key, home_of
from runlake.messages import Message
from support.router import Ledger, Received, Router, ipc

WORKERS = [UUID(f"0190a1b2-0000-7000-8000-00000000000{last}") for last in range(1, 9)]


class Worker:
    """One of them, on an address of its own; up, or down with its ledger kept."""

    def __init__(self, folder: Path, place: int) -> None:
        self.id = WORKERS[place]
        self.endpoint = ipc(folder, f"worker-{place}")
        self.ledger = Ledger()
        self.taken: list[Received] = []
        """The batches that it took."""
        self.refused = 0
        """How many batches were not its own."""
        self.known = wire.Workers(version=0, members=[])
        """The list that it goes by."""
        self.router: Router | None = None

    @property
    def member(self) -> wire.Member:
        return wire.Member(worker=self.id, endpoint=self.endpoint)

    @property
    def messages(self) -> list[Message]:
        """What it accepted."""
        return self.ledger.messages

    @property
    def gaps(self) -> dict[str, int]:
        """By producer, how many numbers up to the highest did not come: what the books count."""
        numbers: dict[str, set[int]] = {}
        for header, _ in self.taken:
            numbers.setdefault(header.producer, set()).update(range(header.first, header.first + header.count))
        return {producer: max(came) - len(came) for producer, came in numbers.items()}

    def know(self, workers: wire.Workers) -> None:
        """Go by this list from now on."""
        self.known = workers
        if self.router is not None:
            self.router.workers = workers

    def start(self) -> None:
        self.router = Router(self.endpoint, self._take, self.known)

    def stop(self) -> None:
        if self.router is not None:
            self.router.close()
            self.router = None

    def is_home(self, message: Message) -> bool:
        return home_of(home_key(message), [member.worker for member in self.known.members]) == self.id

    def _take(self, received: Received) -> list[wire.Reply | bytes]:
        if not self._is_for_me(received):
            self.refused += 1
            return [wire.NotMine(workers=self.known, batch=received.header.batch)]
        self.taken.append(received)
        return [self.ledger.accept(received)]

    def _is_for_me(self, received: Received) -> bool:
        said, alone = received.header.list_version, len(self.known.members) == 1
        if said is UNSET:
            return alone or all(self.is_home(message) for message in received.messages)
        return said == self.known.version or (alone and said == 0)


class Workers:
    """As many as told, with one list. `with` starts them all."""

    def __init__(self, folder: Path, count: int) -> None:
        self.all = [Worker(folder, place) for place in range(count)]
        self.version = 0
        self._stack = ExitStack()

    @property
    def endpoints(self) -> str:
        return ",".join(worker.endpoint for worker in self.all)

    @property
    def messages(self) -> list[Message]:
        return [message for worker in self.all for message in worker.messages]

    @property
    def gaps(self) -> int:
        return sum(gaps for worker in self.all for gaps in worker.gaps.values())

    def list(self, workers: Sequence[Worker]) -> wire.Workers:
        """The next version of the list."""
        self.version += 1
        return wire.Workers(version=self.version, members=[worker.member for worker in workers])

    def change(self, workers: Sequence[Worker]) -> None:
        """Have all of them go by a new list."""
        told = self.list(workers)
        for worker in self.all:
            worker.know(told)

    def __enter__(self) -> Self:
        self.change(self.all)
        for worker in self.all:
            self._stack.callback(worker.stop)
            worker.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()
