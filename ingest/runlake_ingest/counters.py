"""What a worker has done since it started."""

from __future__ import annotations

from msgspec import Struct


class Counters(Struct):
    """The receiver's alone to write; received = accepted + duplicate + rejected."""

    batches: int = 0
    received: int = 0
    accepted: int = 0
    duplicate: int = 0
    rejected: int = 0
    late: int = 0
    """Messages about which the lake was asked."""
    refused_requests: int = 0
    """Requests that were not of this protocol."""
    lost_acks: int = 0
    """Acks whose producer was gone, or did not take them; it sends the batch again."""
    groups: int = 0
    segments: int = 0
    pauses: int = 0
    """How often the worker stopped reading its sockets."""
    not_mine: int = 0
    """Messages of batches that were not taken, since some were other workers', or were sent by another list."""
    forwarded: int = 0
    """Pushed messages of other workers, handed on to be delivered there."""
    forward_dropped: int = 0
    """Those of them that were dropped, for lack of room or of an answer."""


class Gauges(Struct, frozen=True):
    """How a worker stands now."""

    accepted_seq: int = 0
    durable_seq: int = 0
    flushed_seq: int = 0
    journal_bytes: int = 0
    groups_at_journal: int = 0
    sealed_segments: int = 0
    waiting_batches: int = 0
    window_ids: int = 0
    list_version: int = 0
    members: int = 1
    lease_held: int = 1
