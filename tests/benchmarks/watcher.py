"""A process of the streams benchmark: COUNT clients of the stream at URL, each counting what it hears.

Prints "ready" when all are connected. Reads from its input how many events there were, and ends when each client has
heard of so many, was ended, or heard nothing new for ten seconds: it prints then how many frames came in all, of how
many the clients were told the number, how many clients are short of the events, how many were ended, and how long
events took.
"""

from __future__ import annotations

import asyncio
import re
import sys
from time import monotonic

import aiohttp
import msgspec

from benchmarks.figures import percentile

_COALESCED = re.compile(rb"event: coalesced\ndata: (.*)\n")
_AT = re.compile(rb'"at":([0-9.]+)')
_PATIENCE_S = 10.0


class _Client:
    def __init__(self) -> None:
        self.sent = 0
        self.coalesced = 0
        self.heard_at = monotonic()
        self.took_ms: list[float] = []

    async def watch(self, session: aiohttp.ClientSession, url: str, connected: asyncio.Semaphore) -> None:
        async with session.get(f"{url}/api/v1/stream", params={"type": "load"}) as response:
            connected.release()
            rest = b""
            async for chunk in response.content.iter_any():
                whole, end, rest = (rest + chunk).rpartition(b"\n\n")
                self._count(whole + end)

    def _count(self, frames: bytes) -> None:
        self.sent += frames.count(b"\nevent: event\n")
        for data in _COALESCED.findall(frames):
            self.coalesced += msgspec.json.decode(data)["events"]
        now = self.heard_at = monotonic()
        at = _AT.search(frames)  # the first of those that came together has waited longest
        if at is not None:
            self.took_ms.append((now - float(at[1])) * 1000)


async def main(url: str, count: int) -> None:
    clients = [_Client() for _ in range(count)]
    connected = asyncio.Semaphore(0)
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:
        tasks = [asyncio.create_task(client.watch(session, url, connected)) for client in clients]
        for _ in range(count):
            await connected.acquire()
        print("ready", flush=True)
        events = int(await asyncio.to_thread(sys.stdin.readline))
        while any(
            client.sent + client.coalesced < events and not task.done() and monotonic() - client.heard_at < _PATIENCE_S
            for client, task in zip(clients, tasks, strict=True)
        ):
            await asyncio.sleep(0.05)
        ended = sum(task.done() for task in tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    took = [ms for client in clients for ms in client.took_ms]
    totals = {
        "sent": sum(client.sent for client in clients),
        "coalesced": sum(client.coalesced for client in clients),
        "short": sum(client.sent + client.coalesced != events for client in clients),
        "ended": ended,
        "p50": percentile(took, 0.5),
        "p99": percentile(took, 0.99),
    }
    print(msgspec.json.encode(totals).decode(), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
