"""The heart: reads at a consistency level, writes that go to the master first."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Self

from api.cache.cache import Cache, CachedHead
from api.cache.database import CacheUnavailable
from api.documents import Layout
from api.gateway.errors import BadInput, GatewayError, of_read
from api.gateway.provenance import Consistency, FallbackReason
from api.gateway.views import CacheView, MasterView, Reading, VerifiedView, View
from api.jobs import SYNC
from api.master.errors import MasterError
from api.master.master import Master
from api.sync.content import Content
from api.sync.log import logged
from api.sync.reconcile import Reconciler

log = logging.getLogger(__name__)

_DRAIN_SECONDS = 10.0  # for commits that are on their way when the process is told to stop
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0  # seconds between tries to bring the cache along
KEPT = timedelta(days=1)  # how long a cold body that was read stays in the cache


class Gateway:
    """What the gateway stands on, once for a process."""

    def __init__(
        self,
        reconciler: Reconciler,
        *,
        max_staleness: float,
        ring: Callable[[str], Awaitable[bool]],
    ) -> None:
        self.reconciler = reconciler
        self.master: Master = reconciler.master
        self.cache: Cache = reconciler.cache
        self.content: Content = reconciler.content
        self.layout: Layout = reconciler.layout
        self.max_staleness = max_staleness  # seconds
        self.outdated_at: datetime | None = None
        self._ring = ring
        self._repairing: asyncio.Task[None] | None = None
        self._syncing = asyncio.Lock()
        self._sync_wanted = False
        self._writing: set[asyncio.Task[None]] = set()
        self._tidying: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writing:
            await asyncio.wait(self._writing, timeout=_DRAIN_SECONDS)
        for task in self._tidying:
            task.cancel()
        if self._tidying:
            await asyncio.wait(self._tidying)

    def start(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """Run work that must go on when the request that wanted it, or the server, is gone."""
        return _run(work, self._writing)

    def request_sync(self) -> None:
        """Have the cache brought up to date soon: by the worker, or here if it cannot be rung."""
        self.tidy(self._sync())

    def tidy(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """Run work that the next sync would do as well: the end of the process does not wait."""
        return _run(work, self._tidying)

    async def _sync(self) -> None:
        if await self._ring(SYNC):
            return
        # However many ask, one runs at a time; who asks while it runs may know of a newer commit
        # than it saw, so it runs once more.
        self._sync_wanted = True
        async with self._syncing:
            if not self._sync_wanted:
                return
            self._sync_wanted = False
            try:
                await logged(self.cache, SYNC, self.reconciler.run)
            except (MasterError, CacheUnavailable) as error:
                log.warning("the cache is as it was: %s", error)

    async def outdate(self) -> None:
        """The master has moved on without the cache: say so to all, and have it brought along."""
        self.outdated_at = datetime.now(UTC)
        await self._spread()
        if self._repairing is None or self._repairing.done():
            self._repairing = self.tidy(self._repair())

    def is_outdated(self, head: CachedHead) -> bool:
        """Whether the master has moved on since the cache's head was seen there, or may have.

        While PostgreSQL was away, nobody could tell what was committed meanwhile.
        """
        returned_at = self.cache.database.returned_at
        known = [at for at in (self.outdated_at, head.outdated_at, returned_at) if at]
        return any(head.seen_at < at for at in known)

    async def _spread(self) -> None:
        """Tell the other processes that the cache is behind."""
        if self.outdated_at is None:
            return
        try:
            await self.cache.outdated(self.outdated_at)
        except CacheUnavailable:
            log.info("other processes do not know yet that the cache is behind: it is down")

    async def _repair(self) -> None:
        """Bring the cache along, however long PostgreSQL, GitHub or the worker may be away."""
        pause = _FIRST_PAUSE
        while True:
            await self._sync()
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
            try:
                async with self.cache.snapshot() as snapshot:
                    head = snapshot.head
            except CacheUnavailable:
                continue
            if head is None or not self.is_outdated(head):
                return
            await self._spread()

    def keep(self, bodies: Mapping[str, tuple[str, str]]) -> None:
        """Keep cold bodies that were read, when there is time."""
        self.tidy(self._keep(bodies))

    async def _keep(self, bodies: Mapping[str, tuple[str, str]]) -> None:
        try:
            await self.cache.keep(bodies, until=datetime.now(UTC) + KEPT)
        except CacheUnavailable:
            log.info("%d bodies that were read are not kept: the cache is down", len(bodies))


def _run(
    work: Coroutine[object, object, None], running: set[asyncio.Task[None]]
) -> asyncio.Task[None]:
    task = asyncio.create_task(work)
    running.add(task)
    task.add_done_callback(running.discard)
    task.add_done_callback(_log_failure)
    return task


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        log.error("work in the background failed", exc_info=error)


class Operation:
    """The reads of one GraphQL operation. Fields that ask alike share one view: one snapshot.

    Use as an async context manager. Raises GatewayError.
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        # By `atLeast`: a commit that this operation made may be newer than what it read before.
        self._readings: dict[str | None, Reading] = {}
        self._views: dict[tuple[object, ...], asyncio.Task[View]] = {}
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the operation. Resolvers that were left behind get no connection any more."""
        self._closed = True
        for opening in self._views.values():
            opening.cancel()
        await asyncio.gather(*self._views.values(), return_exceptions=True)
        for reading in self._readings.values():
            await reading.close()

    async def view(
        self,
        consistency: Consistency,
        *,
        at_least: str | None = None,
        max_staleness: float | None = None,
        path: str | None = None,
    ) -> View:
        """A view at this level. `path`: the one document that will be asked for, if it is one.

        Raises GatewayError, the same to all that ask alike: a master that is down is tried once.
        """
        if self._closed:
            raise GatewayError("The operation is over.")
        key = (consistency, at_least, max_staleness)
        if key not in self._views:
            self._views[key] = asyncio.create_task(
                self._open(consistency, at_least, max_staleness, path)
            )
        return await asyncio.shield(self._views[key])

    async def _open(
        self,
        consistency: Consistency,
        at_least: str | None,
        max_staleness: float | None,
        path: str | None,
    ) -> View:
        reading = self._readings.setdefault(at_least, Reading(self._gateway.cache))
        try:
            if consistency is not Consistency.CACHE:
                return await self._open_master(reading, consistency, at_least, path, None)
            return await self._open_cache(reading, at_least, max_staleness, path)
        except MasterError as error:
            raise of_read(error) from error

    async def _open_cache(
        self,
        reading: Reading,
        at_least: str | None,
        max_staleness: float | None,
        path: str | None,
    ) -> View:
        limit = self._gateway.max_staleness if max_staleness is None else max_staleness
        head, reason = await self._look(reading, at_least, limit)
        if reason:
            if reason is not FallbackReason.CACHE_UNAVAILABLE:
                self._gateway.request_sync()
            try:
                return await self._open_master(reading, Consistency.MASTER, at_least, path, reason)
            except MasterError:
                head, reason = await self._look(reading, at_least, limit)  # it took a while
                if head is None:
                    raise
        assert head is not None  # noqa: S101  # or there were a reason
        reading.pin(head)
        return CacheView(
            reading,
            head,
            self._gateway.content,
            self._pin,
            self._gateway.keep,
            stale=reason is not None,
        )

    async def _open_master(
        self,
        reading: Reading,
        consistency: Consistency,
        at_least: str | None,
        path: str | None,
        fallback: FallbackReason | None,
    ) -> View:
        gateway, entry = self._gateway, None
        async with reading.away():
            if at_least:
                contains = await gateway.master.contains(at_least)
                if contains is None:
                    raise BadInput(
                        f"The commit {at_least} of `atLeast` is not in the history of the branch "
                        f"{gateway.master.branch}. Use the commit that a mutation returned."
                    )
                head, path = contains, None
            elif path is None:
                head = await gateway.master.head()
            else:
                contents = [path] if consistency is not Consistency.VERIFIED else []
                head, entries = await gateway.master.head_with([path], contents=contents)
                entry = entries[path]
        if consistency is Consistency.VERIFIED:
            view: MasterView = VerifiedView(head, gateway.reconciler)
        else:
            view = MasterView(head, gateway.reconciler, fallback=fallback)
        if path is not None:
            view.tell(path, entry)
        return view

    async def _pin(self, cached: CachedHead) -> MasterView:
        """The master at the commit that the cache was at: what was answered so far stays true."""
        head = await self._gateway.master.head_at(cached.commit)
        return MasterView(head, self._gateway.reconciler, fallback=FallbackReason.CACHE_UNAVAILABLE)

    async def _look(
        self, reading: Reading, at_least: str | None, limit: float
    ) -> tuple[CachedHead | None, FallbackReason | None]:
        """The cache's head, and why it will not do, if so."""
        try:
            head = await reading.head()
            if head is None:
                return None, FallbackReason.CACHE_EMPTY
            if at_least and not await reading.ask(lambda s: s.applied_at(at_least)):
                return head, FallbackReason.BEHIND_AT_LEAST
        except CacheUnavailable:
            return None, FallbackReason.CACHE_UNAVAILABLE
        is_old = (datetime.now(UTC) - head.seen_at).total_seconds() > limit
        if is_old or self._gateway.is_outdated(head):
            return head, FallbackReason.CACHE_STALE
        return head, None
