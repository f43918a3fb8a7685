"""What a reader of the cache sees: its index at one version, and the master where that fails."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

from api.cache.cache import Cache
from api.cache.database import CacheUnavailable
from api.cache.rows import Columns
from api.cache.snapshot import CachedHead, CacheMoved, Glance, Known
from api.documents import Collection
from api.documents.listing import Indexed, Listing, Page, Window
from api.gateway.provenance import FallbackReason, Provenance, Source
from api.gateway.views import MasterView, View, listed_of
from api.master.errors import MasterError
from api.sync.reconcile import Reconciler
from api.sync.walk import Listed

T = TypeVar("T")


class Repeat(Exception):
    """The cache moved on between two questions of an operation, which changed nothing so far.

    Carried out once more, it gets all its answers from one state of the cache.
    """


class Reading:
    """The cache as one operation reads it: at one version of its head.

    Nothing is held between two questions: many who wait for GitHub keep nobody from the cache.
    `repeats`: whoever runs the operation repeats it on Repeat. Else the cache counts as
    unavailable from when it moved on. Raises CacheUnavailable.
    """

    def __init__(self, cache: Cache, *, repeats: bool) -> None:
        self._cache = cache
        self._repeats = repeats
        self.has_moved = False
        self._turn = asyncio.Lock()
        self._known: Known | None = None
        self.has_answered = False
        self._closed = False

    async def head(self) -> CachedHead | None:
        """What the cache is true for: since the first time that there was a head."""
        async with self._turn:
            if self._known is None:
                self._known = await self._cache.look(anew=not self._repeats)
        return self._known.head if self._known else None

    async def renew(self) -> CachedHead | None:
        """The head as it is now, for who cannot do with the one that was known."""
        async with self._turn:
            known = await self._cache.look(anew=True)
            if self.has_answered and known is not self._known:
                raise self._moved()
            self._known = known
        return known.head if known else None

    async def ask(self, question: Callable[[Glance], Awaitable[T]]) -> T:
        known = self._known
        if self._closed or known is None:
            raise CacheUnavailable("The operation is over.")
        try:
            answer = await question(Glance(self._cache.database, known))
        except CacheMoved:
            self._cache.forget(known)
            raise self._moved() from None
        self.has_answered = True
        return answer

    def _moved(self) -> Exception:
        self.has_moved = self._repeats
        return Repeat() if self._repeats else CacheUnavailable("The cache has moved on.")

    def close(self) -> None:
        """What is asked from now on is refused."""
        self._closed = True


class CacheView(View):
    """The cache at one commit. If it fails midway, the master answers for the same commit.

    If it fails before it has answered anything, the master answers for its head.
    """

    def __init__(
        self,
        reading: Reading,
        head: CachedHead,
        reconciler: Reconciler,
        *,
        pin: Callable[[CachedHead], Awaitable[MasterView]],
        fall_back: Callable[[], Awaitable[MasterView]],
        keep: Callable[[Mapping[str, tuple[str, str]]], None],
        stale: bool,
    ) -> None:
        self._reading = reading
        self.head = head
        self._content = reconciler.content
        self._layout = reconciler.layout
        self._pin = pin
        self._fall_back = fall_back
        self._keep = keep
        self._stale = stale
        self._turn = asyncio.Lock()
        self._is_left = False  # for the master's head, which may be another commit
        self._instead: MasterView | None = None

    @property
    def provenance(self) -> Provenance:
        if self._instead and self._instead.head.commit != self.head.commit:
            return self._instead.provenance
        if self._instead:
            return replace(self._instead.provenance, as_of=self.head.seen_at, stale=self._stale)
        return Provenance(
            source=Source.CACHE,
            commit=self.head.commit,
            as_of=self.head.seen_at,
            stale=self._stale,
            fallback=FallbackReason.MASTER_UNAVAILABLE if self._stale else None,
        )

    @property
    def is_current(self) -> bool:
        """Whether all answers so far are those of a cache that was fresh."""
        return not self._stale and self._instead is None

    async def documents(self, paths: Iterable[str], columns: Columns) -> Mapping[str, Indexed]:
        wanted = list(paths)
        return await self._either(
            lambda g: g.documents(wanted, columns, self._collections_of(wanted)),
            lambda m: m.documents(wanted),
        )

    async def pages(
        self, asked: Sequence[tuple[Listing, Window]], columns: Columns
    ) -> Sequence[Page]:
        return await self._either(lambda g: g.pages(asked, columns), lambda m: m.pages(asked))

    async def counts(self, listings: Sequence[Listing]) -> Sequence[int]:
        return await self._either(lambda s: s.counts(listings), lambda m: m.counts(listings))

    async def texts(self, items: Iterable[Indexed]) -> Mapping[str, str | MasterError]:
        if self._is_left and self._instead:
            return await self._instead.texts(items)
        readable = [item for item in items if not item.unreadable]
        texts: dict[str, str | MasterError] = {
            item.document.path: item.markdown for item in readable if item.markdown is not None
        }
        offered: Mapping[str, str] = {}
        missing = [item for item in readable if item.markdown is None]
        try:
            if paths := [item.document.path for item in missing if item.hot]:
                collections = self._collections_of(paths)
                hot = await self._reading.ask(
                    lambda g: g.documents(paths, Columns(bodies=True, metadata=False), collections)
                )
                texts |= {p: i.markdown for p, i in hot.items() if i.markdown is not None}
            cold = [listed_of(item) for item in missing if item.document.path not in texts]
            if cold:
                offered = await self._reading.ask(lambda g: g.bodies([file.oid for file in cold]))
        except CacheUnavailable:
            cold = [listed_of(item) for item in missing if item.document.path not in texts]
        if cold:
            texts |= await self._cold_texts(cold, offered)
        return texts

    async def projects(self) -> Sequence[Indexed]:
        return await self._either(lambda g: g.projects(), lambda m: m.projects())

    def _collections_of(self, paths: Iterable[str]) -> list[Collection]:
        """Where these documents are, if they are ours."""
        found = dict.fromkeys(map(self._layout.collection_of, paths))
        return [collection for collection in found if collection]

    async def _cold_texts(
        self, cold: Sequence[Listed], offered: Mapping[str, str]
    ) -> Mapping[str, str | MasterError]:
        """By oid, which the master needs no index for: what fails is the content itself."""

        async def cached(_: Iterable[str]) -> Mapping[str, str]:
            return offered

        try:
            items = await self._content.read(cold, cached)
        except MasterError as error:
            return {file.path: error for file in cold}
        read = {path: item.markdown for path, item in items.items() if item.markdown is not None}
        revisions = {file.path: file.oid for file in cold}
        self._keep({path: (revisions[path], text) for path, text in read.items()})
        return read

    async def _either(
        self,
        ask_cache: Callable[[Glance], Awaitable[T]],
        ask_master: Callable[[MasterView], Awaitable[T]],
    ) -> T:
        if self._instead is None:
            with suppress(CacheUnavailable):
                answer = await self._reading.ask(ask_cache)
                if not self._is_left:  # or another question was given up meanwhile
                    return answer
        async with self._turn:
            if self._instead is None:
                self._instead = await self._leave()
        return await ask_master(self._instead)

    async def _leave(self) -> MasterView:
        """What answers from now on. What was answered so far must stay true, if anything was."""
        if self._reading.has_answered:
            return await self._pin(self.head)
        self._is_left = True
        try:
            return await self._fall_back()
        except BaseException:
            self._is_left = False
            raise
