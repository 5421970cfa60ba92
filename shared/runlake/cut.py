"""Cutting a MessagePack array into its elements without recursion and without reading them.

msgspec does the same far quicker, but gives up on the whole array when one element is nested deeper than the
interpreter's stack allows. Format: https://github.com/msgpack/msgpack/blob/master/spec.md
"""

from __future__ import annotations

_FIXED = {0xC0: 1, 0xC2: 1, 0xC3: 1, 0xCA: 5, 0xCB: 9} | {
    **{0xCC + power: 1 + 2**power for power in range(4)},  # uint 8 to 64
    **{0xD0 + power: 1 + 2**power for power in range(4)},  # int 8 to 64
    **{0xD4 + power: 2 + 2**power for power in range(5)},  # fixext 1 to 16
}
"""How many bytes a value of these types takes."""
_SIZED = {0xC4: (1, 0), 0xC5: (2, 0), 0xC6: (4, 0)} | {
    **{0xC7: (1, 1), 0xC8: (2, 1), 0xC9: (4, 1)},
    **{0xD9: (1, 0), 0xDA: (2, 0), 0xDB: (4, 0)},
}
"""bin, ext and str: how many bytes their size takes, and how many more come before the data."""
_HOLDING = {0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2)}
"""array and map: how many bytes their count takes, and how many values each element is."""


def cut_array(data: bytes) -> list[bytes]:
    """The elements of the one array that `data` is. Raises ValueError when it is not one whole array."""
    if not data or not (0x90 <= data[0] <= 0x9F or data[0] in (0xDC, 0xDD)):
        raise ValueError("not an array")
    at, count = _step(data, 0)
    elements = []
    for _ in range(count):
        start, open_values = at, 1
        while open_values:
            at, held = _step(data, at)
            open_values += held - 1
        elements.append(data[start:at])
    if at != len(data):
        raise ValueError("trailing bytes")
    return elements


def _step(data: bytes, at: int) -> tuple[int, int]:
    """Pass the value at `at`, or the head of one that holds others: where the next begins, and how many it holds."""
    if at >= len(data):
        raise ValueError("truncated")
    head, held = data[at], 0
    if head <= 0x7F or head >= 0xE0:
        end = at + 1
    elif head <= 0x8F:
        end, held = at + 1, 2 * (head & 0x0F)
    elif head <= 0x9F:
        end, held = at + 1, head & 0x0F
    elif head <= 0xBF:
        end = at + 1 + (head & 0x1F)
    elif head in _FIXED:
        end = at + _FIXED[head]
    elif head in _SIZED:
        width, more = _SIZED[head]
        end = at + 1 + width + more + int.from_bytes(data[at + 1 : at + 1 + width], "big")
    elif head in _HOLDING:
        width, values = _HOLDING[head]
        end, held = at + 1 + width, values * int.from_bytes(data[at + 1 : at + 1 + width], "big")
    else:
        raise ValueError(f"invalid type {head:#x}")
    if end > len(data):
        raise ValueError("truncated")
    return end, held
