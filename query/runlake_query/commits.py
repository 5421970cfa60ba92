"""From a commit to the runs that it came of: who associated it, the runs that launched those, and all below them.

And from a run to every commit that was said of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from runlake.sqlfile import load_queries
from runlake_query.jsontext import array, encode
from runlake_query.parameters import Parameters
from runlake_query.problems import InvalidParameter, NotFound
from runlake_query.reader import Snapshot
from runlake_query.runs import find_run
from runlake_query.trees import MAX_DEPTH, Node, depth_and_limit, listing, nodes, parents_of, walk

_SQL = load_queries("runlake_query", "commits.sql")
_SHA = re.compile(r"[0-9a-zA-Z]{4,40}")
MAX_ASSOCIATIONS = 1_000
PARAMETERS = ("depth", "limit", "after")
OF_RUN_PARAMETERS = ("limit", "after")
_SAID = 7
"""Every hash that was said has so many characters."""
_NAMES = ("run_event_id", "commit_hash", "commit_source", "commit_author", "commit_timestamp", "ts", "position")


def commit_runs(snapshot: Snapshot, sha: str, parameters: Parameters) -> bytes:
    """The body of `GET /api/v1/commits/{sha}/runs`. Raises NotFound, InvalidParameter."""
    depth, limit = depth_and_limit(parameters)
    if _SHA.fullmatch(sha) is None:
        raise InvalidParameter("sha", f"must be 4 to 40 letters and digits, not {sha!r:.60}")
    first = sha.lower()[:_SAID]
    values = {"sha": sha.lower(), "first": first, "beyond": f"{first}~", "limit": MAX_ASSOCIATIONS + 1}
    rows = snapshot.rows(_SQL["associations"].format(where=_SQL["of_commit"]), values)
    if not rows:
        raise NotFound(f"Commit not found: {sha}")
    commit = one_commit(sha, (row[1] for row in rows))
    cut, rows = len(rows) > MAX_ASSOCIATIONS, rows[:MAX_ASSOCIATIONS]
    associated = {node.event_id: node for node in nodes(snapshot, sorted({row[0] for row in rows}))}
    tree = walk(snapshot, list(associated.values()))
    tops = {event_id: tree.ancestors(event_id)[-1] for event_id in associated}
    launched = _launches(snapshot, [tree.nodes[event_id] for event_id in sorted(set(tops.values()))])
    launches = {event_id: launched[top] for event_id, top in tops.items()}
    said = [{**dict(zip(_NAMES, row, strict=True)), "launch_event_id": launches.get(row[0])} for row in rows]
    tree.complete &= not cut
    return (
        f'{{"commit_hash":{encode(commit).decode()},"associations":{array(encode(one).decode() for one in said)},'
        f"{listing(snapshot, tree, depth, limit, frozenset(associated))}}}"
    ).encode()


def run_commits(snapshot: Snapshot, run_id: str, parameters: Parameters) -> bytes:
    """The body of `GET /api/v1/runs/{run_id}/commits`. Raises NotFound, InvalidParameter."""
    limit = parameters.limit()
    event_id = find_run(snapshot, run_id)
    query = _SQL["associations"].format(where=_SQL["of_run"])
    rows = snapshot.rows(query, {"event_id": event_id, "limit": limit + 1})
    said = array(encode(dict(zip(_NAMES, row, strict=True))).decode() for row in rows[:limit])
    truncated = "true" if len(rows) > limit else "false"
    return f'{{"event_id":"{event_id}","associations":{said},"truncated":{truncated},"limit":{limit}}}'.encode()


def one_commit(sha: str, hashes: Iterable[str]) -> str:
    """The longest form of the one commit that all these hashes abbreviate. Raises InvalidParameter for several."""
    longest: list[str] = []
    for found in sorted({text.lower() for text in hashes}, key=len, reverse=True):
        if not any(known.startswith(found) for known in longest):
            longest.append(found)
    if len(longest) > 1:
        some = ", ".join(sorted(longest)[:5])
        raise InvalidParameter(
            "sha", f"{sha!r} is ambiguous: it stands for {some}{', …' if len(longest) > 5 else ''}; give more of it"
        )
    return longest[0]


def _launches(snapshot: Snapshot, tops: Sequence[Node]) -> dict[str, str]:
    """For each of these runs the run at the top above it, as far up as a tree may be deep."""
    path = {node.event_id: [node.event_id] for node in tops}
    level = list(tops)
    for _ in range(MAX_DEPTH):
        above = parents_of(snapshot, level)
        climbing = {start: above[up[-1]] for start, up in path.items() if up[-1] in above and above[up[-1]] not in up}
        for start, parent in climbing.items():
            path[start].append(parent)
        level = nodes(snapshot, sorted(set(climbing.values())))
        if not level:
            break
    return {start: up[-1] for start, up in path.items()}
