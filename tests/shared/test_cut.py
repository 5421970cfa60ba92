"""Cutting arrays by hand gives what msgspec gives, and refuses what it refuses."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runlake.cut import cut_array
from support.messages import maps

pack = msgspec.msgpack.encode
read_raw = msgspec.msgpack.Decoder(list[msgspec.Raw])


@given(st.lists(maps(), max_size=20))
def test_the_elements_of_an_array_are_their_own_bytes(values: list[Any]) -> None:
    assert cut_array(pack(values)) == [pack(value) for value in values]


@pytest.mark.parametrize(
    "value",
    [
        *(1, 127, 128, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**64 - 1),
        *(-1, -32, -33, -128, -129, -32_768, -32_769, -(2**31), -(2**31) - 1, -(2**63)),
        *(None, True, False, 0.5),
        *("x" * size for size in (0, 31, 32, 255, 256, 65_535, 65_536)),
        *(b"x" * size for size in (0, 255, 256, 65_535, 65_536)),
        *([0] * size for size in (0, 15, 16, 65_535, 65_536)),
        *(dict.fromkeys(map(str, range(size))) for size in (0, 15, 16, 65_535, 65_536)),
        *(msgspec.msgpack.Ext(5, b"x" * size) for size in (0, 1, 2, 3, 4, 8, 16, 17, 256, 65_536)),
    ],
    ids=lambda value: f"{type(value).__name__}",
)
def test_values_of_every_width_are_passed_whole(value: Any) -> None:
    assert cut_array(pack([value, 7, [value]])) == [pack(value), b"\x07", pack([value])]


def test_float32_is_passed_whole() -> None:
    assert cut_array(b"\x92\xca\x3f\x00\x00\x00\x01") == [b"\xca\x3f\x00\x00\x00", b"\x01"]


@given(st.binary(max_size=60))
def test_random_bytes_are_cut_or_refused_as_msgspec_does(data: bytes) -> None:
    try:
        expected = [bytes(raw) for raw in read_raw.decode(data)]
    except msgspec.DecodeError:
        with pytest.raises(ValueError, match=r"array|truncated|trailing|invalid"):
            cut_array(data)
    else:
        assert cut_array(data) == expected


@given(st.lists(maps(), min_size=1, max_size=5), st.data())
def test_a_cut_off_array_is_refused(values: list[Any], data: st.DataObject) -> None:
    whole = pack(values)
    with pytest.raises(ValueError, match=r"array|truncated"):
        cut_array(whole[: data.draw(st.integers(0, len(whole) - 1))])


@pytest.mark.parametrize("head", [b"\xdd\xff\xff\xff\xff", b"\x91\xdf\xff\xff\xff\xff", b"\x91\xdb\xff\xff\xff\xff"])
def test_announced_sizes_that_the_bytes_do_not_bear_out_are_refused(head: bytes) -> None:
    with pytest.raises(ValueError, match="truncated"):
        cut_array(head)
