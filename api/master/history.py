"""A branch's history as GitHub lists it: newest first, in pages of 100 commits."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from api.documents import Json
from api.master.master import read_time


@dataclass(frozen=True, slots=True)
class Logged:
    """A commit in the history. `parent` is its first one, None for the root."""

    oid: str
    parent: str | None
    committed_at: datetime
    tree: str | None
    message: str


def read_page(commit: Mapping[str, Json]) -> tuple[list[Logged], str | None]:
    """A page of a commit's history, and the cursor of the next one if there is any."""
    history = commit.get("history")
    nodes = history.get("nodes") if isinstance(history, dict) else None
    info = history.get("pageInfo") if isinstance(history, dict) else None
    more = isinstance(info, dict) and info.get("hasNextPage")
    return (
        [_logged(node) for node in nodes if isinstance(node, dict)]
        if isinstance(nodes, list)
        else [],
        str(info["endCursor"]) if isinstance(info, dict) and more else None,
    )


def _logged(node: Mapping[str, Json]) -> Logged:
    parents, tree = node.get("parents"), node.get("tree")
    first = parents.get("nodes") if isinstance(parents, dict) else None
    parent = first[0] if isinstance(first, list) and first else None
    return Logged(
        oid=str(node["oid"]),
        parent=str(parent["oid"]) if isinstance(parent, dict) else None,
        committed_at=read_time(node["committedDate"]),
        tree=str(tree["oid"]) if isinstance(tree, dict) else None,
        message=str(node["message"]),
    )
