"""The routes of trees, histories and commits."""

from __future__ import annotations

from runlake_query import commits, history, trees
from runlake_query.lineage import Lineage
from runlake_query.lineageschemas import CommitRuns, History, RunCommits, Tree
from runlake_query.routes import Route, answer


def lineage_routes(lineage: Lineage) -> list[Route]:
    """The routes, for the route table."""
    return [
        Route(
            method="GET", path="/api/v1/runs/{run_id}/tree", handler=lineage.tree, parameters=trees.PARAMETERS,
            tagged=True, problems=(404, 503),
            summary=f"A run and all its descendants with the totals of each subtree; up to {trees.MAX_RUNS:,} runs and"
            f" {trees.MAX_DEPTH} levels.",
            answers={200: answer("Parents before their children", Tree)},
        ),
        Route(
            method="GET", path="/api/v1/runs/{run_id}/history", handler=lineage.history, parameters=history.PARAMETERS,
            tagged=True, problems=(404, 503),
            summary="Every accepted change of a run: who said what when.",
            answers={200: answer("One page, in log order", History)},
        ),
        Route(
            method="GET", path="/api/v1/runs/{run_id}/commits", handler=lineage.commits,
            parameters=commits.OF_RUN_PARAMETERS, tagged=True, problems=(404, 503),
            summary="Every commit that was ever said of a run, whichever came last.",
            answers={200: answer("The earliest first", RunCommits)},
        ),
        Route(
            method="GET", path="/api/v1/commits/{sha}/runs", handler=lineage.commit, parameters=commits.PARAMETERS,
            tagged=True, problems=(404, 503),
            summary="The runs that a commit was associated with, whatever commit came after, and all below them.",
            answers={200: answer("The runs as trees", CommitRuns)},
        ),
    ]  # fmt: skip
