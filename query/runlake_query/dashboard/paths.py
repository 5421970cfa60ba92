"""The paths of the dashboard: which are served, and which are open, as they hold no data and ask for it themselves."""

from __future__ import annotations

VIEWS = (
    "/",
    "/runs",
    "/runs/{run_id:(?s:.+)}",
    "/commits",
    "/commits/{sha}",
    "/producers",
    "/quarantine",
    "/system",
    "/compare",
    "/sql",
)
"""The paths of its views, as aiohttp takes them; the browser decides by them which one is shown."""
ASSETS = "/ui/"
"""Below it are the files that the page loads."""
SESSION = "/session"
"""Where one signs in and out."""

_EXACT = frozenset(path for path in VIEWS if "{" not in path)
_BELOW = (ASSETS, *(path.partition("{")[0] for path in VIEWS if "{" in path))


def is_page(path: str) -> bool:
    """Whether this is a view or a file of the dashboard."""
    return path in _EXACT or path.startswith(_BELOW)
