"""What a worker has done and how it stands, as Prometheus reads it, on an address of its own.

The numbers are read when the page is: the worker's hot path counts for itself and knows nothing of this.
"""

from __future__ import annotations

import hmac
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import AF_INET, AF_INET6, socket

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from runlake.errors import SettingsError
from runlake.settings import host_and_port, variable
from runlake_ingest.counters import Counters, Gauges
from runlake_ingest.gate import REASONS
from runlake_ingest.maintenance import Upkeep

_FLUSH_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_TIMEOUT_S = 10.0
_AT_ONCE = 16
"""Connections that are answered at the same time; each takes a thread of the worker, and more are closed."""
_STOP_S = 5.0
_COUNTERS = {
    "batches": "Batches received",
    "received": "Messages received",
    "accepted": "Messages accepted",
    "duplicate": "Messages that had been accepted before",
    "rejected": "Messages refused, and kept in quarantine",
    "late": "Messages about which the lake was asked",
    "refused_requests": "Requests that were not of the protocol",
    "lost_acks": "Acks that their producer did not take",
    "groups": "Groups written to the journal, each with one fdatasync",
    "segments": "Segments flushed to the lake",
    "pauses": "How often the worker stopped reading its sockets",
    "not_mine": "Messages not taken, since they, or others of their batch, are other workers'",
    "forwarded": "Pushed messages of other workers, handed on to them",
    "forward_dropped": "Those of them that could not be delivered in time, or had no room",
}
_GAUGES = {
    "accepted_seq": "The last position accepted",
    "durable_seq": "The last position on disk",
    "flushed_seq": "The last position in the lake",
    "journal_bytes": "Bytes of the journal that are not in the lake yet",
    "groups_at_journal": "Groups that the journal has yet to write",
    "sealed_segments": "Segments that wait for the lake",
    "waiting_batches": "Batches that wait for a look-up in the lake",
    "window_ids": "Ids that dedupe holds in memory",
    "list_version": "The version of the list of workers that is followed; 0 without one",
    "members": "How many workers are on it",
    "lease_held": "1 while this process holds the worker's lease; always 1 with a catalog in SQLite",
}
_UPKEEP_COUNTERS = {
    "cycles": "Cycles of maintenance that have ended",
    "failures": "Steps of maintenance that failed, and left the lake as it was",
    "removed_runs": "Runs removed, since they were old or to be forgotten",
    "removed_refused": "Refused messages removed, since they were old",
    "rewritten_files": "Files written anew, without the rows that were removed",
    "flushes_moved": "Rows of `flushes` that went from the catalog to a file",
    "merged_files": "Files that became part of a larger one",
    "expired_snapshots": "Snapshots forgotten",
    "removed_files": "Replaced files deleted",
    "removed_orphans": "Files of transactions that were never committed, deleted",
}
_UPKEEP_GAUGES = {
    "elected": "1 when the last cycle was this worker's; with a catalog in SQLite it always is",
    "failing": "1 when a step of the last cycle failed, else 0; the log has the reason",
    "last_cycle_seconds": "How much work the last cycle was",
    "lake_files": "Live Parquet files when maintenance last looked",
    "lake_bytes": "Their bytes",
    "replaced_files": "Files that were replaced and wait to be removed",
    "snapshots": "Snapshots that can be read",
    "catalog_bytes": "Bytes of the catalog",
}


class MetricsPage(Collector):
    """Serves `/metrics` on `address` (host:port) from `start` to `stop`, to those who send one of `tokens` (RFC 6750),
    or to everybody when there are none. Raises SettingsError when the address is taken."""

    def __init__(self, address: str, tokens: Sequence[str] = ()) -> None:
        self._counters: Callable[[], Counters] = Counters
        self._gauges: Callable[[], Gauges] = Gauges
        self._upkeep: Callable[[], Upkeep] = Upkeep
        self._refused: Callable[[], Mapping[str, int]] = dict
        self._registry = CollectorRegistry()
        self._flushes = Histogram(
            "runlake_ingest_flush_seconds", "How long a flush to the lake took", buckets=_FLUSH_BUCKETS_S,
            registry=self._registry,
        )  # fmt: skip
        self._registry.register(self)
        host, port = host_and_port(address)
        try:
            self._server = _Server((host, port), self._page, AF_INET6 if ":" in host else AF_INET, tokens)
        except OSError as error:
            raise SettingsError(
                f"{variable('metrics')}: cannot listen on {address!r}: {error.strerror}."
                " Stop what uses it, or give this worker another address."
            ) from None
        bound = self._server.server_address[1]
        self.address = f"[{host}]:{bound}" if ":" in host else f"{host}:{bound}"
        """host:port as bound, which tells the port when 0 was asked for."""
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)

    def start(
        self,
        counters: Callable[[], Counters],
        gauges: Callable[[], Gauges],
        upkeep: Callable[[], Upkeep],
        refused: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        """Serve what these tell; they are called on threads of the page."""
        self._counters, self._gauges, self._upkeep, self._refused = counters, gauges, upkeep, refused
        self._thread.start()

    def flushed(self, seconds: float) -> None:
        """Note how long a flush took."""
        self._flushes.observe(seconds)

    def stop(self) -> None:
        """End, and let go of the address. Idempotent."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join(_STOP_S)
        self._server.server_close()

    def collect(self) -> Iterator[Metric]:
        counters, gauges = self._counters(), self._gauges()
        for name, text in _COUNTERS.items():
            yield CounterMetricFamily(f"runlake_ingest_{name}", text, value=getattr(counters, name))
        for name, text in _GAUGES.items():
            yield GaugeMetricFamily(f"runlake_ingest_{name}", text, value=getattr(gauges, name))
        refused = self._refused()
        connections = CounterMetricFamily(
            "runlake_ingest_refused_connections", "Connections that CURVE kept out, by reason", labels=["reason"]
        )
        for reason in REASONS:
            connections.add_metric([reason], refused.get(reason, 0))
        yield connections
        upkeep = self._upkeep()
        for name, text in _UPKEEP_COUNTERS.items():
            yield CounterMetricFamily(f"runlake_ingest_maintenance_{name}", text, value=getattr(upkeep, name))
        for name, text in _UPKEEP_GAUGES.items():
            yield GaugeMetricFamily(f"runlake_ingest_maintenance_{name}", text, value=getattr(upkeep, name))

    def _page(self) -> bytes:
        return generate_latest(self._registry)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], page: Callable[[], bytes], family: int, tokens: Sequence[str]) -> None:
        self.address_family = family
        self.page = page
        self._expected = [f"Bearer {token}".encode() for token in tokens]
        self._free = threading.BoundedSemaphore(_AT_ONCE)
        super().__init__(address, _Handler)

    def lets_in(self, authorization: str) -> bool:
        """Whether who sends this header may see the page."""
        given = authorization.encode("utf-8", "surrogateescape")
        right = [hmac.compare_digest(given, expected) for expected in self._expected]
        return not right or any(right)

    def process_request(self, request: socket | tuple[bytes, socket], client_address: object) -> None:
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:  # there is no thread to end
            self._free.release()
            raise

    def process_request_thread(self, request: socket | tuple[bytes, socket], client_address: object) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _TIMEOUT_S
    server_version = "RunLake"
    sys_version = ""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics" and not self.server.lets_in(self.headers.get("Authorization", "")):
            self._answer(401, "text/plain; charset=utf-8", b"This needs a token: Authorization: Bearer <token>.\n")
        elif path == "/metrics":
            self._answer(200, CONTENT_TYPE_LATEST, self.server.page())
        elif path == "/health":
            self._answer(200, "application/json", b'{"status":"ok"}')
        else:
            self._answer(404, "text/plain; charset=utf-8", b"The metrics are at /metrics.\n")

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the worker's log is for what matters."""

    def _answer(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        if status == 401:
            self.send_header("WWW-Authenticate", 'Bearer realm="runlake"')
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
