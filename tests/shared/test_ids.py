"""UUIDv7, as RFC 9562 describes it."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import RFC_4122, UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runlake.ids import Uuid7Source


def clock(times: list[int]) -> Callable[[], int]:
    """A clock that shows these times, one after the other."""
    return iter(times).__next__


def test_an_id_has_version_7_and_the_variant_of_the_rfc() -> None:
    made = Uuid7Source()()
    assert made.version == 7
    assert made.variant == RFC_4122


@given(st.integers(0, 2**48 * 1_000_000 - 1))
def test_an_id_begins_with_the_milliseconds_of_its_making(nanoseconds: int) -> None:
    made = Uuid7Source(clock([nanoseconds]))()
    assert made.int >> 80 == nanoseconds // 1_000_000 or nanoseconds == 0
    assert (made.int >> 64) & 0xFFF == nanoseconds % 1_000_000 * 4096 // 1_000_000 or nanoseconds < 245


@given(st.lists(st.integers(1_769_596_200_000_000_000, 1_769_596_200_010_000_000), min_size=2, max_size=50))
def test_ids_rise_even_when_the_clock_stands_still_or_goes_back(times: list[int]) -> None:
    source = Uuid7Source(clock(times))
    made = [source() for _ in times]
    assert made == sorted(made)
    assert len({value.int >> 64 for value in made}) == len(times)


@given(st.lists(st.integers(0, 2**47 * 1_000_000), min_size=1, max_size=200))
def test_a_text_is_that_of_an_id_of_its_time_and_texts_rise_too(times: list[int]) -> None:
    texts, ids = Uuid7Source(clock(times)), Uuid7Source(clock(times))
    made = [texts.text() for _ in times]
    assert made == sorted(made) == [str(UUID(text)) for text in made]
    assert [UUID(text).int >> 64 for text in made] == [ids().int >> 64 for _ in times]
    assert {(UUID(text).version, UUID(text).variant) for text in made} == {(7, RFC_4122)}


def test_ids_and_texts_of_one_source_follow_each_other() -> None:
    source = Uuid7Source(clock([10**18] * 4))
    made = [str(source()), source.text(), str(source()), source.text()]
    assert made == sorted(made)
    assert len(set(made)) == 4


def test_ids_of_a_real_clock_are_of_now() -> None:
    before = time.time_ns() // 1_000_000
    made = Uuid7Source()()
    assert before <= made.int >> 80 <= time.time_ns() // 1_000_000


def test_two_sources_at_the_same_time_make_different_ids() -> None:
    assert Uuid7Source(clock([10**18]))() != Uuid7Source(clock([10**18]))()


def test_a_source_that_is_seeded_anew_makes_other_ids() -> None:
    """What a forked process does: without it both would draw the same numbers."""
    one, other = Uuid7Source(clock([10**18] * 3)), Uuid7Source(clock([10**18] * 3))
    other._random.setstate(one._random.getstate())
    other.reseed()
    assert one() != other()
    one.text()
    other._tails = list(one._tails)
    other._random.setstate(one._random.getstate())
    other.reseed()
    assert one.text()[-17:] != other.text()[-17:]


@pytest.mark.parametrize("take", [Uuid7Source.__call__, Uuid7Source.text])
def test_threads_that_share_a_source_never_get_the_same_id(take: Callable[[Uuid7Source], object]) -> None:
    source = Uuid7Source()
    with ThreadPoolExecutor(4) as pool:
        made = [made for part in pool.map(lambda _: [take(source) for _ in range(5_000)], range(4)) for made in part]
    assert len(set(made)) == len(made)
