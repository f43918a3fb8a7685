"""Which writes with an idempotency key the branch's history holds: the record of what was done."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from api.documents import Json
from api.master import operations
from api.master.committing import Commit
from api.master.errors import Missing
from api.master.history import Logged, read_page
from api.master.master import PAUSES, Master
from api.master.messages import Record, records

_TIDYING = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Landed:
    """A write, and the commit that it landed in."""

    record: Record
    commit: Commit


@dataclass(frozen=True, slots=True)
class News:
    """Writes that are new in the history of `head`. `anew`: what was known before is not in it."""

    head: str
    landed: Sequence[Landed]
    anew: bool


@dataclass(slots=True)
class _Walk:
    """A walk back from `newest` that has come as far as `cursor` in the history of `within`."""

    newest: str
    within: str
    cursor: str | None = None
    found: list[Landed] = field(default_factory=list)  # newest first


class Ledger:
    """Finds writes by their keys in the last `days` of a branch.

    What was read is kept, about 1 KB for each keyed write, so that only what is new is asked for.
    Every method raises MasterError and nothing else.
    """

    def __init__(self, master: Master, *, days: float = 8) -> None:
        self._master = master
        self.age = timedelta(days=days)
        self._head: str | None = None  # all of its history is known
        self._landed: dict[str, Landed] = {}
        self._broken_off: _Walk | None = None
        self._tidied_at = datetime.now(UTC)
        self._turn = asyncio.Lock()
        self._new: list[Landed] = []
        self._pages, self._is_anew = 0, False

    def resume(self, head: str, landed: Iterable[Landed]) -> None:
        """Begin with what was known of the history of `head` before."""
        self._head = head
        self._take(landed)
        self._new.clear()

    def known(self) -> tuple[str, list[Landed]] | None:
        """The head whose history is known, and all of these writes in it."""
        return (self._head, list(self._landed.values())) if self._head else None

    def news(self) -> News | None:
        """What has become known since this was asked last, if it is worth being kept."""
        if self._head is None or not (self._new or self._is_anew or self._pages > 1):
            return None
        news = News(self._head, self._new, self._is_anew)
        self._new, self._pages, self._is_anew = [], 0, False
        return news

    async def find(self, keys: Iterable[str], head: str) -> dict[str, Landed]:
        """Those of these keys that are in the history of `head`; the first use of each.

        Raises Missing when GitHub does not know `head` (yet).
        """
        async with self._turn:
            if head != self._head:
                await self._walk(head)
            self._tidy()
            return {key: self._landed[key] for key in keys if key in self._landed}

    def remember(self, commit: Commit, of: Sequence[Record]) -> None:
        """Note a commit of our own."""
        if commit.parent == self._head:
            self._head = commit.oid
            self._take(Landed(record, commit) for record in of)

    async def _walk(self, head: str) -> None:
        """Read back to what is known already, or as far as keys are good for.

        When it is broken off, what it read is not lost: the next one goes on from there.
        """
        walk, earlier = _Walk(head, head), self._broken_off
        edge = datetime.now(UTC) - self.age
        while True:
            if earlier and earlier.newest == walk.within and walk.cursor is None:
                walk.found += earlier.found
                walk.within, walk.cursor = earlier.within, earlier.cursor
                earlier = None
            page, walk.cursor = read_page(await self._page(walk))
            self._pages += 1
            known = next((i for i, node in enumerate(page) if node.oid == self._head), None)
            older = earlier.newest if earlier else None
            joined = next((i for i, node in enumerate(page) if node.oid == older), None)
            for node in page[: known if known is not None else joined]:
                if node.committed_at >= edge:
                    told = records(node.message)
                    walk.found += [Landed(r, _commit(node)) for r in told if r.key]
            if known is not None:
                break
            if joined is not None and older:
                walk.within, walk.cursor = older, None
            elif walk.cursor is None or all(node.committed_at < edge for node in page):
                # Not by GitHub's `since`: it may stop at one commit whose clock was wrong.
                self._landed.clear()  # what was known is not in this history
                self._new, self._is_anew = [], True
                break
            self._broken_off = walk
        self._head, self._broken_off = head, None
        self._take(reversed(walk.found))

    async def _page(self, walk: _Walk) -> Mapping[str, Json]:
        variables: dict[str, Json] = {"oid": walk.within, "after": walk.cursor}
        for pause in (*PAUSES, None):
            commit = (await self._master.read(operations.HISTORY_OF, variables)).get("object")
            if isinstance(commit, dict):
                return commit
            if pause is not None:
                await asyncio.sleep(pause)
        raise Missing(f"GitHub does not have the commit {walk.within} (yet).")

    def _take(self, oldest_first: Iterable[Landed]) -> None:
        for landed in oldest_first:
            if landed.record.key and landed.record.key.key not in self._landed:
                self._landed[landed.record.key.key] = landed
                self._new.append(landed)

    def _tidy(self) -> None:
        now = datetime.now(UTC)
        if now - self._tidied_at > _TIDYING:
            edge = now - self.age
            self._landed = {k: v for k, v in self._landed.items() if v.commit.committed_at > edge}
            self._tidied_at = now


def _commit(node: Logged) -> Commit:
    return Commit(
        oid=node.oid,
        parent=node.parent or "",
        committed_at=node.committed_at,
        tree=node.tree,
        oids={},
    )
