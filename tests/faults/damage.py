"""Ways in which a file rots. Each damages a file at a random place, and returns which bytes it has changed."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

Damage = Callable[[Path, random.Random], tuple[int, int]]
_MOST_BYTES = 5_000


def flipped_bit(path: Path, dice: random.Random) -> tuple[int, int]:
    content = bytearray(path.read_bytes())
    at = dice.randrange(len(content))
    content[at] ^= 1 << dice.randrange(8)
    path.write_bytes(content)
    return at, at + 1


def zeros(path: Path, dice: random.Random) -> tuple[int, int]:
    """A stretch of zeros, as after a bad sector."""
    content = bytearray(path.read_bytes())
    begin = dice.randrange(len(content))
    end = min(begin + dice.randint(1, _MOST_BYTES), len(content))
    content[begin:end] = bytes(end - begin)
    path.write_bytes(content)
    return begin, end


def cut_off(path: Path, dice: random.Random) -> tuple[int, int]:
    """The end is missing, from the midst of a line on."""
    content = path.read_bytes()
    size = 0
    while content[size - 1 : size] in (b"", b"\n"):
        size = dice.randrange(len(content))
    path.write_bytes(content[:size])
    return size, len(content)


DAMAGES: tuple[Damage, ...] = (flipped_bit, zeros, cut_off)
