"""Views: what a reader sees. All that a view answers is true for one commit.

A CacheView trusts the cache's index, a MasterView the master's trees. A VerifiedView is a
MasterView that also compares the cache with them, and repairs it before it answers.
"""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

from api.cache.cache import CachedHead, Snapshot
from api.cache.database import CacheUnavailable
from api.documents import Collection, Project, project_keys
from api.documents.listing import Indexed, Listing, Page, Window, matches, page_of
from api.gateway.provenance import FallbackReason, Provenance, Source, Verification
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
    async def texts(self, items: Iterable[Indexed]) -> Mapping[str, str]:
        """The Markdown of these documents by path. Unreadable ones are left out."""

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

    async def texts(self, items: Iterable[Indexed]) -> Mapping[str, str]:
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


class CacheView(View):
    """The cache at one moment. If it fails midway, the master answers for the same commit."""

    def __init__(
        self,
        snapshot: Snapshot,
        head: CachedHead,
        content: Content,
        pin: Callable[[CachedHead], Awaitable[MasterView]],
        keep: Callable[[Mapping[str, tuple[str, str]]], None],
        *,
        stale: bool,
    ) -> None:
        self._snapshot = snapshot
        self._head = head
        self._content = content
        self._pin = pin
        self._keep = keep
        self._stale = stale
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

    async def texts(self, items: Iterable[Indexed]) -> Mapping[str, str]:
        readable = [item for item in items if not item.unreadable]
        return await self._either(lambda s: self._texts(s, readable), lambda m: m.texts(readable))

    async def projects(self) -> Sequence[Indexed]:
        return await self._either(
            lambda s: s.everything(Collection.PROJECTS), lambda m: m.projects()
        )

    async def _texts(self, snapshot: Snapshot, items: Sequence[Indexed]) -> Mapping[str, str]:
        hot = await snapshot.documents(
            [item.document.path for item in items if item.hot], bodies=True
        )
        texts = {path: item.markdown for path, item in hot.items() if item.markdown is not None}
        cold = [_listed(item) for item in items if item.document.path not in texts]
        if cold:
            fetched = await self._content.read(cold, snapshot.bodies)
            read = {path: i.markdown for path, i in fetched.items() if i.markdown is not None}
            texts |= read
            revisions = {file.path: file.oid for file in cold}
            self._keep({path: (revisions[path], text) for path, text in read.items()})
        return texts

    async def _either(
        self,
        ask_cache: Callable[[Snapshot], Awaitable[T]],
        ask_master: Callable[[MasterView], Awaitable[T]],
    ) -> T:
        if self._instead is None:
            with suppress(CacheUnavailable):
                return await ask_cache(self._snapshot)
            self._instead = await self._pin(self._head)
        return await ask_master(self._instead)


def _listed(item: Indexed) -> Listed:
    return Listed(item.document.path, item.document.revision, item.document.bytes)
