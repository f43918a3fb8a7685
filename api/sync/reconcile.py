"""Bringing the cache's index and bodies to the master's head. GitHub always wins."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from api.cache.cache import Cache, CachedHead, IndexChange, Upsert
from api.cache.rows import is_hot
from api.documents import Layout
from api.documents.listing import Indexed
from api.master.errors import Unreachable
from api.master.master import Head, Master
from api.sync.content import Content, steps
from api.sync.walk import Listed, Walked, walk

LAG = timedelta(seconds=60)  # how long an older head may be a lagging replica's answer

Progress = Callable[[int, int], None]  # documents done, documents in all


class Outcome(StrEnum):
    UNCHANGED = "unchanged"  # the cache was at the master's head
    APPLIED = "applied"
    SUPERSEDED = "superseded"  # the cache moved meanwhile; nothing was done
    LAGGING = "lagging"  # GitHub named an older head than is known; nothing was done


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncReport:
    outcome: Outcome
    commit: str
    requests: int  # to GitHub
    added: int = 0
    changed: int = 0
    removed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciler:
    """What a reconcile needs, once for a process. `retention`: how long bodies stay hot."""

    master: Master
    cache: Cache
    content: Content
    layout: Layout
    retention: timedelta

    async def run(
        self, head: Head | None = None, *, progress: Progress = lambda done, total: None
    ) -> SyncReport:
        """Reconcile once, with the master's head now or with one just seen.

        All reads are pinned to one commit, and what they found is applied in one transaction, if
        the cache is still at the head it was compared with. If we die before that, nothing
        happened; after it, everything did.

        Raises MasterError, and the cache is as it was; or CacheUnavailable, when it may also have
        been brought to the head and we were not told.
        """
        sent = self.master.github.requests
        known, directories = await self._known()
        head = head or await self.master.head()

        def report(outcome: Outcome, **counts: int) -> SyncReport:
            requests = self.master.github.requests - sent
            return SyncReport(outcome=outcome, commit=head.commit, requests=requests, **counts)

        cached = CachedHead(head.commit, head.seen_at)
        if known and known.commit == head.commit:
            if known.outdated_at and abs(head.seen_at - known.outdated_at) < LAG:
                return report(Outcome.LAGGING)  # it is known that the master has moved on
            await self.cache.seen(cached)
            return report(Outcome.UNCHANGED)
        forward = await self._follows(head, known) if known else True
        if forward is None:
            return report(Outcome.LAGGING)

        walked = await walk(self.master, head, self.layout, directories)
        revisions = await self._revisions(walked) if known else {}
        upserts = await self._read(
            [f for f in walked.files.values() if revisions.get(f.path) != f.oid],
            await self._ages(head, anew=known is None),
            progress,
        )
        removals = [path for path in revisions if path not in walked.files]
        change = IndexChange(
            head=cached,
            directories=walked.directories,
            upserts=upserts,
            removals=removals,
            anew=known is None,
            forward=forward,
        )
        if not await self.cache.apply(change, expected=known.commit if known else None):
            return report(Outcome.SUPERSEDED)
        added = sum(upsert.item.document.path not in revisions for upsert in upserts)
        return report(
            Outcome.APPLIED, added=added, changed=len(upserts) - added, removed=len(removals)
        )

    async def repair(
        self,
        head: Head,
        damaged: Mapping[str, Listed | None],
        directories: Mapping[str, str | None] | None = None,
    ) -> bool:
        """Put what the master names at these paths in place of what the index holds there.

        `directories`: trees that the cache should know otherwise than it does, if any.
        False, and nothing done, when the cache is not at `head`.
        """
        files = [file for file in damaged.values() if file]
        items = await self.content.read(files)
        change = IndexChange(
            head=CachedHead(head.commit, head.seen_at),
            directories=directories or {},
            upserts=[self.upsert(item, head.committed_at) for item in items.values()],
            removals=list(damaged),
        )
        return await self.cache.apply(change, expected=head.commit)

    async def _known(self) -> tuple[CachedHead | None, Mapping[str, str]]:
        async with self.cache.snapshot() as snapshot:
            return snapshot.head, await snapshot.directories() if snapshot.head else {}

    async def _follows(self, head: Head, known: CachedHead) -> bool | None:
        """Whether the history of `head` contains the known head. None: ask GitHub again later.

        An older head may be the answer of a replica that lags behind. After a while it is believed
        all the same: then the branch was set back to it.
        """
        async with self.cache.snapshot() as snapshot:
            is_older = await snapshot.applied_at(head.commit) is not None
            reached = await snapshot.applied_at(known.commit)
        lately = reached is not None and datetime.now(UTC) - reached < LAG
        if not is_older:
            try:
                newest = await self.master.contains(known.commit)
            except Unreachable:  # also when the known head stays ahead of the branch
                if lately:
                    raise
                return False
            if newest is None or newest.commit != known.commit:
                return newest is not None
        return None if lately else False

    async def _revisions(self, walked: Walked) -> dict[str, str]:
        """What the index holds in the directories that were walked or are gone."""
        async with self.cache.snapshot() as snapshot:
            return await snapshot.revisions(walked.directories)

    async def _ages(self, head: Head, *, anew: bool) -> Callable[[Listed], datetime]:
        """Tells when a document came to be as it is at `head`: at the latest, if not exactly.

        A first build cannot ask for the history of every path. It compares with the tree at the
        edge of the retention: what was the same then is old.
        """
        if not anew:
            return lambda file: head.committed_at
        edge = await self.master.commit_before(head, datetime.now(UTC) - self.retention)
        if edge is None:
            return lambda file: head.committed_at
        then = (await walk(self.master, edge, self.layout, {})).files

        def age(file: Listed) -> datetime:
            same = file.path in then and then[file.path].oid == file.oid
            return edge.committed_at if same else head.committed_at

        return age

    async def _read(
        self,
        files: Sequence[Listed],
        age: Callable[[Listed], datetime],
        progress: Progress,
    ) -> list[Upsert]:
        upserts: list[Upsert] = []
        for step in steps(files):
            progress(len(upserts), len(files))
            items = await self.content.read(step, self.cached_bodies)
            upserts += [self.upsert(items[file.path], age(file)) for file in step]
        progress(len(files), len(files))
        return upserts

    def upsert(self, item: Indexed, changed_at: datetime) -> Upsert:
        """The row that a document gets: with its body if that is to be hot."""
        hot = is_hot(item.document, changed_at, datetime.now(UTC) - self.retention)
        return Upsert(item if hot else replace(item, markdown=None), changed_at)

    async def cached_bodies(self, oids: Iterable[str]) -> Mapping[str, str]:
        async with self.cache.snapshot() as snapshot:
            return await snapshot.bodies(oids) if snapshot.head else {}
