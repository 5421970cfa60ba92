"""Whether a worker of a cluster may acknowledge, by what it last saw of its lease.

Acknowledged means on disk, and from there in the lake. A worker that was retired meanwhile can keep only half of that;
and it may not know yet: it was stopped, or its network was cut. So it acknowledges while it has seen its lease within
the last 5 s (it looks every second). After that it holds back what is on disk for as long as a look takes; then it has
seen its lease, or has learned that it is not this worker any more, and ends, or the catalog is out of its reach. If so,
it goes on acknowledging, for the catalog may be away for hours, and agents must not be kept waiting. What it
acknowledges then is in its journal: `runlake workers retire ID --journal` brings that to the lake, or later `runlake
replay --journal`.

`retire` reads a journal no sooner than 5 s after it has shut the worker out: by then all that was acknowledged without
another look is in there. What is left: a worker that the catalog is out of reach for acknowledges on while it is being
retired, and for up to the seconds that its next look takes after it is within reach again; and a machine whose clock
stood still while it was stopped, as that of a paused virtual machine may, does not know that it was.
"""

from __future__ import annotations

from collections.abc import Callable

SURE_FOR_S = 5.0
"""For how long a look at the lease is good."""
_LOOK_S = 2.0
"""How long a look may take. For that long acknowledgements wait, once, when the catalog goes out of reach."""
_TURN_S = 0.5
"""What of the time between two questions counts: for the rest this process may have been stopped."""


class LeaseSight:
    """`seen_at`: when a look at the lease began that found it held; `clock`: seconds, of the same clock."""

    def __init__(self, seen_at: Callable[[], float], clock: Callable[[], float]) -> None:
        self._seen_at = seen_at
        self._clock = clock
        self._in_doubt_s = 0.0
        self._asked_at = clock()

    def may_acknowledge(self) -> bool:
        """To be asked at every turn, so that it is known for how long this process has been awake."""
        now = self._clock()
        since, self._asked_at = now - self._asked_at, now
        if now - self._seen_at() <= SURE_FOR_S:
            self._in_doubt_s = 0.0
            return True
        if since > SURE_FOR_S:  # it was stopped: what it knew of the catalog's being away is no news any more
            self._in_doubt_s = 0.0
        self._in_doubt_s += min(since, _TURN_S)
        return self._in_doubt_s >= _LOOK_S
