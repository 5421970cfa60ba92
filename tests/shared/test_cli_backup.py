"""`runlake backup` of a live system, and what a folder restored from it is worth."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from runlake.lake.filehold import hold_files
from runlake.messages import Message
from support.api import Api
from support.processes import Site, wait_until
from support.producer import Producer
from support.reading import one, rows
from support.runlake_command import Command
from support.samples import event, started, updated


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


def backed_up(command: Command, folder: Path) -> dict[str, Any]:
    done = command("backup", str(folder), "--json")
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def restored(tmp_path: Path, backup: Path) -> tuple[Site, Command]:
    """A site on a data folder made from the backup."""
    place = tmp_path / "new"
    place.mkdir()
    command = Command(place)
    done = command("restore", str(backup), "--data", str(command.data))
    assert done.returncode == 0, done.stderr
    return Site(place), command


def assert_whole(command: Command) -> None:
    done = command("verify", "--without-read-model")
    assert done.returncode == 0, done.stdout


def test_p1_p2_a_restored_folder_is_whole_and_agents_go_on_against_it(
    site: Site, command: Command, tmp_path: Path
) -> None:
    run = started("r", status="running")
    sent: list[Message] = [run, *(event(number) for number in range(20))]
    with site.ingest("--flush-interval-ms", "600000") as worker, Producer(site.ingest_endpoint, "agent") as producer:
        producer.deliver(sent[:11])
        producer.deliver([updated(run.event_id, status="partial", items_failed=7)])
        producer.flush()
        producer.deliver(sent[11:])  # in the journal alone
        said = backed_up(command, tmp_path / "backup")
        assert list(said["positions"].values()) == [12]
        worker.kill()
    new, here = restored(tmp_path, tmp_path / "backup")
    assert_whole(here)
    with new.ingest() as worker, Producer(new.ingest_endpoint, "agent") as producer:
        again = producer.deliver(sent)  # what was acknowledged before the loss is not accepted twice
        assert (again.accepted, len(again.duplicate)) == (0, 21)
        more = producer.deliver([updated(run.event_id, status="success", items_succeeded=3), event(20)])
        assert (more.accepted, more.first_seq) == (2, 23)
        query, url = new.query()
        with query:
            api = Api(url)
            wait_until(lambda: api.ok("/api/v1/runs/r")["status"] == "success", "the later update wins")
            assert api.ok("/api/v1/runs/r")["items_failed"] == 7
            assert len(api.ok("/api/v1/runs/r/history")["changes"]) == 3
            here.http = url.removeprefix("http://")
            assert_whole(here)
            api.close()
            assert query.terminate() == 0
        assert worker.terminate() == 0
    assert_whole(here)
    assert one(new.catalog, "SELECT count(DISTINCT worker) FROM flushes") == 2


def test_a_backup_under_load_and_maintenance_is_whole_whenever_it_is_made(
    site: Site, command: Command, tmp_path: Path
) -> None:
    often = ("--flush-interval-ms", "20", "--maintenance-interval-ms", "20", "--maintenance-keep-s", "1")
    stop = threading.Event()
    count = 0

    def load() -> None:
        nonlocal count
        with Producer(site.ingest_endpoint) as producer:
            while not stop.is_set():
                count += producer.deliver([event(number) for number in range(10)]).accepted

    with site.ingest(*often) as worker:
        loading = threading.Thread(target=load)
        loading.start()
        try:
            for _ in range(3):
                done = command("backup", str(tmp_path / "backup"))
                assert done.returncode == 0, done.stderr
        finally:
            stop.set()
            loading.join()
        assert worker.terminate() == 0
    new, here = restored(tmp_path, tmp_path / "backup")
    assert_whole(here)
    with new.ingest(*often) as worker, Producer(new.ingest_endpoint) as producer:
        producer.deliver([event()])
        producer.flush()
        wait_until(lambda: one(new.catalog, "SELECT count(*) FROM ducklake_snapshots('lake')") < 20, "it is maintained")
        assert worker.terminate() == 0
    assert_whole(here)
    assert 0 < one(new.catalog, "SELECT count(*) FROM events") <= count + 1


def test_a_second_backup_takes_what_is_new_and_lets_go_of_what_is_not_needed(
    site: Site, command: Command, tmp_path: Path
) -> None:
    backup = tmp_path / "backup"
    with site.ingest("--maintenance-interval-ms", "0") as worker, Producer(site.ingest_endpoint) as producer:
        for number in range(8):
            producer.deliver([event(number)])
            producer.flush()
        first = backed_up(command, backup)
        assert first["new_files"] >= 16
        assert backed_up(command, backup)["new_files"] == 0
        producer.deliver([event(8)])
        producer.flush()
        assert backed_up(command, backup)["new_files"] == 2
        assert worker.terminate() == 0
    command("maintain")
    command("maintain", "--maintenance-keep-s", "1")
    last = backed_up(command, backup)
    named = {file["path"] for file in json.loads((backup / "manifest.json").read_text())["files"]}
    assert {str(path.relative_to(backup)) for path in backup.rglob("*.parquet")} < named
    assert last["files"] == len(named) < first["files"]
    assert len(list(backup.glob("snapshot-*"))) == 1
    new, here = restored(tmp_path, backup)
    assert_whole(here)
    assert rows(new.catalog, "SELECT count(*) FROM events") == [(9,)]


def test_no_file_of_the_lake_is_deleted_while_it_is_copied(site: Site, command: Command) -> None:
    keep_nothing = ("--maintenance-interval-ms", "20", "--maintenance-keep-s", "1")
    with site.ingest(*keep_nothing) as worker, Producer(site.ingest_endpoint) as producer:
        producer.deliver([event()])
        producer.flush()
        (file,) = (site.data / "lake" / "main" / "events").iterdir()
        with hold_files(site.data / "lake"):
            for number in range(8):
                producer.deliver([event(number)])
                producer.flush()
            wait_until(lambda: one(site.catalog, "SELECT count(*) FROM ducklake_snapshots('lake')") < 4, "it expires")
            assert file.exists()
        wait_until(lambda: not file.exists(), "what was replaced is deleted afterwards")
        assert worker.terminate() == 0
    assert_whole(command)


@pytest.mark.parametrize("what", ["lake", "catalog", "journal"])
def test_a_damaged_backup_is_refused_and_leaves_nothing(
    what: str, site: Site, command: Command, tmp_path: Path
) -> None:
    backup = tmp_path / "backup"
    with site.ingest("--flush-interval-ms", "600000") as worker, Producer(site.ingest_endpoint) as producer:
        producer.deliver([event()])
        producer.flush()
        producer.deliver([event()])
        backed_up(command, backup)
        worker.kill()
    found = {"lake": "*.parquet", "catalog": "catalog.sqlite", "journal": "*.ndjson"}
    path = next(backup.rglob(found[what]))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()  # a link to the lake's own file, which is to stay as it is
    path.write_bytes(content)
    target = tmp_path / "new" / "data"
    refused = command("restore", str(backup), "--data", str(target))
    assert refused.returncode == 1
    assert str(path) in refused.stderr and "checksum" in refused.stderr
    assert not target.exists() and list(target.parent.glob("*")) == []
    path.unlink()
    assert "is missing" in command("restore", str(backup), "--data", str(target)).stderr


def test_what_cannot_be_backed_up_or_restored_is_told_and_nothing_is_touched(
    site: Site, command: Command, tmp_path: Path
) -> None:
    backup = tmp_path / "backup"
    assert "there is no lake" in command("backup", str(backup)).stderr
    assert "no backup" in command("restore", str(backup), "--data", str(tmp_path / "new")).stderr
    with site.ingest() as worker:
        assert worker.terminate() == 0
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "thesis.txt").write_text("mine")
    assert "no backup" in command("backup", str(tmp_path / "papers")).stderr
    assert {path.name for path in (tmp_path / "papers").iterdir()} == {"thesis.txt"}
    assert "inside the lake" in command("backup", str(site.data / "lake" / "b")).stderr
    backed_up(command, backup)
    refused = command("restore", str(backup))  # over the live folder
    assert refused.returncode == 1 and "not empty" in refused.stderr
    manifest = backup / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"schema_version": ', '"schema_version": 99'))
    refused = command("restore", str(backup), "--data", str(tmp_path / "new"))
    assert "99" in refused.stderr and "newer" in refused.stderr
    manifest.write_text("{")
    assert "cannot be read" in command("backup", str(backup)).stderr


def test_another_lakes_backup_is_not_written_over(site: Site, command: Command, tmp_path: Path) -> None:
    with site.ingest() as worker:
        assert worker.terminate() == 0
    backed_up(command, tmp_path / "backup")
    other = Site(tmp_path / "other")
    with other.ingest() as worker:
        assert worker.terminate() == 0
    refused = command("backup", str(tmp_path / "backup"), "--data", str(other.data))
    assert refused.returncode == 1 and "backup of the lake" in refused.stderr
