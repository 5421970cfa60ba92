"""The price list in force, and how many runs are still to be brought to it."""

from __future__ import annotations

from runlake.sqlfile import load_queries
from runlake_query.jsontext import array, quoted
from runlake_query.reader import Snapshot

_SQL = load_queries("runlake_query", "pricing.sql")


def show_prices(snapshot: Snapshot) -> bytes:
    """The body of `GET /api/v1/prices`."""
    about = snapshot.rows(_SQL["about"])
    version, source, written_at = about[0] if about else (0, None, None)
    (left,) = snapshot.one(_SQL["count_to_reprice"])
    prices = array(row[0] for row in snapshot.rows(_SQL["prices"]))
    return (
        f'{{"version":{version},"source":{quoted(source)},"written_at":{quoted(written_at)},"runs_to_reprice":{left},'
        f'"prices":{prices}}}'
    ).encode()
