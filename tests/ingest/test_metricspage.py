"""The worker's own page: what it has done and how it stands, as Prometheus reads it."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

from prometheus_client.parser import text_string_to_metric_families

from support.api import Api
from support.emitting import event
from support.lakeaway import lake_away
from support.processes import Process, Site, wait_until
from support.producer import Producer


def numbers(api: Api) -> dict[str, float]:
    reply = api.get("/metrics")
    assert reply.status == 200
    assert reply.headers["content-type"].startswith("text/plain")
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(reply.text)
        for sample in family.samples
        if not sample.name.endswith("_bucket")
    }


def page(worker: Process) -> Api:
    return Api(f"http://{worker.wait_for('ready')['metrics']}")


def test_the_page_counts_what_was_accepted_refused_and_sent_twice(site: Site) -> None:
    with site.ingest() as worker, Producer(site.ingest_endpoint) as producer:
        api = page(worker)
        assert numbers(api)["runlake_ingest_received_total"] == 0
        first = event(1)
        producer.deliver([first, event(2)])
        producer.deliver([first, b"\x81\xa4kind\xa1?"])
        producer.flush()
        found = numbers(api)
        assert found["runlake_ingest_received_total"] == 4
        assert found["runlake_ingest_accepted_total"] == 2
        assert found["runlake_ingest_duplicate_total"] == 1
        assert found["runlake_ingest_rejected_total"] == 1
        assert found["runlake_ingest_accepted_seq"] == found["runlake_ingest_flushed_seq"] == 2
        assert found["runlake_ingest_flush_seconds_count"] >= 1
        wait_until(lambda: numbers(api)["runlake_ingest_journal_bytes"] == 0, "the journal is in the lake")
        api.close()


def test_the_journal_shows_while_the_lake_has_not_got_it(site: Site) -> None:
    with site.ingest("--flush-interval-ms", "600000") as worker, Producer(site.ingest_endpoint) as producer:
        producer.deliver([event(1)])
        api = page(worker)
        assert numbers(api)["runlake_ingest_journal_bytes"] > 0
        assert numbers(api)["runlake_ingest_window_ids"] == 1
        api.close()


def test_the_page_shows_how_much_waits_in_each_queue(site: Site) -> None:
    with site.ingest("--flush-interval-ms", "10") as worker, Producer(site.ingest_endpoint) as producer:
        api = page(worker)
        assert numbers(api)["runlake_ingest_sealed_segments"] == 0
        with lake_away(site):
            producer.deliver([event(1)])
            wait_until(lambda: numbers(api)["runlake_ingest_sealed_segments"] >= 1, "a segment waits for the lake")
            found = numbers(api)
            assert found["runlake_ingest_groups_at_journal"] == found["runlake_ingest_waiting_batches"] == 0
            assert found["runlake_ingest_flush_seconds_count"] == 0
        producer.flush()
        wait_until(lambda: numbers(api)["runlake_ingest_sealed_segments"] == 0, "none waits any more")
        api.close()


def test_any_other_path_is_404_and_health_is_there(site: Site) -> None:
    with site.ingest() as worker:
        api = page(worker)
        assert api.get("/health").json == {"status": "ok"}
        assert api.get(f"/{uuid4()}").status == 404
        api.close()


def test_a_taken_address_is_a_setting_to_change(site: Site) -> None:
    with site.ingest() as worker:
        taken = worker.wait_for("ready")["metrics"]
        other = Site(site.data.parent / "other")
        with other.ingest("--metrics", taken, ready=False) as second:
            assert second.wait() == 2
            (line,) = [line for line in second.log if line["event"] == "cannot_run"]
            assert "RUNLAKE_METRICS" in line["reason"]


def test_beyond_loopback_the_page_asks_for_a_token(site: Site) -> None:
    site.env = {"RUNLAKE_TOKEN": "a-token-of-this-test-0123456789"}
    with site.ingest("--metrics", "0.0.0.0:0") as worker:
        port = worker.wait_for("ready")["metrics"].rsplit(":", 1)[1]
        api = Api(f"http://127.0.0.1:{port}")
        for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer \u00e9"}):
            refused = api.get("/metrics", header)
            assert refused.status == 401
            assert refused.headers["www-authenticate"].startswith("Bearer")
            assert "runlake_ingest" not in refused.text
        assert api.get("/health").status == 200
        assert api.get("/metrics", {"Authorization": f"Bearer {site.env['RUNLAKE_TOKEN']}"}).status == 200
        api.close()


def test_those_who_only_connect_take_no_more_threads_than_a_few(site: Site) -> None:
    with site.ingest() as worker, ExitStack() as held:
        address = worker.wait_for("ready")["metrics"]
        host, port = address.rsplit(":", 1)
        before = len(list(Path(f"/proc/{worker.pid}/task").iterdir()))
        for _ in range(50):
            held.enter_context(socket.create_connection((host, int(port))))
        last = socket.create_connection((host, int(port)))
        held.enter_context(last)
        last.settimeout(30)
        assert last.recv(1) == b""  # closed at once, and so all before it have been looked at
        assert len(list(Path(f"/proc/{worker.pid}/task").iterdir())) <= before + 16
