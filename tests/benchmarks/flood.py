"""A producer of the benchmark `away`: sends event after event to ENDPOINT until its input ends, waits for the acks, and
prints how many events were accepted."""

from __future__ import annotations

import sys
import threading
from itertools import count, takewhile
from uuid import uuid4

from support.rawproducer import RawProducer

_BATCH = 500
_DEADLINE_MS = 300_000


def main(endpoint: str) -> None:
    over = threading.Event()

    def wait_for_the_end() -> None:
        sys.stdin.read()
        over.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    with RawProducer(endpoint, name=str(uuid4()), deadline_ms=_DEADLINE_MS) as producer:
        firsts = takewhile(lambda _: not over.is_set(), count(1, _BATCH))
        print(producer.send_all(producer.batch(first, _BATCH, _BATCH) for first in firsts))


if __name__ == "__main__":
    main(sys.argv[1])
