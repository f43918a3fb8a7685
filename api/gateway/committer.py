"""The committer: one for a process. What comes in while a commit is on its way goes out together.

Nobody is told what is not known. A write is made when its commit landed. It is refused, or found
to change nothing, by what lies at the master: at a head that was just read there, or one that a
commit was then built upon.
"""

import asyncio
import logging
import math
import random
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from api.gateway.changes import Written
from api.gateway.describing import note
from api.gateway.errors import (
    BadInput,
    GatewayError,
    MasterUnavailable,
    RateLimited,
    of_read,
    of_write,
    said_of_a_retry,
    unknown,
)
from api.gateway.gateway import Gateway
from api.gateway.ground import Ground, cached_ground, learn, master_ground
from api.gateway.keys import Keys
from api.gateway.pace import Pace
from api.gateway.planning import MAX_WRITES, Lacking, Plan, Write, plan
from api.gateway.settling import Landing, directories_of, repeated, take_over, unchanged
from api.master import errors as master
from api.master.committing import Change, commit
from api.master.errors import HeadMoved, MasterError
from api.master.ledger import Landed
from api.master.messages import compose, records

log = logging.getLogger(__name__)

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0  # seconds before a head that moved is built upon anew
_MAX_PATHS = 200  # looked at for one commit, of which it can change a quarter


@dataclass(eq=False, slots=True)
class _Waiting:
    """A write whose caller waits, or has gone away. `deadline` is of the event loop's clock.

    `is_new`: no earlier try of it was saved, for it has no key, or that was looked for.
    `is_sent`: a commit with it is on its way. Until that ended it may be saved or not.
    `is_saved`: it landed, and the cache is being told.
    """

    write: Write
    deadline: float
    told: asyncio.Future[Written]
    is_new: bool = False
    is_sent: bool = False
    is_saved: bool = False
    reason: GatewayError | None = None  # why it was not made so far

    def tell(self, written: Written) -> None:
        if not self.told.done():
            self.told.set_result(written)

    def fail(self, error: Exception) -> None:
        if self.write.key and not self.is_new and isinstance(error, GatewayError):
            error = said_of_a_retry(error)
        if not self.told.done():
            self.told.set_exception(error)

    def give_up(self) -> None:
        """The time is over."""
        if self.is_saved:
            return
        if self.is_sent:
            self.fail(unknown(self.write.id))
        else:
            late = MasterUnavailable("GitHub did not answer in time. Nothing was saved. Try again.")
            self.fail(self.reason or late)


class Committer:
    """Carries out writes, each exactly once or not at all."""

    def __init__(self, gateway: Gateway, *, max_bytes: int) -> None:
        self._gateway = gateway
        self._max_bytes = max_bytes
        self._keys = Keys(gateway)
        self._pace = Pace()
        self._queue: list[_Waiting] = []
        self._arrived = asyncio.Event()
        self._working: asyncio.Task[None] | None = None

    async def submit(self, write: Write, *, deadline: float) -> Written:
        """What came of a write. A caller that is cancelled does not take it back.

        Raises GatewayError: when it is not OutcomeUnknown, nothing was saved.
        """
        loop = asyncio.get_running_loop()
        waiting = _Waiting(write, deadline, loop.create_future())
        waiting.told.add_done_callback(_heard)
        self._queue.append(waiting)
        self._arrived.set()
        if self._working is None or self._working.done():
            self._working = self._gateway.start(self._work())
        await asyncio.wait({waiting.told}, timeout=deadline - loop.time())
        waiting.give_up()
        return await asyncio.shield(waiting.told)

    async def _work(self) -> None:
        """Carry out what is queued, until there is nothing left."""
        while await self._permission():
            group = self._portion()
            try:
                async with self._gateway.cache.turn_to_commit():
                    self._queue[:0] = await self._round(group)
            except Exception as error:  # a mistake of ours must not end all writing
                log.exception("a round of the committer failed")
                for waiting in group:
                    waiting.fail(unknown(waiting.write.id) if waiting.is_sent else error)

    def _portion(self) -> list[_Waiting]:
        """Take from the queue what may go into one commit."""
        paths, end = set[str](), 0
        for waiting in self._queue[:MAX_WRITES]:
            paths |= waiting.write.paths
            if end and len(paths) > _MAX_PATHS:
                break
            end += 1
        group, self._queue = self._queue[:end], self._queue[end:]
        return group

    async def _permission(self) -> bool:
        """Wait until a commit may be sent. False when nobody wants one any more.

        Who cannot wait for so long is refused at once.
        """
        while self._queue:
            wait = self._limited()
            if not wait:
                return True
            self._queue = _patient(self._queue, wait)
            if not self._queue:
                break
            self._arrived.clear()
            try:
                async with asyncio.timeout(wait):
                    await self._arrived.wait()
            except TimeoutError:
                continue
        return False

    async def _round(self, pending: list[_Waiting]) -> list[_Waiting]:
        """One commit, with as many of these writes as fit. Returns those for the next.

        Every write that is not returned is told what came of it.
        """
        later: list[_Waiting] = []
        ground: Ground | None = None
        pause, is_first = _FIRST_PAUSE, True
        while pending := _alive(pending):
            made: list[_Waiting] = []
            waiting: list[_Waiting] = []
            try:
                ground = ground or await self._ground(pending, from_cache=is_first)
                is_first = False
                pending, undecided = await self._not_done_before(pending, ground)
                later = undecided + later
                draft = await self._draft(pending, ground)
                by_id = {w.write.id: w for w in pending}
                made = [by_id[write_id] for write_id in draft.made]
                waiting = [by_id[write.id] for write in draft.later]
                if made:
                    landing = await self._commit(draft, made, ground.head)
                elif ground.read:
                    landing = await unchanged(self._gateway, ground.read)
                else:
                    ground = None  # what the cache says is no proof
                    continue
                self._settle(draft, by_id, ground, landing)
                return waiting + later
            except HeadMoved as error:
                ground = None
                for each in made:
                    each.reason = of_write(error, each.write.id)
                if self._limited():
                    return pending + later
                # A replica catches up, or another writer finishes. Not all at the same moment.
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
                pause = min(2 * pause, _LONGEST_PAUSE)
            except master.RateLimited as error:
                self._pace.block(_now() + error.retry_after)
                return pending + later
            except MasterError as error:
                if isinstance(error, master.OutcomeUnknown):
                    await self._gateway.outdate()
                suspects = made or pending
                if _is_of_one(error) and len(suspects) > 1:
                    # One of them is to blame. The others are not to suffer for it.
                    half = len(suspects) // 2
                    pending, later = suspects[:half], suspects[half:] + waiting + later
                    if self._limited():
                        return pending + later
                    continue
                _fail(suspects, error)
                ground = None
        return later

    async def _ground(self, pending: Sequence[_Waiting], *, from_cache: bool) -> Ground:
        paths = frozenset[str]().union(*(w.write.paths for w in pending))
        contents = frozenset[str]().union(*(w.write.sources for w in pending))
        # What is no document is not in the cache, and would be overwritten unseen.
        from_cache = from_cache and not any(w.write.claims for w in pending)
        async with _until(pending):
            if from_cache and (ground := await cached_ground(self._gateway, paths, contents)):
                return ground
            return await master_ground(self._gateway, paths, contents)

    async def _draft(self, pending: Sequence[_Waiting], ground: Ground) -> Plan:
        async with _until(pending):
            while True:
                try:
                    return plan(
                        [w.write for w in pending],
                        ground.files,
                        ground.names,
                        layout=self._gateway.layout,
                        max_bytes=self._max_bytes,
                    )
                except Lacking as lacking:
                    await learn(self._gateway, ground, lacking)

    async def _not_done_before(
        self, pending: list[_Waiting], ground: Ground
    ) -> tuple[list[_Waiting], list[_Waiting]]:
        """Those to be carried out, and those of which it is not known yet.

        The others have a key that is in the history of the ground; they are told what came of it.
        """
        keys = {w.write.key.key for w in pending if w.write.key}
        if not keys:
            return pending, []
        try:
            async with _until(pending):
                others_wait = not all(w.write.key for w in pending)
                landed = await self._keys.find(keys, ground.head, others_wait=others_wait)
        except master.RateLimited:
            raise
        except master.Missing as error:
            if ground.read is None:
                raise HeadMoved("GitHub does not know the commit that the cache is at.") from error
            raise
        except MasterError as error:  # those without a key are none the worse for it
            _fail([w for w in pending if w.write.key], error)
            return _alive(pending), []
        left: list[_Waiting] = []
        undecided: list[_Waiting] = []
        undecided_paths = set[str]()
        for waiting in pending:
            key = waiting.write.key
            if (key and landed is None) or waiting.write.paths & undecided_paths:
                undecided.append(waiting)
                undecided_paths |= waiting.write.paths
                continue
            waiting.is_new = True
            found = landed.get(key.key) if key and landed else None
            if found is None:
                left.append(waiting)
            elif found.record.key == key:
                waiting.reason = MasterUnavailable(
                    f"This was saved before, in the commit {found.commit.oid}. GitHub did not "
                    "answer in time to tell more. Try again."
                )
                self._gateway.start(self._repeat(waiting, found, is_cached=ground.read is None))
            else:
                waiting.fail(
                    BadInput(
                        "The idempotencyKey was used for another content before, in the commit "
                        f"{found.commit.oid}. Use a new key for a new write. Nothing was saved."
                    )
                )
        return left, undecided

    async def _repeat(self, waiting: _Waiting, found: Landed, *, is_cached: bool) -> None:
        """Tell the outcome of the first time."""
        try:
            waiting.tell(await repeated(self._gateway, waiting.write, found, is_cached=is_cached))
        except MasterError as error:
            waiting.fail(of_read(error))
        except Exception as error:  # the caller must not wait for nothing
            waiting.fail(error)

    async def _commit(self, draft: Plan, made: Sequence[_Waiting], head: str) -> Landing:
        """Commit at the master, then take over into the cache."""
        gateway = self._gateway
        headline, body = compose([note(w.write, draft.made[w.write.id]) for w in made])
        change = Change(
            write_id=made[0].write.id,
            headline=headline,
            body=body,
            additions=draft.additions,
            deletions=draft.deletions,
        )
        self._pace.take(_now())
        sent_at = datetime.now(UTC)
        for each in made:
            each.is_sent = True
        try:
            done = await commit(
                gateway.master,
                change,
                expected=head,
                ask=[*draft.additions, *directories_of(draft)],
                seconds=max(max(w.deadline for w in made) - _now(), 0.1),
            )
        except master.OutcomeUnknown:
            raise
        except MasterError:
            for each in made:
                each.is_sent = False
            raise
        for each in made:
            each.is_saved = True
        self._keys.remember(done, records(f"{headline}\n\n{body}"))
        return await take_over(gateway, draft, done, sent_at)

    def _settle(
        self, draft: Plan, by_id: Mapping[str, _Waiting], ground: Ground, landing: Landing
    ) -> None:
        """Tell all what came of their writes: the ground is proven, by whatever landed on it."""
        files = {**ground.files, **draft.files}
        written = {**draft.made, **draft.unchanged}
        items = landing.items(self._gateway, files, {p for ps in written.values() for p in ps if p})
        for write_id, paths in written.items():
            by_id[write_id].tell(landing.written([items.get(path or "") for path in paths]))
        for write_id, error in draft.refused.items():
            by_id[write_id].fail(error)

    def _limited(self) -> float:
        """Seconds until GitHub may be sent a commit again."""
        return max(self._pace.wait(_now()), self._gateway.master.github.exhausted_for, 0.0)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _alive(waiting: Iterable[_Waiting]) -> list[_Waiting]:
    """Those that nobody has been told of yet, and whose time is not over."""
    for each in waiting:
        if each.deadline <= _now():
            each.give_up()
    return [each for each in waiting if not each.told.done()]


def _patient(waiting: Iterable[_Waiting], wait: float) -> list[_Waiting]:
    """Those that can wait for so many seconds. The others are refused."""
    for each in waiting:
        if each.deadline < _now() + wait:
            each.fail(
                RateLimited(
                    "GitHub takes no more commits for now. Nothing was saved. Try again in "
                    f"{math.ceil(wait)} seconds.",
                    retryAfter=math.ceil(wait),
                )
            )
    return _alive(waiting)


@asynccontextmanager
async def _until(waiting: Sequence[_Waiting]) -> AsyncIterator[None]:
    """Bounds what comes before a commit: when nobody has time any more, it is over."""
    try:
        async with asyncio.timeout_at(max((each.deadline for each in waiting), default=None)):
            yield
    except TimeoutError as error:
        raise master.Unreachable("GitHub did not answer in time.") from error


def _fail(waiting: Iterable[_Waiting], error: MasterError) -> None:
    for each in waiting:
        each.fail(of_write(error, each.write.id))


def _is_of_one(error: MasterError) -> bool:
    """Whether one document may be to blame, rather than GitHub or the branch as a whole."""
    return isinstance(error, master.Rejected | master.Corrupt) and not isinstance(
        error, master.Protected
    )


def _heard(told: asyncio.Future[Written]) -> None:
    """A caller that has gone away hears nothing, and that is no mistake."""
    if not told.cancelled():
        told.exception()
