"""A segment gives back the whole groups that were written, whatever has happened to the file since."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runlake_ingest.crashpoints import CrashPoints
from runlake_ingest.journal import Scan, SegmentWriter, scan_segment, segment_files, segment_path
from support.journals import LAKE, WORKER, batch_lines, write_segment
from support.samples import START, events

quick = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))


def spans(scan: Scan) -> list[tuple[int, int]]:
    return [(begin, end) for _, begin, end in scan.groups]


def test_groups_come_back_with_their_positions_and_places(tmp_path: Path) -> None:
    segment = write_segment(tmp_path, 7, groups=(3, 1, 5), first_seq=11)
    scan = scan_segment(segment.path)
    assert [(group.first_seq, group.last_seq) for group, _, _ in scan.groups] == [(11, 13), (14, 14), (15, 19)]
    assert {(group.segment, group.lake, group.worker) for group, _, _ in scan.groups} == {(7, LAKE, WORKER)}
    assert scan.groups[0][1] == 0
    assert scan.good_end == scan.size == segment.size == segment.path.stat().st_size
    assert not scan.torn and not scan.broken
    assert (segment.first_seq, segment.last_seq, segment.messages) == (11, 19, 9)


def test_a_group_without_an_accepted_message_counts_none(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path, LAKE, WORKER, 1, 5, CrashPoints({}))
    writer.write_group(batch_lines([], 5), 4)
    segment = writer.seal()
    ((group, _, _),) = scan_segment(segment.path).groups
    assert (group.first_seq, group.last_seq, group.lines) == (5, 4, 1)
    assert (segment.first_seq, segment.last_seq, segment.messages) == (5, 4, 0)


def test_every_line_of_a_segment_is_a_json_object_with_a_kind(tmp_path: Path) -> None:
    segment = write_segment(tmp_path, groups=(2, 2))
    kinds = [json.loads(line)["kind"] for line in segment.path.read_bytes().splitlines()]
    assert kinds == ["run.event", "run.event", "delivery", "group"] * 2


def test_the_checksum_is_the_crc_32_of_all_bytes_of_the_group_before_it(tmp_path: Path) -> None:
    content = write_segment(tmp_path).path.read_bytes()
    said, _, checksum = content.rpartition(b',"crc32":')
    assert int(checksum.removesuffix(b"}\n")) == zlib.crc32(said)


def test_p1_a_group_is_on_disk_whole_when_it_is_written_and_so_is_the_entry_of_a_new_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against power loss: what the disk was told to keep, and how much of it there was to keep."""
    synced: list[tuple[str, Path, int]] = []

    def watched(name: str) -> Callable[[int], None]:
        real: Callable[[int], None] = getattr(os, name)

        def sync(descriptor: int) -> None:
            path = Path(f"/proc/self/fd/{descriptor}").readlink()
            synced.append((name, path, path.stat().st_size if path.is_file() else 0))
            real(descriptor)

        return sync

    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, watched(name))
    writer = SegmentWriter(tmp_path, LAKE, WORKER, 1, 1, CrashPoints({}))
    first = writer.write_group(batch_lines(events(3), 1), 3)
    assert synced == [("fdatasync", writer.path, first), ("fsync", tmp_path, 0)]
    second = writer.write_group(batch_lines(events(2), 4), 5)
    assert synced[2:] == [("fdatasync", writer.path, first + second)]
    writer.close()


def test_a_segment_is_never_written_over(tmp_path: Path) -> None:
    write_segment(tmp_path, 3)
    with pytest.raises(FileExistsError):
        write_segment(tmp_path, 3)


def test_segments_are_listed_oldest_first_and_nothing_else_is(tmp_path: Path) -> None:
    for number in (10, 9, 100):
        write_segment(tmp_path, number)
    (tmp_path / "notes.ndjson").touch()
    (tmp_path / "000000000001.tmp").touch()
    assert segment_files(tmp_path) == [segment_path(tmp_path, number) for number in (9, 10, 100)]


def test_at_every_truncation_the_whole_groups_before_it_come_back(tmp_path: Path) -> None:
    segment = write_segment(tmp_path, groups=(1, 2, 1))
    content = segment.path.read_bytes()
    whole = spans(scan_segment(segment.path))
    for cut in range(len(content) + 1):
        segment.path.write_bytes(content[:cut])
        scan = scan_segment(segment.path)
        assert spans(scan) == [(begin, end) for begin, end in whole if end <= cut]
        assert scan.torn == (cut not in {0, *(end for _, end in whole)})
        assert not scan.broken


@quick
@given(data=st.data())
def test_a_flipped_bit_costs_the_group_it_is_in_and_no_other(data: st.DataObject, tmp_path: Path) -> None:
    path = segment_path(tmp_path, 1)
    path.unlink(missing_ok=True)
    segment = write_segment(tmp_path, groups=(1, 2, 1, 3))
    content = bytearray(segment.path.read_bytes())
    whole = spans(scan_segment(segment.path))
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= 1 << data.draw(st.integers(0, 7))
    segment.path.write_bytes(content)
    assert spans(scan_segment(segment.path)) == [(begin, end) for begin, end in whole if not begin <= place < end]


@quick
@given(data=st.data())
def test_overwritten_stretches_never_give_a_damaged_group(data: st.DataObject, tmp_path: Path) -> None:
    path = segment_path(tmp_path, 1)
    path.unlink(missing_ok=True)
    segment = write_segment(tmp_path, groups=(1, 1, 2))
    original = segment.path.read_bytes()
    content = bytearray(original)
    whole = spans(scan_segment(segment.path))
    begin = data.draw(st.integers(0, len(content) - 1))
    junk = data.draw(st.one_of(st.binary(min_size=1, max_size=600), st.integers(1, 600).map(bytes)))
    content[begin : begin + len(junk)] = junk
    segment.path.write_bytes(content)
    for found in spans(scan_segment(segment.path)):
        assert found in whole
        assert content[slice(*found)] == original[slice(*found)]


def test_a_group_whose_own_books_are_wrong_is_no_good_group(tmp_path: Path) -> None:
    """The checksum holds, but the line counts other lines than there are."""
    segment = write_segment(tmp_path)
    said, _, _ = segment.path.read_bytes().rpartition(b',"crc32":')
    said = said.replace(b'"lines":4', b'"lines":5')
    segment.path.write_bytes(said + b',"crc32":%d}\n' % zlib.crc32(said))
    assert scan_segment(segment.path).groups == []


def test_a_message_that_looks_like_a_group_line_is_a_message(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path, LAKE, WORKER, 1, 1, CrashPoints({}))
    message = events(1, run_id='\n{"kind":"group","crc32":1}\n', ts=START)
    writer.write_group(batch_lines(message, 1, producer='\n{"kind":"group"'), 1)
    segment = writer.seal()
    assert len(scan_segment(segment.path).groups) == 1
    assert not scan_segment(segment.path).torn
