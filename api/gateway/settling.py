"""What follows a commit: the cache is brought to it, and the callers are told what they wrote."""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from api.cache.changing import UNKNOWN, IndexChange
from api.cache.database import CacheUnavailable
from api.cache.snapshot import CachedHead
from api.documents import directories_above
from api.documents.listing import Indexed
from api.gateway.changes import CacheOutcome, Delete, Rename, Written
from api.gateway.gateway import Gateway
from api.gateway.planning import Addition, File, Files, Plan, Write
from api.gateway.provenance import Provenance, Source
from api.master.committing import Commit
from api.master.fetching import Wanted
from api.master.ledger import Landed
from api.master.master import Head

log = logging.getLogger(__name__)

_CACHE_SECONDS = 2.0  # for the cache to take a commit over; the caller waits for it


@dataclass(frozen=True, slots=True)
class Landing:
    """The commit that an answer is true for. `seen_at`: then or later it was the head.

    `parsed`: documents of it that were read already, by path.
    """

    commit: str
    committed_at: datetime
    seen_at: datetime
    cache: CacheOutcome
    parsed: Mapping[str, Indexed] = field(default_factory=dict)

    def written(self, items: Sequence[Indexed | None]) -> Written:
        return Written(
            items=items,
            commit=self.commit,
            committed_at=self.committed_at,
            cache=self.cache,
            provenance=Provenance(source=Source.MASTER, commit=self.commit, as_of=self.seen_at),
        )

    def items(self, gateway: Gateway, files: Files, paths: Iterable[str]) -> dict[str, Indexed]:
        """The documents at these paths."""
        items = {
            path: item
            for path in paths
            if (file := files.get(path))
            and (item := self.parsed.get(path) or _item(gateway, path, file))
        }
        if self.cache is CacheOutcome.DEFERRED:
            return items
        rows = {path: gateway.reconciler.upsert(i, self.committed_at) for path, i in items.items()}
        return {p: replace(i, hot=rows[p].item.markdown is not None) for p, i in items.items()}


async def take_over(gateway: Gateway, draft: Plan, done: Commit, sent_at: datetime) -> Landing:
    """Bring the cache from the commit's parent to the commit, if it is at the parent.

    If that fails, or takes too long, a sync will bring it, and no reader takes it for fresh.
    """
    if done.tree:
        gateway.master.remember(done.parent, Head(done.oid, done.tree, done.committed_at, sent_at))
    added = {path: file for path in draft.additions if (file := draft.files[path])}
    items = {p: item for p, file in added.items() if (item := _item(gateway, p, file))}
    change = IndexChange(
        head=CachedHead(done.oid, sent_at),
        directories=_trees(draft, done) | {"": done.tree},
        upserts=[gateway.reconciler.upsert(item, done.committed_at) for item in items.values()],
        removals=draft.deletions,
    )
    other = [
        path for path, file in added.items() if done.oids.get(path, file.revision) != file.revision
    ]
    outcome = CacheOutcome.DEFERRED
    if other:
        log.error("GitHub has other content at %s than was sent", other)
    elif await _applied(gateway, change, done.parent):
        outcome = CacheOutcome.UPDATED
    if outcome is CacheOutcome.DEFERRED:
        await gateway.outdate()
    return Landing(done.oid, done.committed_at, sent_at, outcome, items)


async def unchanged(gateway: Gateway, head: Head) -> Landing:
    """No commit was needed. What was read at the head is what was asked for."""
    outcome = await _outcome(gateway, head.commit)
    if outcome is CacheOutcome.DEFERRED:
        await gateway.outdate()
    return Landing(head.commit, head.committed_at, head.seen_at, outcome)


async def repeated(gateway: Gateway, write: Write, found: Landed, *, is_cached: bool) -> Written:
    """What was answered the first time that this write was asked for. Raises MasterError.

    `is_cached`: the history that it was found in is that of the cache's head.
    """
    done = found.commit
    chosen = iter(found.record.chosen)
    paths: list[str | None] = []
    for step in write.steps:
        match step:
            case Delete():
                paths.append(None)
            case Rename():
                paths.append(step.to)
            case Addition(chosen=True):
                paths.append(next(chosen, step.path))
            case _:
                paths.append(step.path)
    entries = await gateway.master.files_at(done.oid, [path for path in paths if path])
    there = {path: entry for path, entry in entries.items() if entry and entry.is_file}
    blobs = await gateway.master.blobs(Wanted(entry.oid, entry.size) for entry in there.values())
    documents = {p: gateway.content.parse(p, e.oid, blobs[e.oid]) for p, e in there.items()}
    items = [documents.get(path or "") for path in paths]
    outcome = CacheOutcome.UPDATED if is_cached else await _outcome(gateway, done.oid)
    return Landing(done.oid, done.committed_at, done.committed_at, outcome).written(items)


def directories_of(draft: Plan) -> list[str]:
    """The directories above what changed, without the root."""
    return sorted(directories_above([*draft.additions, *draft.deletions]) - {""})


def _trees(draft: Plan, done: Commit) -> dict[str, str | None]:
    """The trees of the directories above what changed, None where they are gone."""
    directories = directories_of(draft)
    filled = directories_above(draft.additions)
    is_told = any(path in done.oids for path in directories)  # not if the answer was lost
    return {
        path: done.oids.get(path, None if is_told and path not in filled else UNKNOWN)
        for path in directories
    }


async def _applied(gateway: Gateway, change: IndexChange, parent: str) -> bool:
    try:
        async with asyncio.timeout(_CACHE_SECONDS):
            return await gateway.cache.apply(change, expected=parent)
    except (CacheUnavailable, TimeoutError):
        log.warning("the commit %s is saved, but not in the cache yet", change.head.commit)
        return False


async def _outcome(gateway: Gateway, commit: str) -> CacheOutcome:
    """Whether the cache has come to this commit."""
    try:
        async with gateway.cache.snapshot() as snapshot:
            is_there = await snapshot.applied_at(commit) is not None
    except CacheUnavailable:
        is_there = False
    return CacheOutcome.UPDATED if is_there else CacheOutcome.DEFERRED


def _item(gateway: Gateway, path: str, file: File) -> Indexed | None:
    if file.content is None:
        return None
    return gateway.content.parse(path, file.revision, file.content)
