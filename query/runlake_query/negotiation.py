"""How a request chooses the format of its answer: by `?format=`, or by `Accept` (RFC 9110, section 12.5.1)."""

from __future__ import annotations

from aiohttp import web

from runlake_query.answers import JSON
from runlake_query.formats import Format
from runlake_query.problems import InvalidParameter, nearest


def wanted_format(request: web.Request, known: tuple[Format, ...]) -> Format | None:
    """The format that `?format=` names, else the first of `Accept` that is known; None for JSON.

    Raises InvalidParameter.
    """
    name = request.query.get("format")
    if name is not None:
        by_name = {"json": None, **{kind.name: kind for kind in known}}
        if name not in by_name:
            raise InvalidParameter("format", f"{name!r:.60} is not known; {nearest(name, by_name)}")
        return by_name[name]
    by_type = {kind.content_type: kind for kind in known}
    for part in request.headers.get("Accept", "").split(","):
        content_type = part.partition(";")[0].strip().lower()
        if content_type in by_type:
            return by_type[content_type]
        if content_type in (JSON, "*/*"):
            return None
    return None
