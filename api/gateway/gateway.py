"""The heart: reads at a consistency level, writes that go to the master first."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Self

from api.cache.cache import Cache
from api.cache.database import CacheUnavailable
from api.cache.snapshot import CachedHead
from api.documents import Layout
from api.gateway.cache_view import CacheView, Reading
from api.gateway.circuit import Circuit
from api.gateway.errors import BadInput, GatewayError, of_read
from api.gateway.heads import Heads, Question
from api.gateway.provenance import Consistency, FallbackReason
from api.gateway.views import MasterView, VerifiedView, View
from api.jobs import SYNC
from api.master.errors import MasterError, RateLimited
from api.master.master import Master
from api.sync.content import Content
from api.sync.log import logged
from api.sync.proven import ProvenIndex
from api.sync.reconcile import Outcome, Reconciler

log = logging.getLogger(__name__)

_DRAIN_SECONDS = 10.0  # for commits that are on their way when the process is told to stop
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0  # seconds between tries to bring the cache along
LAG_SECONDS = 10.0  # for GitHub's replicas to show a commit that a webhook told of
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
        self._asked = set[str | None]()
        self._syncing: asyncio.Task[None] | None = None
        self._told = set[str]()
        self._looking: asyncio.Task[None] | None = None
        self._writing: set[asyncio.Task[None]] = set()
        self._tidying: set[asyncio.Task[None]] = set()
        self.circuit = Circuit(self.master, self.tidy)
        through = self.master.behind(self.circuit.asking, patience=self.master.github.timeout)
        # What views stand on: the same parts, but readers' requests go through the circuit.
        self.for_readers = replace(
            reconciler, master=through, content=self.content.through(through)
        )
        self.heads = Heads(through, self.circuit, self.tidy)
        self.index = ProvenIndex(self.for_readers, self.tidy)

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
        self.circuit.close()
        for task in self._tidying:
            task.cancel()
        if self._tidying:
            await asyncio.wait(self._tidying)

    def start(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """Run work that must go on when the request that wanted it, or the server, is gone."""
        return _run(work, self._writing)

    def request_sync(self, told: str | None = None) -> None:
        """Have the cache brought up to date soon: by the worker, or here if it cannot be rung.

        `told`: the commit that the master is said to be at. If the cache is there, that is all.
        """
        # However many ask, one task works for them all. Who asks while it does may know of a
        # newer commit than it saw, so it goes round once more.
        self._asked.add(told)
        if self._syncing is None or self._syncing.done():
            self._syncing = self.tidy(self._sync_as_asked())
        if told:
            self._told.add(told)
            if self._looking is None or self._looking.done():
                self._looking = self.tidy(self._look_again())

    def tidy(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """Run work that the next sync would do as well: the end of the process does not wait."""
        return _run(work, self._tidying)

    async def _sync_as_asked(self) -> None:
        """Meet all requests, however long Redis, PostgreSQL and GitHub may be away."""
        pause = _FIRST_PAUSE
        while self._asked:
            asked, self._asked = self._asked, set()
            if await self._is_at(asked) or await self._ring(SYNC) or await self._sync():
                pause = _FIRST_PAUSE
                continue
            self._asked |= asked
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _look_again(self) -> None:
        """GitHub's replicas lag: a sync may have seen the branch as it was before the push."""
        while self._told:
            told, self._told = self._told, set()
            await asyncio.sleep(LAG_SECONDS)
            try:
                async with self.cache.snapshot() as snapshot:
                    arrived = {commit for commit in told if await snapshot.applied_at(commit)}
            except CacheUnavailable:
                arrived = set()
            if told - arrived:
                self.request_sync()

    async def _is_at(self, told: set[str | None]) -> bool:
        """Whether the cache is at the one commit that the master is said to be at.

        That it was there once is not enough: the branch may have been set back to it.
        """
        try:
            async with self.cache.snapshot() as snapshot:
                return snapshot.head is not None and told == {snapshot.head.commit}
        except CacheUnavailable:
            return False

    async def _sync(self) -> bool:
        """Sync here. False when it has to be tried again."""
        try:
            report = await logged(self.reconciler, SYNC, self.reconciler.run)
        except (MasterError, CacheUnavailable) as error:
            log.warning("the cache is as it was, the sync is tried again: %s", error)
            if isinstance(error, RateLimited):
                await asyncio.sleep(error.retry_after)
            return False
        return report.outcome in {Outcome.UNCHANGED, Outcome.APPLIED}

    async def outdate(self) -> None:
        """The master has moved on without the cache: say so to all, and have it brought along."""
        self.outdated_at = datetime.now(UTC)
        await self._spread()
        if self._repairing is None or self._repairing.done():
            self._repairing = self.tidy(self._repair())

    def is_outdated(self, head: CachedHead) -> bool:
        """Whether the master has moved on since the cache's head was seen there, or may have.

        While PostgreSQL was away for those who write, nobody could tell of what was committed.
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
            self.request_sync()
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


def _is_open(opening: asyncio.Task[View]) -> bool:
    return opening.done() and not opening.cancelled() and not opening.exception()


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        log.error("work in the background failed", exc_info=error)


@dataclass(frozen=True, slots=True)
class Basis:
    """What an answer is from: a version of the cache, that is fresh until some moment."""

    head: CachedHead
    fresh_until: datetime


class Operation:
    """The reads of one GraphQL operation. Fields that ask alike share one view: one snapshot.

    `repeats`: whoever runs it does so again on Repeat, which the cache's moving on then leads to.
    Use as an async context manager. Raises GatewayError.
    """

    def __init__(self, gateway: Gateway, *, repeats: bool = False) -> None:
        self._gateway = gateway
        self._repeats = repeats
        self._limits: list[float] = []
        # By `atLeast`: a commit that this operation made may be newer than what it read before.
        self._readings: dict[str | None, Reading] = {}
        self._views: dict[tuple[object, ...], asyncio.Task[View]] = {}
        self._closed = False
        self.basis: Basis | None = None
        """What all views were of, when it is over. None if not one fresh version of the cache."""

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
        if self._closed:
            return
        self._closed = True
        for opening in self._views.values():
            opening.cancel()
        await asyncio.gather(*self._views.values(), return_exceptions=True)
        for reading in self._readings.values():
            reading.close()
        self.basis = self._found_basis()
        self._views.clear()  # they know us as well, and only a collector would find that out

    @property
    def has_moved(self) -> bool:
        """Whether the cache moved on meanwhile, so that the operation has to be repeated."""
        return any(reading.has_moved for reading in self._readings.values())

    def _found_basis(self) -> Basis | None:
        views = [opened.result() for opened in self._views.values() if _is_open(opened)]
        current = [view for view in views if isinstance(view, CacheView) and view.is_current]
        heads = {view.head.version: view.head for view in current}
        if len(current) != len(self._views) or len(heads) != 1:
            return None
        [head] = heads.values()
        return Basis(head, head.seen_at + timedelta(seconds=min(self._limits)))

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
        opening = self._views[key]
        return opening.result() if opening.done() else await asyncio.shield(opening)

    async def _open(
        self,
        consistency: Consistency,
        at_least: str | None,
        max_staleness: float | None,
        path: str | None,
    ) -> View:
        reading = self._readings.setdefault(
            at_least, Reading(self._gateway.cache, repeats=self._repeats)
        )
        try:
            if consistency is not Consistency.CACHE:
                return await self._open_master(consistency, at_least, path, None)
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
            patience = self._gateway.circuit.patience() if head else nullcontext()
            try:
                async with patience:
                    return await self._open_master(Consistency.MASTER, at_least, path, reason)
            except MasterError:
                head, reason = await self._look(reading, at_least, limit)  # it took a while
                if head is None:
                    raise
        assert head is not None  # noqa: S101  # or there were a reason
        self._limits.append(limit)
        return CacheView(
            reading,
            head,
            self._gateway.for_readers,
            pin=self._pin,
            fall_back=lambda: self._open_master(
                Consistency.MASTER, at_least, path, FallbackReason.CACHE_UNAVAILABLE
            ),
            keep=self._gateway.keep,
            stale=reason is not None,
        )

    async def _open_master(
        self,
        consistency: Consistency,
        at_least: str | None,
        path: str | None,
        fallback: FallbackReason | None,
    ) -> MasterView:
        gateway = self._gateway
        if at_least:
            question = Question(at_least=at_least)
        else:
            question = Question(path, content=consistency is not Consistency.VERIFIED)
        sight = await gateway.heads.look(question)
        if sight.head is None:
            raise BadInput(
                f"The commit {at_least} of `atLeast` is not in the history of the branch "
                f"{gateway.master.branch}. Use the commit that a mutation returned."
            )
        if consistency is Consistency.VERIFIED:
            view: MasterView = VerifiedView(sight.head, gateway.for_readers, gateway.index)
        else:
            view = MasterView(sight.head, gateway.for_readers, gateway.index, fallback=fallback)
        if path is not None and path in sight.entries:
            view.tell(path, sight.entries[path])
        return view

    async def _pin(self, cached: CachedHead) -> MasterView:
        """The master at the commit that the cache was at: what was answered so far stays true."""
        gateway, reason = self._gateway, FallbackReason.CACHE_UNAVAILABLE
        head = await gateway.for_readers.master.head_at(cached.commit)
        return MasterView(head, gateway.for_readers, gateway.index, fallback=reason)

    async def _look(
        self, reading: Reading, at_least: str | None, limit: float
    ) -> tuple[CachedHead | None, FallbackReason | None]:
        """The cache's head, and why it will not do, if so."""
        try:
            head = await reading.head()
            if head is None or self._is_stale(head, limit):
                head = await reading.renew()  # it may have been brought along since
            if head is None:
                return None, FallbackReason.CACHE_EMPTY
            if at_least and not await reading.ask(lambda g: g.applied_at(at_least)):
                return head, FallbackReason.BEHIND_AT_LEAST
        except CacheUnavailable:
            return None, FallbackReason.CACHE_UNAVAILABLE
        return head, FallbackReason.CACHE_STALE if self._is_stale(head, limit) else None

    def _is_stale(self, head: CachedHead, limit: float) -> bool:
        is_old = (datetime.now(UTC) - head.seen_at).total_seconds() > limit
        return is_old or self._gateway.is_outdated(head)
