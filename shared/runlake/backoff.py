"""How long to wait before the next attempt, and for an answer."""

from __future__ import annotations

from random import Random


class Backoff:
    """Delays that double from `first_s` to `longest_s`, each shortened at random by up to half.

    The random part keeps a fleet of producers from coming back to a restarted worker all at once.
    """

    def __init__(self, random: Random, first_s: float = 0.02, longest_s: float = 2.0) -> None:
        self._random = random
        self._first_s = first_s
        self._longest_s = longest_s
        self._next_s = first_s

    def delay_s(self) -> float:
        """The next delay, seconds."""
        longest_s, self._next_s = self._next_s, min(self._next_s * 2, self._longest_s)
        return longest_s * self._random.uniform(0.5, 1.0)

    def reset(self) -> None:
        """Begin anew: the last attempt did well."""
        self._next_s = self._first_s


class Patience:
    """How long to wait for an answer: `first_s`, and twice as long each time that none came, up to `longest_s`.

    Who asks again costs a worker that cannot answer yet: it has to keep the question until it can.
    """

    def __init__(self, first_s: float, longest_s: float = 600.0) -> None:
        self.wait_s = first_s
        self._first_s = first_s
        self._longest_s = max(first_s, longest_s)

    def lengthen(self) -> None:
        """Wait twice as long for the next answer: none came."""
        self.wait_s = min(self.wait_s * 2, self._longest_s)

    def reset(self) -> None:
        """Begin anew: an answer came."""
        self.wait_s = self._first_s
