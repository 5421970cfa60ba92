"""Recordings: the messages of a demo as they were sent, byte for byte.

A file begins with `MAGIC`; then, for each message, its length as four bytes (big-endian) and its MessagePack bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from runlake.cli.failure import CommandFailed
from runlake.emitter import Emitter
from runlake.ids import Uuid7Source
from runlake.messages import Message
from runlake.wire import MAX_MESSAGE_BYTES

MAGIC = b"RunLake recording 1\n"
_LENGTH_BYTES = 4


def check_writable(path: Path) -> None:
    """Make the file, before agents start that would all fail at it. Raises CommandFailed."""
    try:
        path.open("ab").close()
    except OSError as error:
        raise CommandFailed(f"{path} cannot be written: {error.strerror}. Choose another file for --record.") from None


class RecordingEmitter(Emitter):
    """An emitter that also writes each message to a file, the very bytes that it sends. For one thread."""

    def __init__(self, path: str, endpoint: str) -> None:
        self._recording = Path(path).open("wb")  # noqa: SIM115 (closed in close)
        self._recording.write(MAGIC)
        super().__init__(endpoint)

    def _start_empty(self) -> Uuid7Source:
        new_id = super()._start_empty()
        encode = self._encode

        def encode_and_record(message: Message) -> bytes:
            encoded = encode(message)
            self._recording.write(_framed(encoded))
            return encoded

        self._encode = encode_and_record
        return new_id

    def close(self, timeout: float = 2.0) -> bool:
        """Close the emitter, and the file."""
        delivered = super().close(timeout)
        self._recording.close()
        return delivered


def _framed(encoded: bytes) -> bytes:
    return len(encoded).to_bytes(_LENGTH_BYTES, "big") + encoded


def join_recordings(parts: Sequence[Path], whole: Path) -> int:
    """Make one recording of several, and remove those. Returns how many messages it holds."""
    count = 0
    with whole.open("wb") as out:
        out.write(MAGIC)
        for part in parts:
            messages = read_recording(part)
            count += len(messages)
            for message in messages:
                out.write(_framed(message))
    for part in parts:
        part.unlink()
    return count


def read_recording(path: Path) -> list[bytes]:
    """The messages of a recording, encoded. Raises CommandFailed for a file that is none, or is cut off."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CommandFailed(f"{path} cannot be read: {error.strerror}.") from None
    if not content.startswith(MAGIC):
        raise CommandFailed(f"{path} is no recording of `runlake demo --record`.")
    messages: list[bytes] = []
    at = len(MAGIC)
    while at < len(content):
        length = int.from_bytes(content[at : at + _LENGTH_BYTES], "big")
        at += _LENGTH_BYTES
        if length > MAX_MESSAGE_BYTES or at + length > len(content):
            raise CommandFailed(f"{path} is damaged, or cut off, after {len(messages):,} messages.")
        messages.append(content[at : at + length])
        at += length
    return messages
