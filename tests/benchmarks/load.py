"""A process of the freshness benchmark: emits at a RATE (messages a second) to ENDPOINT until its input ends."""

from __future__ import annotations

import sys
import threading
from time import perf_counter

import runlake

_EVENTS = 17
"""With a start and an end, and an update for the status, twenty messages make a run."""


def main(endpoint: str, rate: int) -> None:
    emitter = runlake.Emitter(endpoint=endpoint, queue_messages=200_000)
    over = threading.Event()

    def wait_for_the_end() -> None:
        sys.stdin.readline()
        over.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    begun, sent = perf_counter(), 0
    while not over.wait(0.005):
        due = int((perf_counter() - begun) * rate)
        while sent < due:
            with runlake.track_run("load", "load", emitter=emitter) as run:
                for number in range(min(_EVENTS, max(0, due - sent - 2))):
                    run.event("load", {"number": number, "text": "x" * 40})
                    sent += 1
            sent += 2
    emitter.flush(60)
    print(sent / (perf_counter() - begun), flush=True)
    emitter.close(1)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
