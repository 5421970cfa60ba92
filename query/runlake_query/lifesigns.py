"""From the event loop: telling the service manager that the loop turns and how far the read model is, and the log when
the loop did not turn or the clock jumped."""

from __future__ import annotations

import asyncio

from runlake.logs import Log
from runlake.pulse import Pulse
from runlake.servicemanager import ServiceManager
from runlake_query.progress import Progress

_TICK_S = 1.0


class LifeSigns:
    """On the event loop: `start` once requests are answered, `stop` when asked to end."""

    def __init__(self, manager: ServiceManager, progress: Progress, log: Log) -> None:
        self._manager = manager
        self._progress = progress
        self._tick_s = min(_TICK_S, manager.watchdog_s / 4) if manager.watchdog_s else _TICK_S
        self._pulse = Pulse(log, self._tick_s)
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._manager.ready(self._status())
        self._turn()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._manager.stopping("Writing the read model to its file")

    def _turn(self) -> None:
        self._pulse.beat()
        self._manager.alive()
        self._manager.status(self._status())
        self._timer = asyncio.get_running_loop().call_later(self._tick_s, self._turn)

    def _status(self) -> str:
        state = self._progress.state
        return "In step with the lake" if state.caught_up and state.following else f"Behind the lake: {state.reason}"
