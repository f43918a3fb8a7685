"""Views: what a reader sees. All that a view answers is true for one commit.

A CacheView trusts the cache's index, a MasterView the master's trees. A VerifiedView is a
MasterView that also compares the cache with them, and repairs it before it answers.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from typing import TypeVar

from api.cache.cache import Cache, CachedHead, Snapshot
from api.cache.database import CacheUnavailable
from api.documents import Collection, Project, project_keys
from api.documents.listing import Indexed, Listing, Page, Window, matches, page_of
from api.gateway.provenance import FallbackReason, Provenance, Source, Verification
from api.master.errors import MasterError
from api.master.master import Head
from api.master.trees import TreeEntry
from api.sync.content import Content
from api.sync.drift import judge
from api.sync.reconcile import Outcome, Reconciler
from api.sync.walk import Listed, walk

T = TypeVar("T")

_TRIES = 3  # at bringing the cache to the commit that it is compared at


class View(ABC):
    """One commit, as a reader sees it. Raises MasterError where the master is needed and fails."""

    @property
    @abstractmethod
    def provenance(self) -> Provenance: ...

    @abstractmethod
    async def documents(self, paths: Iterable[str]) -> Mapping[str, Indexed]:
        """The documents at these paths. Absent ones are left out."""

    @abstractmethod
    async def pages(self, asked: Sequence[tuple[Listing, Window]]) -> Sequence[Page]:
        """A page of each list."""

    @abstractmethod
    async def counts(self, listings: Sequence[Listing]) -> Sequence[int]:
        """The true total of each list, whatever its pages."""

    @abstractmethod
    async def texts(self, items: Iterable[Indexed]) -> Mapping[str, str | MasterError]:
        """The Markdown of these documents by path. Unreadable ones are left out.

        An error stands for those alone that needed the master, where it failed.
        """

    @abstractmethod
    async def projects(self) -> Sequence[Indexed]:
        """All projects, ordered by path."""

    async def project_paths(self) -> Mapping[str, str]:
        """Which project a written key means: key -> path. The first by path owns a key."""
        paths: dict[str, str] = {}
        for item in await self.projects():
            if isinstance(item.document, Project):
                for key in project_keys(item.document):
                    paths.setdefault(key, item.document.path)
        return paths


class MasterView(View):
    """The master at one commit. Works without the cache; uses it where a hash proves it right."""

    def __init__(
        self, head: Head, reconciler: Reconciler, *, fallback: FallbackReason | None = None
    ) -> None:
        self.head = head
        self._master = reconciler.master
        self._content = reconciler.content
        self._layout = reconciler.layout
        self._cache = reconciler.cache
        self._fallback = fallback
        self._files: Mapping[str, Listed] | None = None
        self._known: dict[str, Listed | None] = {}  # looked up one by one

    @property
    def provenance(self) -> Provenance:
        return Provenance(
            source=Source.MASTER,
            commit=self.head.commit,
            as_of=self.head.seen_at,
            fallback=self._fallback,
        )

    def tell(self, path: str, entry: TreeEntry | None) -> None:
        """Say what lies at a path at this view's commit, where the caller has just read it."""
        is_file = entry is not None and entry.is_file
        self._known[path] = Listed(path, entry.oid, entry.size) if entry and is_file else None

    async def documents(self, paths: Iterable[str]) -> Mapping[str, Indexed]:
        listed = {path: file for path in paths if (file := await self.listed(path)) is not None}
        rows = await self._rows_at(listed)
        known = {
            path: row
            for path, file in listed.items()
            if (row := rows.get(path)) and not judge(self._content, self._layout, row, file)
        }
        rest = await self._summaries([f for f in listed.values() if f.path not in known])
        return {**known, **rest}

    async def pages(self, asked: Sequence[tuple[Listing, Window]]) -> Sequence[Page]:
        index = {c: await self._index(c) for c in {listing.collection for listing, _ in asked}}
        return [page_of(listing, window, index[listing.collection]) for listing, window in asked]

    async def counts(self, listings: Sequence[Listing]) -> Sequence[int]:
        index = {c: await self._index(c) for c in {listing.collection for listing in listings}}
        return [
            sum(matches(listing.where, item.document) for item in index[listing.collection])
            for listing in listings
        ]

    async def texts(self, items: Iterable[Indexed]) -> Mapping[str, str | MasterError]:
        read = await self._content.read(
            [_listed(item) for item in items if not item.unreadable], self.cached_bodies
        )
        return {path: item.markdown for path, item in read.items() if item.markdown is not None}

    async def projects(self) -> Sequence[Indexed]:
        index = await self._index(Collection.PROJECTS)
        return sorted(index, key=lambda item: item.document.path)

    async def listed(self, path: str) -> Listed | None:
        """What the master names at a path, if it is a document."""
        if path not in self._known:
            if self._files is not None or self._layout.collection_of(path) is None:
                return (self._files or {}).get(path)
            entry = await self._master.entry_at(self.head.tree, path)
            self.tell(path, entry)
        return self._known[path]

    async def files(self, collection: Collection) -> list[Listed]:
        if self._files is None:
            self._files = (await walk(self._master, self.head, self._layout, {})).files
        return [
            file
            for file in self._files.values()
            if self._layout.collection_of(file.path) is collection
        ]

    async def _index(self, collection: Collection) -> Sequence[Indexed]:
        files = await self.files(collection)
        rows = await self._rows_of(collection)
        known = [
            row
            for file in files
            if (row := rows.get(file.path)) and not judge(self._content, self._layout, row, file)
        ]
        paths = {item.document.path for item in known}
        rest = await self._summaries([file for file in files if file.path not in paths])
        return [*known, *rest.values()]

    async def _rows_at(self, paths: Iterable[str]) -> Mapping[str, Indexed]:
        """What the cache says of these paths, with bodies. The caller judges it."""
        wanted = list(paths)
        try:
            async with self._cache.snapshot() as snapshot:
                return await snapshot.documents(wanted, bodies=True) if snapshot.head else {}
        except CacheUnavailable:
            return {}

    async def _rows_of(self, collection: Collection) -> Mapping[str, Indexed]:
        """What the cache says of a collection, without bodies. The caller judges it."""
        try:
            async with self._cache.snapshot() as snapshot:
                rows = await snapshot.everything(collection) if snapshot.head else []
        except CacheUnavailable:
            return {}
        return {item.document.path: item for item in rows}

    async def _summaries(self, files: Sequence[Listed]) -> Mapping[str, Indexed]:
        items = await self._content.summaries(files, self.cached_bodies)
        return {file.path: items[file.path] for file in files}

    async def cached_bodies(self, oids: Iterable[str]) -> Mapping[str, str]:
        try:
            async with self._cache.snapshot() as snapshot:
                return await snapshot.bodies(oids)
        except CacheUnavailable:
            return {}


class VerifiedView(MasterView):
    """A MasterView that compares the cache with the master wherever it looks, and repairs it."""

    def __init__(self, head: Head, reconciler: Reconciler) -> None:
        super().__init__(head, reconciler)
        self._reconciler = reconciler
        self._verification = Verification.MATCHED

    @property
    def provenance(self) -> Provenance:
        return replace(super().provenance, verification=self._verification)

    async def pages(self, asked: Sequence[tuple[Listing, Window]]) -> Sequence[Page]:
        pages = await super().pages(asked)
        proven = await self.documents({i.document.path for page in pages for i in page.items})
        return [replace(p, items=[proven[i.document.path] for i in p.items]) for p in pages]

    async def _rows_at(self, paths: Iterable[str]) -> Mapping[str, Indexed]:
        wanted = list(paths)
        files = {path: await self.listed(path) for path in wanted}
        return await self._verified(lambda s: s.documents(wanted, bodies=True), files)

    async def _rows_of(self, collection: Collection) -> Mapping[str, Indexed]:
        async def read(snapshot: Snapshot) -> Mapping[str, Indexed]:
            return {i.document.path: i for i in await snapshot.everything(collection)}

        files = {file.path: file for file in await self.files(collection)}
        return await self._verified(read, files)

    async def _verified(
        self,
        read: Callable[[Snapshot], Awaitable[Mapping[str, Indexed]]],
        files: Mapping[str, Listed | None],
    ) -> Mapping[str, Indexed]:
        """Rows that agree with the master's files, after a repair where they did not."""
        try:
            for _ in range(_TRIES):
                async with self._cache.snapshot() as snapshot:
                    rows = await read(snapshot) if snapshot.head else {}
                    head = snapshot.head
                damaged = {
                    path: files.get(path)
                    for path in files.keys() | rows.keys()
                    if judge(self._content, self._layout, rows.get(path), files.get(path))
                }
                if not damaged:
                    return rows
                if head and head.commit == self.head.commit:
                    done = await self._reconciler.repair(self.head, damaged)
                else:
                    done = (await self._reconciler.run(self.head)).outcome is Outcome.APPLIED
                if done:
                    self._verification = Verification.REPAIRED
        except CacheUnavailable:
            pass
        # Without a cache at this commit there is nothing to compare with.
        self._verification = Verification.CACHE_UNAVAILABLE
        return {}


class Reading:
    """The cache as one operation reads it: over one connection, and not longer than it must.

    The connection goes back to the pool while GitHub is waited for: many who wait must not keep
    the rest from the cache. The next question takes one again. Raises CacheUnavailable.
    """

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._stack = AsyncExitStack()
        self._turn = asyncio.Lock()
        self._snapshot: Snapshot | None = None
        self._pinned: CachedHead | None = None
        self._away = 0
        self._closed = False

    async def head(self) -> CachedHead | None:
        """What the cache is true for: now, or since it was pinned."""
        return await self.ask(_head_of)

    def pin(self, head: CachedHead) -> None:
        """Answer for this commit from now on. When the cache moves on, it counts as unavailable."""
        self._pinned = head

    async def ask(self, question: Callable[[Snapshot], Awaitable[T]]) -> T:
        async with self._turn:
            try:
                answer = await question(await self._opened())
            except CacheUnavailable:
                await self._release()
                raise
            if self._away:
                await self._release()
            return answer

    @asynccontextmanager
    async def away(self) -> AsyncIterator[None]:
        """For the time that GitHub is waited for."""
        self._away += 1
        try:
            async with self._turn:
                await self._release()
            yield
        finally:
            self._away -= 1

    async def close(self) -> None:
        """Give the connection back. What is asked from now on is refused."""
        self._closed = True
        async with self._turn:
            await self._release()

    async def _opened(self) -> Snapshot:
        if self._closed:
            raise CacheUnavailable("The operation is over.")
        if self._snapshot is None:
            self._snapshot = await self._stack.enter_async_context(self._cache.snapshot())
        if self._pinned and _commit_of(self._snapshot.head) != self._pinned.commit:
            raise CacheUnavailable("The cache has moved on.")
        return self._snapshot

    async def _release(self) -> None:
        self._snapshot = None
        with suppress(CacheUnavailable):  # a lost connection is no loss now
            await self._stack.aclose()


class CacheView(View):
    """The cache at one commit. If it fails midway, the master answers for the same commit."""

    def __init__(
        self,
        reading: Reading,
        head: CachedHead,
        content: Content,
        pin: Callable[[CachedHead], Awaitable[MasterView]],
        keep: Callable[[Mapping[str, tuple[str, str]]], None],
        *,
        stale: bool,
    ) -> None:
        self._reading = reading
        self._head = head
        self._content = content
        self._pin = pin
        self._keep = keep
        self._stale = stale
        self._turn = asyncio.Lock()
        self._instead: MasterView | None = None

    @property
    def provenance(self) -> Provenance:
        if self._instead:
            return replace(self._instead.provenance, as_of=self._head.seen_at, stale=self._stale)
        return Provenance(
            source=Source.CACHE,
            commit=self._head.commit,
            as_of=self._head.seen_at,
            stale=self._stale,
            fallback=FallbackReason.MASTER_UNAVAILABLE if self._stale else None,
        )

    async def documents(self, paths: Iterable[str]) -> Mapping[str, Indexed]:
        wanted = list(paths)
        return await self._either(lambda s: s.documents(wanted), lambda m: m.documents(wanted))

    async def pages(self, asked: Sequence[tuple[Listing, Window]]) -> Sequence[Page]:
        return await self._either(lambda s: s.pages(asked), lambda m: m.pages(asked))

    async def counts(self, listings: Sequence[Listing]) -> Sequence[int]:
        return await self._either(lambda s: s.counts(listings), lambda m: m.counts(listings))

    async def texts(self, items: Iterable[Indexed]) -> Mapping[str, str | MasterError]:
        readable = [item for item in items if not item.unreadable]
        texts: dict[str, str | MasterError] = {}
        offered: Mapping[str, str] = {}
        try:
            hot = await self._reading.ask(
                lambda s: s.documents([i.document.path for i in readable if i.hot], bodies=True)
            )
            texts |= {p: i.markdown for p, i in hot.items() if i.markdown is not None}
            cold = [_listed(item) for item in readable if item.document.path not in texts]
            if cold:
                offered = await self._reading.ask(lambda s: s.bodies([file.oid for file in cold]))
        except CacheUnavailable:
            cold = [_listed(item) for item in readable if item.document.path not in texts]
        if cold:
            texts |= await self._cold_texts(cold, offered)
        return texts

    async def projects(self) -> Sequence[Indexed]:
        return await self._either(
            lambda s: s.everything(Collection.PROJECTS), lambda m: m.projects()
        )

    async def _cold_texts(
        self, cold: Sequence[Listed], offered: Mapping[str, str]
    ) -> Mapping[str, str | MasterError]:
        """By oid, which the master needs no index for: what fails is the content itself."""

        async def cached(_: Iterable[str]) -> Mapping[str, str]:
            return offered

        try:
            async with self._reading.away():
                items = await self._content.read(cold, cached)
        except MasterError as error:
            return {file.path: error for file in cold}
        read = {path: item.markdown for path, item in items.items() if item.markdown is not None}
        revisions = {file.path: file.oid for file in cold}
        self._keep({path: (revisions[path], text) for path, text in read.items()})
        return read

    async def _either(
        self,
        ask_cache: Callable[[Snapshot], Awaitable[T]],
        ask_master: Callable[[MasterView], Awaitable[T]],
    ) -> T:
        if self._instead is None:
            with suppress(CacheUnavailable):
                return await self._reading.ask(ask_cache)
        async with self._turn:
            if self._instead is None:
                self._instead = await self._pin(self._head)
        return await ask_master(self._instead)


def _listed(item: Indexed) -> Listed:
    return Listed(item.document.path, item.document.revision, item.document.bytes)


async def _head_of(snapshot: Snapshot) -> CachedHead | None:
    return snapshot.head


def _commit_of(head: CachedHead | None) -> str | None:
    return head.commit if head else None
