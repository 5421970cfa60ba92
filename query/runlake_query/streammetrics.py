"""What the streams of this process do, as Prometheus reads it."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from runlake_query.subscriber import Drop
from runlake_query.subscribers import Subscribers


class StreamMetrics(Collector):
    """Read when the page is, on the event loop."""

    def __init__(self, subscribers: Subscribers) -> None:
        self._subscribers = subscribers

    def collect(self) -> Iterator[Metric]:
        counts = self._subscribers.counts
        yield GaugeMetricFamily("runlake_stream_clients", "Clients that watch a stream", value=counts.connected)
        yield GaugeMetricFamily("runlake_stream_queued_bytes", "Bytes that wait for them", value=counts.queued_bytes)
        yield CounterMetricFamily("runlake_stream_frames_sent", "Frames given to clients", value=counts.sent)
        yield CounterMetricFamily(
            "runlake_stream_frames_coalesced", "Frames that clients were told the number of", value=counts.coalesced
        )
        dropped = CounterMetricFamily("runlake_stream_dropped", "Streams that the server ended", labels=("reason",))
        for reason in Drop:
            dropped.add_metric((reason.value,), counts.dropped.get(reason, 0))
        yield dropped
        yield CounterMetricFamily(
            "runlake_stream_refused", "Streams refused for their number or that of their filters", value=counts.refused
        )
