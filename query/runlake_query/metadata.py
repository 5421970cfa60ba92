"""What agents and jobs there are, and the JSON summary that dashboards of the earlier service read."""

from __future__ import annotations

from datetime import datetime, timedelta

from runlake.sqlfile import load_queries
from runlake_query.model import State
from runlake_query.reader import Snapshot

_SQL = load_queries("runlake_query", "metadata.sql")
_RECENT = timedelta(hours=24)


class MetadataCache:
    """The last answer, good for as long as nothing changes. On the event loop."""

    def __init__(self) -> None:
        self._state: State | None = None
        self._body = ""

    def at(self, state: State) -> bytes | None:
        """The body of `GET /api/v1/metadata` as kept, when it is of this state."""
        return self._whole("true") if self._state == state else None

    def keep(self, state: State, body: str) -> bytes:
        """Keep what `list_metadata` found, and return it as a body."""
        self._state, self._body = state, body
        return self._whole("false")

    def _whole(self, hit: str) -> bytes:
        return f'{self._body[:-1]},"cache_hit":{hit}}}'.encode()


def list_metadata(snapshot: Snapshot) -> str:
    """All of the answer but whether it was cached."""
    agents, agent_count, jobs, job_count = snapshot.one(_SQL["names"])
    return (
        f'{{"agent_names":{agents or "[]"},"job_types":{jobs or "[]"},'
        f'"counts":{{"agent_names":{agent_count},"job_types":{job_count}}}}}'
    )


def summary(snapshot: Snapshot, now: datetime) -> bytes:
    """The JSON form of `GET /metrics`."""
    (text,) = snapshot.one(_SQL["summary"].format(shown=snapshot.shown), {"since": (now - _RECENT).isoformat()})
    return str(text).encode()
