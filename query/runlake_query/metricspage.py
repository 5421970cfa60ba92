"""What this process counts of itself, as Prometheus reads it. Every process has a registry of its own: no globals."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from runlake_query.gateway import Gateway
from runlake_query.progress import Progress

CONTENT_TYPE = CONTENT_TYPE_LATEST
_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_NO_ROUTE = "(none)"
_WORKER = ("worker",)


_COUNTED = {
    "fed": ("feed_messages", "Messages applied from the feed"),
    "from_lake": ("lake_messages", "Messages applied from the lake, because the feed had not brought them"),
    "catch_ups": ("lake_catch_ups", "Spans of the lake that had messages which the feed had not brought"),
    "gaps": ("feed_gaps", "How often the feed did not follow what was reflected"),
    "late": ("feed_duplicates", "Groups of the feed that were reflected already, or came twice"),
    "dropped": ("feed_dropped", "Groups of the feed for which there was no room"),
    "refused": ("feed_refused", "Messages and spans of the feed that could not be read"),
    "repriced": ("repriced_runs", "Runs whose cost was computed anew, by another price list"),
}
"""The follower's counts, as `Counts` names them, and what they are called here."""


class _State(Collector):
    """Gauges that are read when the page is."""

    def __init__(self, progress: Progress, gateway: Gateway) -> None:
        self._progress = progress
        self._gateway = gateway

    def collect(self) -> Iterator[Metric]:
        progress = self._progress
        yield _gauge("runlake_query_lag_seconds", "Since the read model held all of the lake", progress.lag_ms() / 1000)
        yield _gauge("runlake_query_caught_up", "Whether the read model has caught up", progress.state.caught_up)
        yield _gauge("runlake_query_following", "Whether the last look at the lake went well", progress.state.following)
        yield _gauge("runlake_query_follower_failures", "Unexpected errors of the follower", progress.state.failures)
        yield _gauge("runlake_query_ingest_connected", "Whether all of ingest is connected", self._gateway.connected)
        connected = GaugeMetricFamily("runlake_query_worker_connected", "Whether a worker is connected", labels=_WORKER)
        for link in self._gateway.workers:
            connected.add_metric((str(link.worker or ""),), link.connected)
        yield connected
        heard = GaugeMetricFamily("runlake_query_feed_heard", "Whether a worker's feed is heard", labels=_WORKER)
        for worker, is_heard in progress.heard_workers.items():
            heard.add_metric((str(worker),), is_heard)
        yield heard
        applied = GaugeMetricFamily("runlake_query_applied_seq", "Applied position", labels=_WORKER)
        for worker, seq in progress.positions.items():
            applied.add_metric((str(worker),), seq)
        yield applied
        for name, count in progress.counts._asdict().items():
            yield CounterMetricFamily(f"runlake_query_{_COUNTED[name][0]}", _COUNTED[name][1], value=count)


class Metrics:
    """Counts requests and writes the page."""

    def __init__(self, progress: Progress, gateway: Gateway) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "runlake_http_requests", "Requests answered", ("method", "route", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "runlake_http_request_seconds",
            "From the first byte of a request to its answer",
            ("method", "route"),
            buckets=_BUCKETS_S,
            registry=self._registry,
        )
        self._registry.register(_State(progress, gateway))
        self._counters: dict[tuple[str, str, int], Counter] = {}
        self._timers: dict[tuple[str, str], Histogram] = {}

    def add(self, collector: Collector) -> None:
        """Show what a collector tells, too."""
        self._registry.register(collector)

    def answered(self, method: str, route: str | None, status: int, seconds: float) -> None:
        """Note a request. `route` is the pattern that it matched: paths are not labels, since they have no bound."""
        name = route or _NO_ROUTE
        verb = method if route else "*"
        counter = self._counters.get((verb, name, status))
        if counter is None:
            counter = self._counters[verb, name, status] = self._requests.labels(verb, name, str(status))
        counter.inc()
        timer = self._timers.get((verb, name))
        if timer is None:
            timer = self._timers[verb, name] = self._seconds.labels(verb, name)
        timer.observe(seconds)

    def page(self) -> bytes:
        """The page, as text."""
        return generate_latest(self._registry)


def _gauge(name: str, help_text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, help_text, value=float(value))
