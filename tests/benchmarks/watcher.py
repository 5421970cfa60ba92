"""A process of the freshness benchmark: COUNT clients of the stream at URL, each counting what it hears.

Prints "ready" when all are connected; ends when its input does, and prints then how many frames came, to how many.
"""

from __future__ import annotations

import asyncio
import sys

import aiohttp
import msgspec


async def main(url: str, count: int) -> None:
    heard = [0] * count
    connected = asyncio.Semaphore(0)

    async def watch(session: aiohttp.ClientSession, number: int) -> None:
        async with session.get(f"{url}/api/v1/stream", params={"type": "load"}) as response:
            connected.release()
            async for chunk in response.content.iter_any():
                heard[number] += chunk.count(b"\nevent: event\n")

    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:
        tasks = [asyncio.create_task(watch(session, number)) for number in range(count)]
        for _ in range(count):
            await connected.acquire()
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        ended = sum(task.done() for task in tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    print(msgspec.json.encode({"heard": sum(heard), "least": min(heard), "ended": ended}).decode(), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
