"""Views: what a reader sees. All that a view answers is true for one commit.

A MasterView trusts the master's trees. A VerifiedView is a MasterView that also compares the cache
with them, and repairs it before it answers. A CacheView trusts the cache's index: `cache_view.py`.
"""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

from api.cache.database import CacheUnavailable
from api.cache.rows import WITH_BODIES, WITHOUT_BODIES, Columns
from api.cache.snapshot import Snapshot, Untouched
from api.documents import Collection, Project, blob_oid, project_keys
from api.documents.listing import Indexed, Listing, Page, Window, matches, page_of
from api.gateway.provenance import FallbackReason, Provenance, Source, Verification
from api.master.errors import MasterError, Unreachable
from api.master.master import Head
from api.master.trees import TreeEntry
from api.sync.drift import Drift, judge
from api.sync.proven import ProvenIndex
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
    async def documents(self, paths: Iterable[str], columns: Columns) -> Mapping[str, Indexed]:
        """The documents at these paths. Absent ones are left out."""

    @abstractmethod
    async def pages(
        self, asked: Sequence[tuple[Listing, Window]], columns: Columns
    ) -> Sequence[Page]:
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
        self,
        head: Head,
        reconciler: Reconciler,
        index: ProvenIndex,
        *,
        fallback: FallbackReason | None = None,
    ) -> None:
        self.head = head
        self._index = index
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
        self._known[path] = (
            Listed(path, entry.oid, entry.size, entry.mode) if entry and is_file else None
        )

    async def documents(
        self,
        paths: Iterable[str],
        columns: Columns = WITHOUT_BODIES,  # noqa: ARG002
    ) -> Mapping[str, Indexed]:
        wanted = list(paths)
        await self._look_up(wanted)
        listed = {path: file for path in wanted if (file := await self.listed(path)) is not None}
        rows = await self._rows_at(listed)
        known = {
            path: row
            for path, file in listed.items()
            if (row := rows.get(path)) and not judge(self._content, self._layout, row, file)
        }
        rest = await self._summaries([f for f in listed.values() if f.path not in known])
        return {**known, **rest}

    async def pages(
        self, asked: Sequence[tuple[Listing, Window]], columns: Columns = WITHOUT_BODIES
    ) -> Sequence[Page]:
        # One more of each, so that where a page ends is known whatever comes in between.
        wider = [(listing, replace(w, size=w.size + 1)) for listing, w in asked]
        found = await self._ask(
            {listing.collection for listing, _ in asked},
            lambda index, wrong: index.pages(wider if wrong else asked, columns),
        )
        if found is None:
            return await self._pages_of_walk(asked)
        pages, wrong = found
        pages = [replace(page, items=[_with_proven_text(i) for i in page.items]) for page in pages]
        if not wrong:
            return pages
        right = await self._instead_of(wrong)
        return [
            page_of(listing, window, [*page.items, *right[listing.collection]])
            for (listing, window), page in zip(asked, pages, strict=True)
        ]

    async def counts(self, listings: Sequence[Listing]) -> Sequence[int]:
        collections = {listing.collection for listing in listings}
        found = await self._ask(collections, lambda index, _: index.counts(listings))
        if found is None:
            walked = {c: await self._walked(c) for c in collections}
            return [_count(listing, walked[listing.collection]) for listing in listings]
        counts, wrong = found
        right = await self._instead_of(wrong)
        return [
            count + _count(listing, right[listing.collection])
            for listing, count in zip(listings, counts, strict=True)
        ]

    async def texts(self, items: Iterable[Indexed]) -> Mapping[str, str | MasterError]:
        read = await self._content.read(
            [listed_of(item) for item in items if not item.unreadable], self.cached_bodies
        )
        return {path: item.markdown for path, item in read.items() if item.markdown is not None}

    async def projects(self) -> Sequence[Indexed]:
        kind = Collection.PROJECTS
        found = await self._ask({kind}, lambda index, _: index.everything(kind))
        if found is None:
            projects = await self._walked(kind)
        else:
            rows, wrong = found
            right = await self._instead_of(wrong)
            projects = [*(i for i in rows if i.document.path not in wrong), *right[kind]]
        return sorted(projects, key=lambda item: item.document.path)

    async def _ask(
        self,
        collections: Iterable[Collection],
        question: Callable[[Untouched, Mapping[str, Listed | None]], Awaitable[T]],
    ) -> tuple[T, Mapping[str, Listed | None]] | None:
        """What the cache's index answers, and where it is wrong, with what the master has there.

        Lists are without what is there. None where the cache is of no use.
        """
        with suppress(CacheUnavailable):
            return await self._index.ask(self.head, frozenset(collections), question)
        return None

    async def _instead_of(
        self, wrong: Mapping[str, Listed | None]
    ) -> Mapping[Collection, Sequence[Indexed]]:
        """The documents that the master has where the index is wrong."""
        items = (await self._summaries([file for file in wrong.values() if file])).values()
        return {c: [item for item in items if item.collection is c] for c in Collection}

    async def _look_up(self, paths: Sequence[str]) -> None:
        """Learn from the index what lies there, if it is proven: else trees have to be read."""
        unknown = [path for path in paths if path not in self._known and self._files is None]
        if not unknown or not self._index.knows(self.head):
            return
        if found := await self._ask(Collection, lambda index, _: index.listed(unknown)):
            rows, wrong = found
            files = {p: Listed(p, oid, size, mode) for p, (oid, size, mode) in rows.items()}
            self._known |= {p: wrong[p] if p in wrong else files.get(p) for p in unknown}

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

    async def _pages_of_walk(self, asked: Sequence[tuple[Listing, Window]]) -> Sequence[Page]:
        walked = {c: await self._walked(c) for c in {listing.collection for listing, _ in asked}}
        return [page_of(listing, window, walked[listing.collection]) for listing, window in asked]

    async def _walked(self, collection: Collection) -> Sequence[Indexed]:
        """All documents of a collection, from the master's trees: rows are judged one by one."""
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
            async with self._cache.snapshot(hurried=True) as snapshot:
                return await snapshot.documents(wanted, WITH_BODIES) if snapshot.head else {}
        except CacheUnavailable:
            return {}

    async def _rows_of(self, collection: Collection) -> Mapping[str, Indexed]:
        """What the cache says of a collection, without bodies. The caller judges it."""
        try:
            async with self._cache.snapshot(hurried=True) as snapshot:
                rows = await snapshot.everything(collection) if snapshot.head else []
        except CacheUnavailable:
            return {}
        return {item.document.path: item for item in rows}

    async def _summaries(self, files: Sequence[Listed]) -> Mapping[str, Indexed]:
        items = await self._content.summaries(files, self.cached_bodies)
        return {file.path: items[file.path] for file in files}

    async def cached_bodies(self, oids: Iterable[str]) -> Mapping[str, str]:
        try:
            async with self._cache.snapshot(hurried=True) as snapshot:
                return await snapshot.bodies(oids)
        except CacheUnavailable:
            return {}


class VerifiedView(MasterView):
    """A MasterView that compares the cache with the master wherever it looks, and repairs it."""

    def __init__(self, head: Head, reconciler: Reconciler, index: ProvenIndex) -> None:
        super().__init__(head, reconciler, index)
        self._reconciler = reconciler
        self._verification = Verification.MATCHED

    @property
    def provenance(self) -> Provenance:
        return replace(super().provenance, verification=self._verification)

    async def pages(
        self, asked: Sequence[tuple[Listing, Window]], columns: Columns = WITHOUT_BODIES
    ) -> Sequence[Page]:
        collections = {listing.collection for listing, _ in asked}
        agreed = await self._agreed(
            collections, lambda index: index.pages(asked, WITH_BODIES), _items
        )
        if agreed is not None:
            return agreed
        if self._verification is Verification.CACHE_UNAVAILABLE:
            return await super().pages(asked, columns)
        pages = await self._pages_of_walk(asked)
        proven = await self.documents({item.document.path for item in _items(pages)})
        return [replace(p, items=[proven[i.document.path] for i in p.items]) for p in pages]

    async def counts(self, listings: Sequence[Listing]) -> Sequence[int]:
        collections = {listing.collection for listing in listings}
        counts = await self._agreed(collections, lambda index: index.counts(listings))
        return await super().counts(listings) if counts is None else counts

    async def projects(self) -> Sequence[Indexed]:
        kind = Collection.PROJECTS
        projects = await self._agreed({kind}, lambda index: index.everything(kind))
        return await super().projects() if projects is None else projects

    async def _agreed(
        self,
        collections: Iterable[Collection],
        question: Callable[[Untouched], Awaitable[T]],
        items_of: Callable[[T], Iterable[Indexed]] = lambda answer: (),
    ) -> T | None:
        """What the cache's index answers, after a repair where it was not as the master.

        `items_of`: documents in the answer whose bodies are to be proven. None where the cache is
        of no use.
        """

        async def ask(index: Untouched, wrong: Mapping[str, Listed | None]) -> T | None:
            if not wrong:
                return await question(index)
            await index.check()  # it may have been put right meanwhile
            return None

        collections = frozenset(collections)
        for _ in range(_TRIES):
            found = await self._ask(collections, ask)
            if found is None:
                return None
            answer, wrong = found
            damaged = dict(wrong)
            if answer is not None:
                paths = {item.document.path for item in items_of(answer) if self._judge(item)}
                if not paths:
                    return answer
                damaged = {path: await self.listed(path) for path in paths}
            if not await self._mend(damaged):
                break
        self._verification = Verification.CACHE_UNAVAILABLE
        return None

    def _judge(self, item: Indexed) -> Drift | None:
        """What is wrong with a row whose revision and size are proven."""
        return judge(self._content, self._layout, item, listed_of(item))

    async def _rows_at(self, paths: Iterable[str]) -> Mapping[str, Indexed]:
        wanted = list(paths)
        files = {path: await self.listed(path) for path in wanted}
        return await self._verified(lambda s: s.documents(wanted, WITH_BODIES), files)

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
                async with self._cache.snapshot(hurried=True) as snapshot:
                    rows = await read(snapshot) if snapshot.head else {}
                damaged = {
                    path: files.get(path)
                    for path in files.keys() | rows.keys()
                    if judge(self._content, self._layout, rows.get(path), files.get(path))
                }
                if not damaged:
                    return rows
                if not await self._mend(damaged):
                    break
        except CacheUnavailable:
            pass
        # Without a cache at this commit there is nothing to compare with.
        self._verification = Verification.CACHE_UNAVAILABLE
        return {}

    async def _mend(self, damaged: Mapping[str, Listed | None]) -> bool:
        """Bring the cache to this commit, or put these paths right. False: it is not to be had."""
        try:
            async with self._cache.snapshot(hurried=True) as snapshot:
                head = snapshot.head
            if head is None:
                return False  # a first build takes longer than a reader waits
            if head.commit == self.head.commit:
                done = await self._reconciler.repair(self.head, damaged)
            else:
                outcome = (await self._reconciler.run(self.head)).outcome
                if outcome is Outcome.BUSY:
                    return False
                done = outcome is Outcome.APPLIED
        except (CacheUnavailable, Unreachable):
            # Unreachable: where the branch was set back, that is not believed before a minute has
            # passed. If GitHub is silent, whoever needs more of it will be told.
            return False
        if done:
            self._verification = Verification.REPAIRED
        return True


def _items(pages: Iterable[Page]) -> list[Indexed]:
    return [item for page in pages for item in page.items]


def _with_proven_text(item: Indexed) -> Indexed:
    """The item; its text only if the revision proves it."""
    text = item.markdown
    is_proven = text is None or blob_oid(text.encode()) == item.document.revision
    return item if is_proven else replace(item, markdown=None)


def _count(listing: Listing, items: Iterable[Indexed]) -> int:
    return sum(matches(listing.where, item.document) for item in items)


def listed_of(item: Indexed) -> Listed:
    return Listed(item.document.path, item.document.revision, item.document.bytes)
