"""What is refused though it is valid: messages from before the lake's horizon, and those of runs that were forgotten.

The flusher's thread sets the rules, before it removes anything by them; the receiver judges by them, and says from
which position on it has done so: what was accepted before that is removed when it has come to the lake.
"""

from __future__ import annotations

from datetime import UTC, datetime

from msgspec import Struct

from runlake.messages import Message, RunStarted


class Rules(Struct, frozen=True):
    """`horizon` in Unix seconds; `forgotten` are runs, as integers."""

    version: int = 0
    horizon: int = 0
    forgotten: frozenset[int] = frozenset()

    def refusal(self, message: Message, time: int) -> tuple[str, str] | None:
        """Why a message of this time is refused, with the field; None when it is not."""
        if time < self.horizon:
            field = "start_time" if isinstance(message, RunStarted) else "ts"
            return f"{field}: is expired: what is older than {datetime.fromtimestamp(self.horizon, UTC)} is gone", field
        if self.forgotten and _run_of(message) in self.forgotten:
            field = "event_id" if isinstance(message, RunStarted) else "run_event_id"
            return f"{field}: is of a run that was forgotten", field
        return None


class Expiry:
    """Rules that one thread sets and another one follows."""

    def __init__(self, horizon: int = 0, forgotten: frozenset[int] = frozenset()) -> None:
        self.rules = Rules(0, horizon, forgotten)
        self._followed = (0, 0)

    def change(self, *, horizon: int = 0, forgotten: frozenset[int] = frozenset()) -> bool:
        """Refuse this too, from now on; returns whether that is anything new. A horizon never sinks."""
        old = self.rules
        new = Rules(old.version + 1, max(old.horizon, horizon), old.forgotten | forgotten)
        if (new.horizon, new.forgotten) == (old.horizon, old.forgotten):
            return False
        self.rules = new
        return True

    def follow(self, last_seq: int) -> Rules:
        """The rules for what comes after `last_seq`."""
        rules = self.rules
        if self._followed[0] != rules.version:
            self._followed = (rules.version, last_seq)
        return rules

    def holds_for(self, flushed_seq: int) -> bool:
        """Whether all that is not in the lake yet, which has all up to `flushed_seq`, was judged by the rules."""
        version, since = self._followed
        return version == self.rules.version and flushed_seq >= since


def _run_of(message: Message) -> int:
    run = message.event_id if isinstance(message, RunStarted) else message.run_event_id
    return run.int if run is not None else -1
