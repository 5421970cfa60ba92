"""A client that costs little: `python http_client.py HOST PORT KIND CONNECTIONS SECONDS KNOWN`, a process of its own.

Prints one JSON object: how many answers came, in how many seconds, their latencies' percentiles in milliseconds, and
how much of one core this client took (near 1, it is what was measured).
`KNOWN` is a file of event_ids, one a line, for PATCH and GET.
"""

from __future__ import annotations

import asyncio
import json
import sys
from itertools import cycle
from pathlib import Path
from time import perf_counter, process_time

from runlake.ids import Uuid7Source

_HEAD = (
    "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {size}\r\n\r\n"
)


class Requests:
    """Makes the bytes of one request after another."""

    def __init__(self, kind: str, known: list[str]) -> None:
        self._kind = kind
        self._known = cycle(known)
        self._new_id = Uuid7Source()
        self._number = 0

    def next(self) -> bytes:
        self._number += 1
        match self._kind:
            case "POST":
                run = {
                    "event_id": str(self._new_id()), "run_id": f"run-{self._number}", "agent_name": "bench",
                    "job_type": "http", "start_time": "2026-01-28T10:30:00Z", "website": "example.org",
                    "metrics_json": {"n": self._number},
                }  # fmt: skip
                return _request("POST", "/api/v1/runs", run)
            case "PATCH":
                change = {"status": "success", "items_succeeded": self._number}
                return _request("PATCH", f"/api/v1/runs/{next(self._known)}", change)
            case "GET":
                return _request("GET", f"/api/v1/runs/{next(self._known)}")
            case _:
                return _request("GET", "/api/v1/runs?limit=100")


class Client(asyncio.Protocol):
    """One connection with one request at a time, until told to stop."""

    def __init__(self, requests: Requests, took: list[float], until: float, statuses: set[bytes]) -> None:
        self._requests = requests
        self._took = took
        self._until = until
        self._statuses = statuses
        self._buffer = bytearray()
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._buffer[:end]).lower()
        size = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
        if len(self._buffer) < end + 4 + size:
            return
        now = perf_counter()
        self._took.append(now - self._begun)
        self._statuses.add(head[9:12])
        del self._buffer[: end + 4 + size]
        if now >= self._until:
            self._transport.close()
            self.done.set_result(None)
        else:
            self._send()

    def _send(self) -> None:
        self._begun = perf_counter()
        self._transport.write(self._requests.next())


def _request(method: str, path: str, value: object = None) -> bytes:
    body = b"" if value is None else json.dumps(value).encode()
    return _HEAD.format(method=method, path=path, size=len(body)).encode() + body


async def _run(host: str, port: int, kind: str, connections: int, seconds: float, known: list[str]) -> None:
    loop = asyncio.get_running_loop()
    requests, took, statuses = Requests(kind, known), list[float](), set[bytes]()
    begun = perf_counter()
    clients = [
        (await loop.create_connection(lambda: Client(requests, took, begun + seconds, statuses), host, port))[1]
        for _ in range(connections)
    ]
    await asyncio.gather(*(client.done for client in clients))
    whole = perf_counter() - begun
    took.sort()
    shares = {name: took[min(len(took) - 1, int(share * len(took)))] * 1000 for name, share in _SHARES.items()}
    print(
        json.dumps(
            {
                "answers": len(took),
                "seconds": whole,
                "cpu": process_time() / whole,
                "statuses": sorted(map(bytes.decode, statuses)),
                **shares,
            }
        )
    )


_SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}

if __name__ == "__main__":
    _, host, port, kind, connections, seconds, known = sys.argv
    asyncio.run(_run(host, int(port), kind, int(connections), float(seconds), Path(known).read_text().split()))
