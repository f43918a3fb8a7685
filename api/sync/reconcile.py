"""Bringing the cache's index and bodies to the master's head. GitHub always wins."""

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from api.cache.cache import Cache
from api.cache.changing import IndexChange, Turn
from api.cache.rows import Upsert, is_hot
from api.cache.snapshot import CachedHead
from api.documents import Collection, Layout
from api.documents.listing import Indexed
from api.master.errors import Unreachable
from api.master.master import Head, Master
from api.sync.content import Content, steps
from api.sync.walk import Listed, Walked, listed, walk

LAG = timedelta(seconds=60)  # how long an older head may be a lagging replica's answer

Progress = Callable[[int, int], None]  # documents done, documents in all


class Outcome(StrEnum):
    UNCHANGED = "unchanged"  # the cache was at the master's head
    APPLIED = "applied"
    SUPERSEDED = "superseded"  # the cache moved meanwhile; nothing was done
    LAGGING = "lagging"  # GitHub named an older head than is known; nothing was done
    BUSY = "busy"  # another reconcile is under way; nothing was done


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncReport:
    """What a reconcile did. `points` of GitHub's hourly quota, `bytes` received from there."""

    outcome: Outcome
    commit: str
    requests: int = 0
    points: int = 0
    bytes: int = 0
    added: int = 0
    changed: int = 0
    removed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """What has to be done to the index: a change, and documents to be read for it.

    `ages`: when they changed; the others did so at `changed_at`. `added`: how many are new.
    """

    change: IndexChange
    files: Sequence[Listed]
    changed_at: datetime
    ages: Mapping[str, datetime]
    added: int = 0


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

        All reads are pinned to one commit, and what they found takes its place in one transaction,
        if the cache is still at the head it was compared with. If we die before that, nothing
        happened, and what was read so far is not read again; after it, everything did.

        Raises MasterError, and the cache is as it was; or CacheUnavailable, when it may also have
        been brought to the head and we were not told.
        """
        with self.master.github.metered() as meter:
            head = head or await self.master.head()
            report = await self._run(head, progress)
            return replace(report, requests=meter.requests, points=meter.points, bytes=meter.bytes)

    async def _run(self, head: Head, progress: Progress) -> SyncReport:
        if await self.cache.seen(CachedHead(head.commit, head.seen_at), lag=LAG):
            return SyncReport(outcome=Outcome.UNCHANGED, commit=head.commit)
        async with self.cache.turn_to_reconcile() as turn:
            if turn is None:
                return SyncReport(outcome=Outcome.BUSY, commit=head.commit)
            known, directories = await self._known()
            if known and known.commit == head.commit and not known.is_outparsed:
                # Either another reconcile was faster, or the master is known to have moved on.
                is_settled = await self.cache.seen(CachedHead(head.commit, head.seen_at), lag=LAG)
                outcome = Outcome.UNCHANGED if is_settled else Outcome.LAGGING
                return SyncReport(outcome=outcome, commit=head.commit)
            forward = await self._follows(head, known) if known else True
            if forward is None:
                return SyncReport(outcome=Outcome.LAGGING, commit=head.commit)
            walked = await walk(self.master, head, self.layout, directories)
            task = await self._task(head, known, walked, forward=forward)
            if not await self._apply(turn, task, known.commit if known else None, progress):
                return SyncReport(outcome=Outcome.SUPERSEDED, commit=head.commit)
            return SyncReport(
                outcome=Outcome.APPLIED,
                commit=head.commit,
                added=task.added,
                changed=len(task.files) - task.added,
                removed=len(task.change.removals),
            )

    async def _task(
        self, head: Head, known: CachedHead | None, walked: Walked, *, forward: bool
    ) -> _Task:
        before = await self._files_in(walked) if known else {}
        files = [
            file for file in walked.files.values() if before.get(file.path) != (file.oid, file.mode)
        ]
        ages = await self._ages(head, walked) if known is None else {}
        removals = [path for path in before if path not in walked.files]
        if known and known.is_outparsed:
            ages = await self._outparsed(files, {file.path for file in files}.union(removals))
        change = IndexChange(
            head=CachedHead(head.commit, head.seen_at),
            directories=walked.directories,
            others=walked.others,
            removals=removals,
            anew=known is None,
            forward=forward,
            is_reparsed=True,
        )
        return _Task(
            change=change,
            files=files,
            changed_at=head.committed_at,
            ages=ages,
            added=sum(f.path in walked.files and f.path not in before for f in files),
        )

    async def repair(
        self,
        head: Head,
        damaged: Mapping[str, Listed | None],
        directories: Mapping[str, str | None] | None = None,
        others: Mapping[str, bytes] | None = None,
        ages: Mapping[str, datetime] | None = None,
        *,
        progress: Progress = lambda done, total: None,
    ) -> bool:
        """Put what the master names at these paths in place of what the index holds there.

        `directories`, `others`: what the cache should know of trees otherwise than it does, if
        anything. `ages`: when documents changed, where that is known. Raises MasterError and
        CacheUnavailable, as `run`. False, and nothing done, if the cache is not at `head`, or
        another reconcile is under way.
        """
        async with self.cache.turn_to_reconcile() as turn:
            if turn is None:
                return False
            change = IndexChange(
                head=CachedHead(head.commit, head.seen_at),
                directories=directories or {},
                others=others or {},
                removals=list(damaged),
            )
            files = [file for file in damaged.values() if file]
            task = _Task(change=change, files=files, changed_at=head.committed_at, ages=ages or {})
            return await self._apply(turn, task, head.commit, progress)

    async def _apply(
        self, turn: Turn, task: _Task, expected: str | None, progress: Progress
    ) -> bool:
        """Read what is wanted, a step at a time. All steps but the last are staged."""
        total, last = len(task.files), list[Upsert]()
        cut = await self._steps(turn, task.files)
        done = total - sum(map(len, cut))
        progress(done, total)
        for step in cut:
            if last:
                await turn.stage(last)
            items = await self.content.read(step, self.cached_bodies)
            last = [
                self.upsert(
                    items[file.path], task.ages.get(file.path, task.changed_at), mode=file.mode
                )
                for file in step
            ]
            done += len(step)
            progress(done, total)
        return await turn.apply(replace(task.change, upserts=last), expected=expected)

    async def _steps(self, turn: Turn, files: Sequence[Listed]) -> list[Sequence[Listed]]:
        """Cut into steps that fit into memory, without what an earlier turn has staged."""
        cut = list(steps(files))
        if len(cut) > 1:
            wanted = {(self._collection_of(f), f.path): (f.oid, f.mode) for f in files}
            staged = await turn.staged()
            usable = {place for place, found in staged.items() if wanted.get(place) == found}
            await turn.keep_staged(usable)
            paths = {path for _, path in usable}
            cut = list(steps(file for file in files if file.path not in paths))
        return cut

    def _collection_of(self, file: Listed) -> Collection:
        collection = self.layout.collection_of(file.path)
        assert collection is not None  # noqa: S101  # or it were not listed
        return collection

    async def _known(self) -> tuple[CachedHead | None, Mapping[str, str]]:
        async with self.cache.snapshot() as snapshot:
            return snapshot.head, await snapshot.directories() if snapshot.head else {}

    async def _follows(self, head: Head, known: CachedHead) -> bool | None:
        """Whether the history of `head` contains the known head. None: ask GitHub again later.

        An older head may be the answer of a replica that lags behind. After a while it is believed
        all the same: then the branch was set back to it.
        """
        if head.commit == known.commit:
            return True
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

    async def _files_in(self, walked: Walked) -> Mapping[str, tuple[str, int]]:
        """What the index holds in the directories that were walked or are gone."""
        async with self.cache.snapshot() as snapshot:
            return await snapshot.files(walked.directories)

    async def _outparsed(
        self, files: list[Listed], otherwise: Container[str]
    ) -> Mapping[str, datetime]:
        """Add the documents that an older parser read and whose body is here, but for some.

        They keep the time at which they changed, which is returned.
        """
        ages: dict[str, datetime] = {}
        async with self.cache.snapshot() as snapshot:
            for collection in Collection:
                async for page in snapshot.stored(collection, outparsed=self.cache.parser):
                    for row in page:
                        file = listed(row)
                        is_ours = self.layout.collection_of(file.path) is collection
                        # What is damaged is for the health check to find.
                        if row.is_sealed and is_ours and file.path not in otherwise:
                            files.append(file)
                            ages[file.path] = row.changed_at
        return ages

    async def _ages(self, head: Head, walked: Walked) -> Mapping[str, datetime]:
        """When documents came to be as they are at `head`: those that are old.

        A first build cannot ask for the history of every path. It compares with the tree at the
        edge of the retention: what was the same then is old.
        """
        edge = await self.master.commit_before(head, datetime.now(UTC) - self.retention)
        if edge is None:
            return {}
        then = (await walk(self.master, edge, self.layout, {})).files
        return {
            path: edge.committed_at
            for path, file in walked.files.items()
            if path in then and then[path].oid == file.oid
        }

    def upsert(self, item: Indexed, changed_at: datetime, *, mode: int | None = None) -> Upsert:
        """The row that a document gets: with its body if that is to be hot."""
        hot = is_hot(item.document, changed_at, datetime.now(UTC) - self.retention)
        kept = item if hot else replace(item, markdown=None)
        return Upsert(item=kept, changed_at=changed_at, mode=mode)

    async def cached_bodies(self, oids: Iterable[str]) -> Mapping[str, str]:
        async with self.cache.snapshot() as snapshot:
            return await snapshot.bodies(oids)
