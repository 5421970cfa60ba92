"""Which positions a read must reflect: those it asks for, and those that this process has seen acknowledged (P5)."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from runlake.logs import Log
from runlake_query.gateway import Gateway
from runlake_query.positions import Positions, format_positions, reaches
from runlake_query.problems import NotReady
from runlake_query.progress import Progress

AFTER_TIMEOUT_S = 5.0
"""How long a read waits for the position of `?after=`."""
OWN_TIMEOUT_S = 5.0
"""How long a read waits for what this process has written."""
_ASK_TIMEOUT_S = 1.0


class Freshness:
    """Waits before reads. On the event loop."""

    def __init__(
        self, progress: Progress, gateway: Gateway, log: Log, after_timeout_s: float = AFTER_TIMEOUT_S
    ) -> None:
        self._progress = progress
        self._gateway = gateway
        self._log = log
        self._after_timeout_s = after_timeout_s
        self._missed: dict[UUID, int] = {}

    async def before_read(self, wanted: Positions) -> None:
        """Return when a read may begin. Raises NotReady before the first catch-up, and when `wanted` does not come.

        A worker that is killed between its ack and its flush keeps what it acknowledged to itself until it is back.
        Reads wait for that once, and then go on without it: what they reflect is in their header.
        """
        if wanted:
            if not await self._progress.wait_for(wanted, self._after_timeout_s):
                raise NotReady(
                    f"after: the position {format_positions(wanted)} was not reached within"
                    f" {self._after_timeout_s:g} s; the read model is at {format_positions(self._progress.positions)}"
                )
        elif not self._progress.state.caught_up:
            raise self.not_ready()
        own = self._gateway.acknowledged
        if not own or reaches(self._progress.positions, own):
            return
        owed = {worker: seq for worker, seq in own.items() if seq > self._missed.get(worker, 0)}
        if owed and not await self._progress.wait_for(owed, OWN_TIMEOUT_S):
            self._log.warning("own_writes_not_visible", position=format_positions(owed), waited_s=OWN_TIMEOUT_S)
            self._missed.update(owed)

    async def before_not_found(self, reflected: Positions, run: UUID | None = None) -> bool:
        """Called when a read is about to say that there is no such run: True when it should look again, because a
        worker had more than was reflected. `run`: the read was by this event_id alone.

        While the only worker cannot be asked, what is known is the answer. Raises NotReady when one of several cannot,
        or when what one has does not come in time: that there is no such run would be no more than a guess.
        """
        told = await self._gateway.positions(_ASK_TIMEOUT_S, run)
        news = {worker: seq for worker, seq in told.items() if reflected.get(worker, 0) < seq}
        if news and not await self._progress.wait_for(news, self._after_timeout_s):
            raise NotReady(
                f"It is not known here; what is stored up to {format_positions(news)} was not reached within"
                f" {self._after_timeout_s:g} s, and may have it. Try again."
            )
        return bool(news)

    async def catch_up_with_home(self, run: UUID) -> None:
        """Wait, bounded, until all is reflected that the home worker of this run has now. Raises NotReady as
        `before_not_found`."""
        await self.before_not_found({}, run)

    async def reach(self, wanted: Mapping[UUID, int]) -> bool:
        """Wait, bounded, until `wanted` is reflected."""
        return await self._progress.wait_for(wanted, self._after_timeout_s)

    def not_ready(self) -> NotReady:
        """What is said before the first catch-up."""
        state = self._progress.state
        lag_ms = self._progress.lag_ms()
        reason = state.reason or "It is being built from the lake."
        return NotReady(f"The read model has not caught up yet ({lag_ms} ms so far). {reason}")
