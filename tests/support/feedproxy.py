"""A feed that cannot be trusted: stands between PUB and SUB, and drops, delays, reorders and duplicates at random."""

from __future__ import annotations

import random
import threading
from collections import Counter
from types import TracebackType
from typing import Self

import zmq

_TICK_MS = 5


class FeedProxy:
    """Forwards from `upstream` to `downstream`; all chances come from `dice`. Use as a context manager."""

    def __init__(self, upstream: str, downstream: str, dice: random.Random) -> None:
        self._dice = dice
        self.faithful = False
        """While true, everything goes through as it came."""
        self.did: Counter[str] = Counter()
        self._stopping = threading.Event()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._upstream = self._context.socket(zmq.SUB)
        self._upstream.subscribe(b"")
        self._upstream.setsockopt(zmq.RECONNECT_IVL, 20)
        self._upstream.connect(upstream)
        self._downstream = self._context.socket(zmq.PUB)
        self._downstream.bind(downstream)
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()
        self._context.destroy(linger=0)

    def _run(self) -> None:
        held: list[list[bytes]] = []
        while not self._stopping.is_set():
            if self._upstream.poll(_TICK_MS):
                message = self._upstream.recv_multipart()
                what = "passed" if self.faithful else self._dice.choice(("passed",) * 5 + ("drop", "hold", "twice"))
                self.did[what] += 1
                match what:
                    case "passed":
                        self._downstream.send_multipart(message)
                    case "twice":
                        self._downstream.send_multipart(message)
                        held.append(message)
                    case "hold":
                        held.append(message)
            if held and (self.faithful or self._dice.random() < 0.1):
                self._dice.shuffle(held)
                for message in held:
                    self._downstream.send_multipart(message)
                held = []
