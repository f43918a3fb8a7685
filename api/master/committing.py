"""Committing to the master: a compare-and-swap whose outcome is found out, never guessed."""

import asyncio
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from api.documents import Json
from api.master import operations
from api.master.answers import commit_failure, landed
from api.master.errors import HeadMoved, HeadUnknown, MasterError, OutcomeUnknown, RateLimited
from api.master.history import Logged, read_page
from api.master.master import Master, read_time
from api.master.messages import WRITE, records
from api.master.transport import AnswerLost

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0  # seconds between looks at the history
_PAGES = 10  # of 100 commits each, to look for a write in


@dataclass(frozen=True, slots=True)
class Change:
    """One commit's worth of change.

    `write_id`: of a write that `body` names in a trailer. It must be unique: by it the commit is
    found again when its answer was lost.
    """

    write_id: str
    headline: str
    body: str
    additions: Mapping[str, bytes]
    deletions: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit that landed on `parent`.

    `tree` is its root tree; `oids` maps paths that were asked for to their oids in it. Either may
    be missing: GitHub can fail to name them after the commit landed.
    """

    oid: str
    parent: str
    committed_at: datetime
    tree: str | None
    oids: Mapping[str, str]


async def commit(
    master: Master, change: Change, *, expected: str, ask: Sequence[str], seconds: float
) -> Commit:
    """Land `change` on `expected` exactly once, and know it.

    After a lost answer the branch's history is searched for the write's trailer: found means it
    landed; the branch moved on without it means that it never will; the branch unmoved means send
    it again, which the swap makes safe. `ask`: paths whose oids in the new commit are wanted.

    Raises HeadMoved, Rejected or another MasterError when nothing was saved, and OutcomeUnknown
    when that could not be found out within `seconds`. Cancelled, it may still land.
    """
    clock = asyncio.get_running_loop().time
    deadline = clock() + seconds
    in_doubt: Exception | None = None
    pause = _FIRST_PAUSE
    try:
        async with asyncio.timeout_at(deadline):
            while True:
                wait = 0.0
                try:
                    # A lost answer takes half of what is left, to leave time for finding out.
                    half = (deadline - clock()) / 2
                    return await _send(master, change, expected=expected, ask=ask, seconds=half)
                except OutcomeUnknown as error:
                    in_doubt = error
                except HeadUnknown:
                    # GitHub had named this head before, so a replica lags. It catches up.
                    patient = pause < _LONGEST_PAUSE and clock() + pause < deadline
                    if in_doubt is None and not patient:
                        raise
                except RateLimited as error:
                    if in_doubt is None:
                        raise
                    wait = min(error.retry_after, (deadline - clock()) / 2)
                except MasterError:
                    # The first answer is to be believed. A later one may speak of a second try
                    # at what the first already did.
                    if in_doubt is None:
                        raise
                if in_doubt and (found := await _find(master, change.write_id, since=expected)):
                    return found
                await asyncio.sleep(max(pause, wait))
                pause = min(2 * pause, _LONGEST_PAUSE)
    except TimeoutError:
        raise OutcomeUnknown(
            f"GitHub did not say in time whether the write {change.write_id} landed. "
            "Look for it before sending it again: its commit carries the trailer "
            f"{WRITE}: {change.write_id}"
        ) from in_doubt


async def _send(
    master: Master, change: Change, *, expected: str, ask: Sequence[str], seconds: float
) -> Commit:
    variables: dict[str, Json] = {f"p{i}": path for i, path in enumerate(ask)}
    variables["input"] = {
        "branch": {"repositoryNameWithOwner": master.repository, "branchName": master.branch},
        "expectedHeadOid": expected,
        "message": {
            "headline": change.headline,
            "body": change.body,
        },
        "fileChanges": {
            "additions": [
                {"path": path, "contents": b64encode(content).decode()}
                for path, content in change.additions.items()
            ],
            "deletions": [{"path": path} for path in change.deletions],
        },
    }
    try:
        answer = await master.github.graphql(
            operations.commit(len(ask)), variables, seconds=seconds
        )
    except AnswerLost as error:
        raise OutcomeUnknown(str(error)) from error
    made = landed(answer)
    if made is None:
        raise commit_failure(answer)
    files = {path: made.get(f"f{i}") for i, path in enumerate(ask)}
    return _commit(
        made, expected, {p: str(f["oid"]) for p, f in files.items() if isinstance(f, dict)}
    )


async def _find(master: Master, write_id: str, *, since: str) -> Commit | None:
    """The commit that carries the write, or None if it is not there yet.

    Raises HeadMoved when the branch moved on from `since` without it: then it can never land.
    """
    newest = after = None
    for _ in range(_PAGES):
        try:
            repository = await master.read(operations.HISTORY, {"ref": master.ref, "after": after})
            nodes, after = read_page(master.target_of(repository))
        except MasterError:
            return None  # not known; the caller looks again until its time is over
        for node in nodes:
            if _is_write(node, write_id, since):
                return Commit(
                    oid=node.oid,
                    parent=since,
                    committed_at=node.committed_at,
                    tree=node.tree,
                    oids={},
                )
        oids = [node.oid for node in nodes]
        newest = newest or next(iter(oids), None)
        if since in oids and since != newest:
            raise HeadMoved("The branch moved on before the commit.")
        if since in oids or after is None:
            break
    # Unmoved; or else `since` is not in sight, and a rewritten or long history tells nothing.
    return None


def _is_write(node: Logged, write_id: str, parent: str) -> bool:
    """Whether a commit is the write itself, and not one that quotes or repeats its message."""
    return node.parent == parent and any(
        record.write_id == write_id for record in records(node.message)
    )


def _commit(node: Mapping[str, Json], parent: str, oids: Mapping[str, str]) -> Commit:
    tree = node.get("tree")
    return Commit(
        oid=str(node["oid"]),
        parent=parent,
        committed_at=read_time(node["committedDate"]),
        tree=str(tree["oid"]) if isinstance(tree, dict) else None,
        oids=oids,
    )
