"""The commands that work on the lake itself, where it is in PostgreSQL and S3: all of it by two settings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runlake import wire
from runlake.messages import Message
from support.api import Api
from support.objectstore import ObjectStore
from support.postgres import Postgres
from support.producer import Producer
from support.runlake_command import Command
from support.samples import event, started


@pytest.fixture
def command(tmp_path: Path, database: str, bucket: str, object_store: ObjectStore) -> Command:
    command = Command(tmp_path)
    command.more = {
        **object_store.env,
        "RUNLAKE_CATALOG": database,
        "RUNLAKE_STORAGE": bucket,
        "RUNLAKE_SQL": "on",
        "RUNLAKE_LOG_LEVEL": "debug",
        "RUNLAKE_MAINTENANCE_INTERVAL_MS": "0",
    }
    return command


def said(command: Command, *arguments: str, status: int = 0) -> str:
    done = command(*arguments)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def sql(api: Api, statement: str, after: wire.Position) -> list[dict[str, object]]:
    reply = api.post(f"/api/v1/sql?after={after.worker}:{after.flushed}", {"sql": statement})
    assert reply.status == 200, reply.text
    rows: list[dict[str, object]] = reply.json["rows"]
    return rows


def test_every_command_works_on_a_cluster_or_says_what_to_use_and_nothing_shows_a_secret(
    command: Command, postgres: Postgres, object_store: ObjectStore, bucket: str, tmp_path: Path
) -> None:
    texts = []
    messages: list[Message | bytes] = [started(f"run-{number}") for number in range(4)]
    with command.up(command.more) as up, Producer(command.settings["RUNLAKE_INGEST"]) as producer:
        producer.deliver(messages)
        for number in range(8):
            producer.deliver([event(number, "run-1")])
            after = producer.flush()
        api = Api(f"http://{command.http}")
        assert sql(api, "SELECT count(*) AS n FROM runs", after) == [{"n": 4}]
        producer.deliver([event(8, "run-1"), event(9, "run-1")])
        counts = sql(api, "SELECT count(*) AS n, count(DISTINCT event_id) AS ids FROM events", producer.flush())
        assert counts == [{"n": 10, "ids": 10}]
        api.close()

        report = said(command, "verify")
        for line in ("All is right.", "✓ positions: 14 messages", "✓ read model: 4 runs"):
            assert line in report
        assert "To be forgotten" in said(command, "forget", "run-3")
        due = json.loads(said(command, "maintain", "--dry-run", "--json"))
        assert {"count": 1, "what": "runs to remove that were to be forgotten"} in due["steps"]
        assert any("small files of events to merge" in step["what"] for step in due["steps"])
        assert due["lake"]["files"] == sum(key.endswith(".parquet") for key in object_store.keys(bucket))
        done = said(command, "maintain")  # in turn with the worker
        for line in ("small files of events merged", "runs removed that were to be forgotten"):
            assert line in done
        assert "pg_dump" in said(command, "backup", str(tmp_path / "backup"), status=1)
        texts += [report, "".join(up.text), done]

    log = tmp_path / "log.ndjson"
    assert "13 messages are in" in said(command, "replay", "--to", str(log))
    assert len(log.read_text("utf-8").splitlines()) == 13
    rebuilt = said(command, "rebuild")
    assert "The read model in" in rebuilt
    doctor = said(command, "doctor", status=1)
    for line in ("schema version 3, opens", "ducklake and postgres_scanner and httpfs"):
        assert line in doctor
    texts += [rebuilt, doctor]
    assert "caught_up" in texts[1]
    for secret in (postgres.password, object_store.env["AWS_SECRET_ACCESS_KEY"]):
        assert not any(secret in text for text in texts)


def test_a_lake_that_cannot_be_reached_is_told_without_the_password(command: Command, postgres: Postgres) -> None:
    assert "there is no lake yet at postgresql://runlake:…@" in said(command, "doctor", status=1)
    command.more["RUNLAKE_CATALOG"] = command.more["RUNLAKE_CATALOG"].replace(f":{postgres.port}/", ":1/")
    for arguments in (("verify",), ("rebuild",), ("doctor",)):
        text = said(command, *arguments, status=1)
        assert "postgresql://runlake:…@127.0.0.1:1/" in text, arguments
        assert postgres.password not in text
        assert "Traceback" not in text
    assert "the address in RUNLAKE_CATALOG" in text
