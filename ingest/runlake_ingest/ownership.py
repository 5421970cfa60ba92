"""Which messages are a worker's own, by one list of workers. Where there is no list nothing of this is asked."""

from __future__ import annotations

from uuid import UUID

from msgspec import UnsetType
from msgspec.structs import replace

from runlake import wire
from runlake.homes import home_key, home_of
from runlake.messages import Message
from runlake_ingest.intake import BatchIn, Good


class Ownership:
    """Of `worker`, by `workers`, which it need not be on: then nothing is its own."""

    def __init__(self, worker: UUID, workers: wire.Workers) -> None:
        self._worker = worker
        self._version = workers.version
        self._ids = tuple(member.worker for member in workers.members)
        self._alone = self._ids == (worker,)

    def takes(self, header: wire.Batch, batch: BatchIn) -> bool:
        """Whether a batch may be taken. One that says by which list it was sent is believed, and none of another list
        is taken: so what is taken of a producer's numbers has no gap."""
        if self._worker not in self._ids:
            return False
        version = header.list_version
        if not isinstance(version, UnsetType):
            return version == self._version or (self._alone and not version)
        return self._alone or all(self._is_mine(item.message) for item in batch.items if isinstance(item, Good))

    def split(self, batch: BatchIn) -> tuple[BatchIn, list[Message]]:
        """What of a batch without a header is this worker's own, with what cannot be read, and what is others'."""
        if self._alone:
            return batch, []
        others = [item.message for item in batch.items if isinstance(item, Good) and not self._is_mine(item.message)]
        if not others:
            return batch, []
        own = [item for item in batch.items if not isinstance(item, Good) or self._is_mine(item.message)]
        return replace(batch, count=batch.count - len(others), items=own), others

    def _is_mine(self, message: Message) -> bool:
        return home_of(home_key(message), self._ids) == self._worker


def ownership(worker: UUID, workers: wire.Workers) -> Ownership | None:
    """None without a list."""
    return Ownership(worker, workers) if workers.version else None
