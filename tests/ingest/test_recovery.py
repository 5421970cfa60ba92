"""What a worker finds in its journal at start: whole groups go on, what was torn or damaged is kept aside and said."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runlake.errors import LakeError
from runlake_ingest.journal import Segment, scan_segment, segment_path
from runlake_ingest.recovery import recover
from support.journals import LAKE, WORKER, Logged, write_segment


class Folder:
    """A journal with the folder beside it, and what recovery says of it."""

    def __init__(self, path: Path) -> None:
        self.journal, self.aside = path / "journal", path / "aside"
        self.journal.mkdir(parents=True)
        self.aside.mkdir()
        self.logged = Logged()
        self.flushed: dict[UUID, int] = {}

    def recover(self) -> list[Segment]:
        return recover(self.journal, self.aside, LAKE, lambda worker: self.flushed.get(worker, 0), self.logged.log)

    def state(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted(self.journal.iterdir())}

    def kept(self) -> list[bytes]:
        return [path.read_bytes() for path in sorted(self.aside.iterdir())]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def damage(path: Path, place: int) -> bytes:
    """Change one byte in the middle of a file; returns what the file holds then."""
    content = bytearray(path.read_bytes())
    content[place] ^= 0x20
    path.write_bytes(content)
    return bytes(content)


def test_an_empty_journal_gives_nothing(folder: Folder) -> None:
    assert folder.recover() == []
    assert folder.logged.lines() == []


def test_whole_segments_go_on_unchanged_and_oldest_first(folder: Folder) -> None:
    written = [
        write_segment(folder.journal, 4, (3, 1)),
        write_segment(folder.journal, 5, (2,), first_seq=5),
        write_segment(folder.journal, 6, (1, 1, 1), first_seq=7),
    ]
    before = folder.state()
    assert folder.recover() == written
    assert folder.state() == before
    assert folder.kept() == []
    assert folder.logged.lines() == []


def test_the_newest_segment_is_written_anew_before_it_is_trusted(folder: Folder) -> None:
    older = write_segment(folder.journal, 1)
    newest = write_segment(folder.journal, 2, first_seq=4)
    inodes = (older.path.stat().st_ino, newest.path.stat().st_ino)
    folder.recover()
    assert older.path.stat().st_ino == inodes[0]
    assert newest.path.stat().st_ino != inodes[1]


def test_a_torn_end_of_the_newest_segment_is_cut_off_and_kept_aside_wherever_it_was_torn(tmp_path: Path) -> None:
    written = write_segment(tmp_path / "written", groups=(1, 2))
    content = written.path.read_bytes()
    (_, _, first_end), (_, _, second_end) = scan_segment(written.path).groups
    for cut in sorted({*range(1, len(content), 7), *range(first_end - 3, first_end + 4), second_end - 1, second_end}):
        folder = Folder(tmp_path / str(cut))
        segment_path(folder.journal, 1).write_bytes(content[:cut])
        good = second_end if cut == second_end else first_end if cut >= first_end else 0
        found = folder.recover()
        assert [(segment.size, segment.last_seq) for segment in found] == (
            [(good, {0: 0, first_end: 1}.get(good, 3))] if good else []
        )
        assert folder.state() == ({"000000000001.ndjson": content[:good]} if good else {})
        assert folder.kept() == ([content[good:cut]] if cut != good else [])
        assert folder.logged.events() == (["journal_tail_cut"] if cut != good else [])


def test_a_torn_end_of_an_older_segment_is_corruption(folder: Folder) -> None:
    older = write_segment(folder.journal, 1, (2, 2))
    write_segment(folder.journal, 2, (1,), first_seq=5)
    whole = older.path.read_bytes()
    older.path.write_bytes(whole[:-10])
    found = folder.recover()
    assert [(segment.number, segment.first_seq, segment.last_seq, segment.messages) for segment in found] == [
        (1, 1, 2, 2),
        (2, 5, 5, 1),
    ]
    assert folder.kept() == [whole[:-10]]
    (line,) = folder.logged.of("journal_corrupt")
    assert (line["level"], line["segment"], line["saved_groups"]) == ("error", "000000000001.ndjson", 1)
    assert line["kept"] in {path.name for path in folder.aside.iterdir()}


@pytest.mark.parametrize("newer", [True, False], ids=["older", "newest"])
def test_damage_in_the_middle_is_corruption_and_the_groups_around_it_go_on(folder: Folder, newer: bool) -> None:
    segment = write_segment(folder.journal, 1, (2, 3, 4))
    if newer:
        write_segment(folder.journal, 2, first_seq=10)
    spans = [(begin, end) for _, begin, end in scan_segment(segment.path).groups]
    content = damage(segment.path, (spans[1][0] + spans[1][1]) // 2)
    found = folder.recover()[0]
    assert (found.first_seq, found.last_seq, found.messages) == (1, 9, 6)
    assert segment.path.read_bytes() == content[slice(*spans[0])] + content[slice(*spans[2])]
    assert found.size == segment.path.stat().st_size
    assert folder.kept() == [content]
    (line,) = folder.logged.of("journal_corrupt")
    assert (line["lost_bytes"], line["saved_groups"]) == (spans[1][1] - spans[1][0], 2)


def test_a_segment_without_one_good_group_is_kept_aside_whole(folder: Folder) -> None:
    path = segment_path(folder.journal, 1)
    path.write_bytes(b"\x00" * 5_000)
    write_segment(folder.journal, 2)
    assert [segment.number for segment in folder.recover()] == [2]
    assert not path.exists()
    assert folder.kept() == [b"\x00" * 5_000]
    assert len(folder.logged.of("journal_corrupt")) == 1


def test_empty_files_and_leftovers_are_removed_without_a_word(folder: Folder) -> None:
    segment_path(folder.journal, 1).touch()
    segment_path(folder.journal, 2).touch()
    (folder.journal / "000000000001.tmp").write_bytes(b"half")
    assert folder.recover() == []
    assert folder.state() == {}
    assert folder.kept() == []
    assert folder.logged.lines() == []


def test_flushed_segments_are_removed(folder: Folder) -> None:
    for number in (1, 2, 3):
        write_segment(folder.journal, number, first_seq=number * 3 - 2)
    folder.flushed[WORKER] = 2
    assert [segment.number for segment in folder.recover()] == [3]
    assert list(folder.state()) == ["000000000003.ndjson"]


def test_the_segments_of_a_former_id_are_judged_by_that_ids_position(folder: Folder) -> None:
    """A copied folder has a new id, and may hold what the old one had not flushed."""
    former = uuid4()
    write_segment(folder.journal, 5, worker=former)
    write_segment(folder.journal, 6, worker=former, first_seq=4)
    folder.flushed = {former: 5, WORKER: 100}
    (found,) = folder.recover()
    assert (found.worker, found.number) == (former, 6)


def test_the_journal_of_another_lake_is_refused_and_left_alone(folder: Folder) -> None:
    foreign = uuid4()
    write_segment(folder.journal, 1, lake=foreign)
    before = folder.state()
    with pytest.raises(LakeError) as refused:
        folder.recover()
    assert str(foreign) in str(refused.value) and str(LAKE) in str(refused.value)
    assert folder.state() == before


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_recovering_twice_is_recovering_once_whatever_happened_to_the_files(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = Folder(tmp_path_factory.mktemp("recovery"))
    written: set[bytes] = set()
    for number in (1, 2, 3):
        path = write_segment(folder.journal, number, (1, 2), first_seq=number * 3 - 2).path
        content = bytearray(path.read_bytes())
        written |= {bytes(content[begin:end]) for _, begin, end in scan_segment(path).groups}
        for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=2)):
            content[place] ^= 1 << data.draw(st.integers(0, 7))
        path.write_bytes(content[: data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))])
    first = folder.recover()
    state, kept = folder.state(), folder.kept()
    again = folder.recover()
    assert again == first
    assert (folder.state(), folder.kept()) == (state, kept)
    for segment in first:
        scan, content = scan_segment(segment.path), bytearray(segment.path.read_bytes())
        assert not scan.torn and not scan.broken
        assert all(bytes(content[begin:end]) in written for _, begin, end in scan.groups)
