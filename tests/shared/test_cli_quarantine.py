"""`runlake quarantine`: a refused message is listed, shown with its bytes, sent again once mended, and expires."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from runlake import wire
from runlake.cli import quarantine
from runlake.cli.entry import main
from support.api import Api
from support.processes import Process, Site, wait_until
from support.producer import Producer, payload
from support.reading import one
from support.runlake_command import Command
from support.samples import event

TOKEN, READ_TOKEN = "only-for-this-test-0123456789", "reads-of-this-test-0123456789"


class Served(NamedTuple):
    site: Site
    command: Command
    producer: Producer
    query: Process
    api: Api


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    site, command = Site(tmp_path), Command(tmp_path)
    with site.ingest() as worker, Producer(site.ingest_endpoint, "agent") as producer:
        query, url = site.query(env={"RUNLAKE_TOKEN": TOKEN, "RUNLAKE_READ_TOKEN": READ_TOKEN})
        with query:
            command.http = url.removeprefix("http://")
            command.more = {"RUNLAKE_TOKEN": TOKEN}
            api = Api(url)
            yield Served(site, command, producer, query, api)
            api.close()
        assert worker.terminate() == 0


def refuse(served: Served, **wrong: Any) -> tuple[bytes, dict[str, Any]]:
    """Have a message refused; returns its bytes, and what is listed of it."""
    good = msgspec.msgpack.decode(wire.encode_message(event(7)))
    raw = msgspec.msgpack.encode(good | wrong)
    before = len(listed(served))
    assert len(served.producer.deliver([raw]).rejected) == 1
    served.producer.flush()
    wait_until(lambda: len(listed(served)) == before + 1, "it is listed")
    return raw, listed(served)[0]


def listed(served: Served) -> list[dict[str, Any]]:
    reply = served.api.get("/api/v1/quarantine", {"Authorization": f"Bearer {READ_TOKEN}"})
    assert reply.status == 200, reply.text
    found: list[dict[str, Any]] = reply.json["quarantine"]
    return found


def test_p8_a_refused_message_is_shown_and_accepted_once_when_it_is_mended(served: Served, tmp_path: Path) -> None:
    command = served.command
    raw, refused = refuse(served, ts="yesterday")
    shown = json.loads(command("quarantine", "show", refused["id"][:8]).stdout)
    assert shown == refused
    assert base64.b64decode(shown["raw"]) == raw and shown["field"] == "ts" and shown["producer"] == "agent"

    still = command("quarantine", "resubmit", refused["id"])
    assert still.returncode == 1 and "ts:" in still.stderr

    mended = tmp_path / "mended.json"
    mended.write_bytes(msgspec.json.encode(msgspec.msgpack.decode(raw) | {"ts": "2026-01-28T10:30:00Z"}))
    done = command("quarantine", "resubmit", refused["id"][:8], "--message", str(mended))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["accepted"] == 1
    again = command("quarantine", "resubmit", refused["id"], "--message", str(mended))
    assert json.loads(again.stdout) | {"position": ""} == {"accepted": 0, "duplicate": 1, "position": ""}
    served.producer.flush()
    assert one(served.site.catalog, "SELECT payload->>'number' FROM events") == "7"
    assert [row["id"] for row in listed(served)] == [refused["id"]]
    done = command("verify")
    assert done.returncode == 0, done.stdout


def test_what_was_refused_for_its_batch_alone_is_sent_again_as_it_came(served: Served) -> None:
    miscounted = served.producer.header(3)
    served.producer.send_frames(wire.encode_frame(miscounted), payload([event(1), event(2)]))
    assert served.producer.ack().accepted == 0
    served.producer.flush()
    wait_until(lambda: len(listed(served)) == 1, "it is listed")
    done = served.command("quarantine", "resubmit", listed(served)[0]["id"])
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["accepted"] == 2


def test_sending_again_needs_the_token_for_writing(served: Served) -> None:
    _, refused = refuse(served, type="")
    path = f"/api/v1/quarantine/{refused['id']}/resubmit"
    assert served.api.post(path, {}).status == 401
    assert served.api.post(path, {}, {"Authorization": f"Bearer {READ_TOKEN}"}).status == 403
    assert served.api.post(path, {}, {"Authorization": f"Bearer {TOKEN}"}).status == 400
    served.command.more = {"RUNLAKE_TOKEN": READ_TOKEN}
    assert "reading only" in served.command("quarantine", "resubmit", refused["id"]).stderr
    assert served.command("quarantine", "show", refused["id"]).returncode == 0


def test_old_refused_messages_expire_beside_the_worker_and_the_books_keep_their_number(served: Served) -> None:
    refuse(served, ts="yesterday")
    refuse(served, type="")
    kept = served.command("quarantine", "expire", "--older-than", "1d")
    assert kept.returncode == 0 and kept.stdout.startswith("0 refused messages"), kept.stderr
    assert "2 refused messages" in served.command("quarantine", "expire", "--older-than", "0s", "--dry-run").stdout
    done = served.command("quarantine", "expire", "--older-than", "0s")
    assert done.returncode == 0 and done.stdout.startswith("2 refused messages"), done.stderr
    wait_until(lambda: listed(served) == [], "the list is empty")
    books = served.api.get("/api/v1/producers", {"Authorization": f"Bearer {TOKEN}"}).json
    assert books["producers"][0]["rejected"] == 2
    refuse(served, ts="tomorrow")
    done = served.command("verify")
    assert done.returncode == 0, done.stdout


def test_people_see_what_the_bytes_say_or_the_bytes(
    served: Served, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    raw, refused = refuse(served, type="\x1b[2J" + "x" * 2000)
    served.producer.deliver([b"\xc1\xff\x00"])
    served.producer.flush()
    wait_until(lambda: len(listed(served)) == 2, "both are listed")
    monkeypatch.setattr(quarantine, "for_people", lambda as_json: True)
    monkeypatch.setenv("RUNLAKE_TOKEN", READ_TOKEN)
    http = served.command.http

    def said(*arguments: str) -> str:
        assert main(["quarantine", *arguments, "--http", http]) == 0
        return capsys.readouterr().out

    table = said("ls")
    assert "2 messages refused" in table and refused["id"][:12] in table and "type:" in table
    shown = said("show", refused["id"])
    assert f"{len(raw):,} bytes, which say:" in shown and '"run_id": "run"' in shown and "\x1b" not in shown
    unreadable = next(row["id"] for row in listed(served) if row["id"] != refused["id"])
    assert "c1 ff 00" in said("show", unreadable)
