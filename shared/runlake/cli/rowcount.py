"""Counts the rows of an export as its bytes come."""

from __future__ import annotations


class RowCount:
    """Of NDJSON, or of CSV with a header (RFC 4180: what is between quotes may have line ends)."""

    def __init__(self, kind: str) -> None:
        self._csv = kind == "csv"
        self._header = self._csv
        self._quoted = False

    def more(self, piece: bytes) -> int:
        """How many rows end in this piece."""
        if not self._csv:
            return piece.count(b"\n")
        rows = 0
        for number, part in enumerate(piece.split(b'"')):
            if number:
                self._quoted = not self._quoted
            if not self._quoted:
                rows += part.count(b"\n")
        if self._header and rows:
            self._header = False
            rows -= 1
        return rows
