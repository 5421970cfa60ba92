"""The addresses that an agent was told: the entry points of one cluster, separated by commas; usually one."""

from __future__ import annotations

_MOST_CHARS = 600
"""What of them a spool's segments have room for."""


def entry_points(told: str) -> tuple[str, ...]:
    """The addresses, each once, in the order in which they were told."""
    return tuple(dict.fromkeys(part for part in (part.strip() for part in told.split(",")) if part))


def bound_to(told: str) -> str:
    """Whose a spool is: one address as it was told, several in an order of their own, as many as there is room for."""
    points = sorted(entry_points(told))
    while len(points) > 1 and len(",".join(points)) > _MOST_CHARS:
        points.pop()
    return ",".join(points)


def same_cluster(told: str, bound: str) -> bool:
    """Whether they have an address in common: then what is bound to the one can be delivered to the other, also when
    an entry point was added, or taken out, in between."""
    return told == bound or not set(entry_points(told)).isdisjoint(entry_points(bound))
