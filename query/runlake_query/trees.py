"""Trees of runs: a run with all its descendants, and what they add up to.

Parents are named by run_id, in text that agents wrote: a parent may be missing, name itself, or be a descendant;
several runs may have its name (`trees.sql` says which of them it is). A walk goes down level by level, in two queries
each, and is bounded in depth and in number.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from runlake.sqlfile import load_queries
from runlake_query.jsontext import quoted
from runlake_query.parameters import Parameters
from runlake_query.reader import Snapshot
from runlake_query.runs import RUN, find_run

_SQL = load_queries("runlake_query", "trees.sql")
MAX_RUNS = 20_000
"""How many runs a tree is made of at most."""
MAX_DEPTH = 50
"""How many levels below its roots a tree has at most."""
PARAMETERS = ("depth", "limit", "after")


class Node(NamedTuple):
    """One run of a tree. Times are microseconds since 1970."""

    event_id: str
    run_id: str
    parent_run_id: str | None
    start_us: int
    end_us: int | None
    status: str
    duration_ms: int | None
    input_tokens: int | None
    output_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    cost_usd: Decimal | None
    events: int


class Totals:
    """What a subtree adds up to: each run's own numbers, once. What a run does not say counts as nothing."""

    _SUMS = (
        "duration_ms", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "cost_usd", "events",
    )  # fmt: skip

    def __init__(self, node: Node) -> None:
        self.runs = 1
        self.running = int(node.status == "running")
        self.failures = int(node.status in ("failure", "timeout"))
        self.sums: dict[str, int | Decimal] = {name: getattr(node, name) or 0 for name in self._SUMS}
        self.first_us = node.start_us
        self.last_us = node.end_us if node.end_us is not None else node.start_us

    def add(self, other: Totals) -> None:
        """Take in a child's subtree."""
        self.runs += other.runs
        self.running += other.running
        self.failures += other.failures
        for name, value in other.sums.items():
            self.sums[name] += value
        self.first_us = min(self.first_us, other.first_us)
        self.last_us = max(self.last_us, other.last_us)

    def json(self) -> str:
        """As JSON. `elapsed_ms` is from the first start to the last end that is known."""
        pairs = {"runs": self.runs, "running": self.running, "failures": self.failures, **self.sums}
        pairs["elapsed_ms"] = max(0, self.last_us - self.first_us) // 1000
        return "{" + ",".join(f'"{name}":{_number(value)}' for name, value in pairs.items()) + "}"


def _number(value: int | Decimal) -> str:
    return format(value, "f") if isinstance(value, Decimal) else str(value)


class Tree:
    """Runs with their parents, found by `walk`. One that has no parent here is a root."""

    def __init__(self, roots: Iterable[Node]) -> None:
        self.nodes: dict[str, Node] = {node.event_id: node for node in roots}
        self.parent: dict[str, str | None] = dict.fromkeys(self.nodes)
        self.cycles = 0
        """How many children were left out because they are above their parent already."""
        self.complete = True
        """False when there are more runs, or more levels, than a tree may have."""

    def take(self, parent: str, child: Node) -> bool:
        """Put a child below its parent; whether it was not here before."""
        new = child.event_id not in self.nodes
        if new:
            self.nodes[child.event_id] = child
        elif child.event_id in self.ancestors(parent):
            self.cycles += 1
            return False
        self.parent[child.event_id] = parent
        return new

    def ancestors(self, event_id: str) -> list[str]:
        """A run and those above it, upwards."""
        found: list[str] = []
        at: str | None = event_id
        while at is not None:
            found.append(at)
            at = self.parent[at]
        return found

    def children(self) -> dict[str | None, list[str]]:
        """The children of each run in the order of their starts; those of None are the roots."""
        found: dict[str | None, list[str]] = {}
        for event_id in sorted(self.nodes, key=lambda key: (self.nodes[key].start_us, key)):
            found.setdefault(self.parent[event_id], []).append(event_id)
        return found


def walk(snapshot: Snapshot, roots: Sequence[Node]) -> Tree:
    """The trees below these runs."""
    tree = Tree(roots)
    level = list(roots)
    for _ in range(MAX_DEPTH):
        taking = _taking(snapshot, level)
        if not taking["parents"]:
            return tree
        room = MAX_RUNS - len(tree.nodes) + 1
        rows = snapshot.rows(_SQL["children"], {**taking, "limit": room + len(roots)})
        level = []
        for parent, *values in rows:
            child = Node(*values)
            if child.event_id not in tree.nodes and len(tree.nodes) >= MAX_RUNS:
                tree.complete = False
                return tree
            if tree.take(parent, child):
                level.append(child)
        if not level:
            return tree
    tree.complete = not snapshot.rows(_SQL["children"], {**_taking(snapshot, level), "limit": 1})
    return tree


def _taking(snapshot: Snapshot, level: Sequence[Node]) -> dict[str, list[Any]]:
    """From when until when each of these runs takes the children of its run_id."""
    wanted = {node.event_id for node in level}
    named: dict[str, list[tuple[str, int]]] = {}
    for name, event_id, start_us in _namesakes(snapshot, {node.run_id for node in level}):
        named.setdefault(name, []).append((event_id, start_us))
    found: dict[str, list[Any]] = {"parents": [], "names": [], "since": [], "until": []}
    for name, runs in named.items():
        # Of runs that start together the last one takes the children; the first of all takes those before it, too.
        last = [run for run, after in zip(runs, [*runs[1:], None], strict=True) if after is None or run[1] != after[1]]
        for place, (event_id, start_us) in enumerate(last):
            if event_id in wanted:
                found["parents"].append(event_id)
                found["names"].append(name)
                found["since"].append(start_us if place else None)
                found["until"].append(last[place + 1][1] if place + 1 < len(last) else None)
    return found


def _namesakes(snapshot: Snapshot, names: Iterable[str]) -> list[tuple[Any, ...]]:
    return snapshot.rows(_SQL["namesakes"], {"names": sorted(names)})


def nodes(snapshot: Snapshot, event_ids: Sequence[str]) -> list[Node]:
    """The runs of these event_ids that there are."""
    query = _SQL["nodes"].format(runs=_SQL["by_event_ids"])
    return [Node(*row) for row in snapshot.rows(query, {"ids": list(event_ids)})] if event_ids else []


def parents_of(snapshot: Snapshot, children: Sequence[Node]) -> dict[str, str]:
    """The event_id of the parent of each run; nothing for those that name none, themselves, or one that is missing."""
    names = {child.parent_run_id for child in children if child.parent_run_id is not None}
    named: dict[str, list[tuple[str, int]]] = {}
    for name, event_id, start_us in _namesakes(snapshot, names) if names else []:
        named.setdefault(name, []).append((event_id, start_us))
    found: dict[str, str] = {}
    for child in children:
        runs = named.get(child.parent_run_id or "", [])
        if runs and child.parent_run_id != child.run_id:
            before = [event_id for event_id, start_us in runs if start_us <= child.start_us]
            first = [event_id for event_id, start_us in runs if start_us == runs[0][1]]
            found[child.event_id] = before[-1] if before else first[-1]
    return found


def listing(snapshot: Snapshot, tree: Tree, depth: int, limit: int, marked: frozenset[str] | None = None) -> str:
    """A tree as members of a JSON object: its runs, parents before their children, and what was left out.

    Listed are the runs down to `depth`, at most `limit` of them, those nearest to the roots first; totals are of all.
    `marked` says of each run whether it is one of those.
    """
    children = tree.children()
    order: list[tuple[str, int]] = []
    stack = [(event_id, 0) for event_id in reversed(children.get(None, []))]
    while stack:
        event_id, level = stack.pop()
        order.append((event_id, level))
        stack += [(child, level + 1) for child in reversed(children.get(event_id, []))]
    totals = {event_id: Totals(tree.nodes[event_id]) for event_id, _ in order}
    for event_id, _ in reversed(order):
        parent = tree.parent[event_id]
        if parent is not None:
            totals[parent].add(totals[event_id])
    nearest = sorted((item for item in order if item[1] <= depth), key=lambda item: item[1])[:limit]
    chosen = {event_id for event_id, _ in nearest}
    bodies = _bodies(snapshot, [tree.nodes[event_id] for event_id in chosen])
    items = []
    for event_id, level in order:
        if event_id in chosen:
            parent = tree.parent[event_id]
            mark = "" if marked is None else f'"associated":{_bool(event_id in marked)},'
            items.append(
                f'{{"depth":{level},"parent_event_id":{quoted(parent)},{mark}'
                f'"children":{len(children.get(event_id, []))},"totals":{totals[event_id].json()},'
                f'"run":{bodies[event_id]}}}'
            )
    return (
        f'"runs":[{",".join(items)}],"total":{len(order)},"truncated":{_bool(len(items) < len(order))},'
        f'"complete":{_bool(tree.complete)},"cycles":{tree.cycles},"limit":{limit},"depth":{depth}'
    )


def show_tree(snapshot: Snapshot, run_id: str, parameters: Parameters) -> bytes:
    """The body of `GET /api/v1/runs/{run_id}/tree`. Raises NotFound, InvalidParameter."""
    depth, limit = depth_and_limit(parameters)
    (root,) = nodes(snapshot, [find_run(snapshot, run_id)])
    above = parents_of(snapshot, [root]).get(root.event_id)
    tree = walk(snapshot, [root])
    return f'{{"parent_event_id":{quoted(above)},{listing(snapshot, tree, depth, limit)}}}'.encode()


def depth_and_limit(parameters: Parameters) -> tuple[int, int]:
    """How much of a tree to list. Raises InvalidParameter."""
    depth = parameters.integer("depth", MAX_DEPTH, 0, MAX_DEPTH)
    return MAX_DEPTH if depth is None else depth, parameters.limit()


def _bodies(snapshot: Snapshot, chosen: Sequence[Node]) -> dict[str, str]:
    if not chosen:
        return {}
    starts = [node.start_us for node in chosen]
    values = {"first": min(starts), "last": max(starts), "ids": [node.event_id for node in chosen]}
    return dict(snapshot.rows(_SQL["bodies"].format(run=RUN), values))


def _bool(value: bool) -> str:
    return "true" if value else "false"
