"""The master's head, for readers: many share one look at it.

A reader may share a look only if it began after the reader arrived: what was pushed before is in
the answer. So those who come while one is on its way do not wait for its end, but for the next,
which begins after a gap that costs them little.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cachetools import LRUCache

from api.gateway.circuit import Circuit, Run
from api.gateway.pace import Bucket
from api.master.errors import Unreachable
from api.master.fetching import BYTES_A_REQUEST
from api.master.master import Head, Master
from api.master.metering import Quota
from api.master.trees import TreeEntry

# Of the time that a look takes: between two of them, which bounds how many are on their way, and
# for those who come almost together, as they do when one look answered them together before.
_GAP, _TOGETHER = 1 / 30, 1 / 100
_AT_ONCE = 36
_PATHS_A_LOOK = 50
_SUPPOSED_BYTES = 30_000  # of a document that was not seen before
_REMEMBERED_SIZES = 10_000  # about 200 bytes each
_LOW = 0.2  # of GitHub's quota, from where on it is spread over the rest of the hour
_LONGEST_GAP = 2.0  # seconds


@dataclass(frozen=True, slots=True)
class Question:
    """What a reader wants to know of the head.

    `path`: with what lies there, and with its text as `content`. `at_least`: a commit that must be
    in its history.
    """

    path: str | None = None
    content: bool = False
    at_least: str | None = None


@dataclass(frozen=True, slots=True)
class Sight:
    """What a look showed. `head` is None if its history does not contain the commit asked for.

    `entries`: what lies at some paths there; None for nothing. Paths that are not in it were not
    looked at.
    """

    head: Head | None
    entries: Mapping[str, TreeEntry | None] = field(default_factory=dict)


def gap(latency: float, quota: Quota, now: datetime) -> float:
    """Seconds between the beginnings of two looks, each of which takes `latency` seconds.

    What is left of a quota that runs low lasts until it is renewed, unless that took gaps of more
    than two seconds.
    """
    return max(latency * _GAP, min(_spread(quota, now), _LONGEST_GAP))


def _spread(quota: Quota, now: datetime) -> float:
    if quota.remaining is None or quota.limit is None or quota.reset_at is None:
        return 0.0
    if quota.remaining >= _LOW * quota.limit:
        return 0.0
    return max(0.0, (quota.reset_at - now).total_seconds()) / max(quota.remaining, 1)


def sharing(asked: Sequence[Question], size_of: Callable[[str], int]) -> list[int]:
    """The places of those questions that the next request answers; that of the first at least.

    `size_of`: bytes of the text at a path, so that not too many come along.
    """
    if asked[0].at_least:
        return [i for i, question in enumerate(asked) if question.at_least == asked[0].at_least]
    shared: list[int] = []
    paths, texts, size = set[str](), set[str](), 0
    for i, question in enumerate(asked):
        if question.at_least:
            continue
        if question.path is not None:
            paths |= {question.path}
            if question.content and question.path not in texts:
                texts |= {question.path}
                size += size_of(question.path)
        if shared and (len(paths) > _PATHS_A_LOOK or size > BYTES_A_REQUEST):
            break
        shared.append(i)
    return shared


@dataclass(eq=False, slots=True)
class _Reader:
    question: Question
    told: asyncio.Future[Sight]


class Heads:
    """Looks at the master for readers. `master` is the one behind the circuit."""

    def __init__(self, master: Master, circuit: Circuit, run: Run) -> None:
        self._master = master
        self._github = master.github
        self._circuit = circuit
        self._run = run
        self._waiting: list[_Reader] = []
        self._next: asyncio.Handle | None = None
        self._looks = set[asyncio.Task[None]]()
        self._began_at = float("-inf")
        self._latency = 0.0  # seconds, of late
        # At most 1,500 in any minute. GitHub takes 2,000 requests, and writes count fivefold.
        self._bucket = Bucket(1000, 0.12)
        self._sizes: LRUCache[str, int] = LRUCache(_REMEMBERED_SIZES)

    async def look(self, question: Question) -> Sight:
        """The answer of a look that begins now or later.

        Raises MasterError, and no later than a request to GitHub may take.
        """
        self._circuit.refuse()
        reader = _Reader(question, asyncio.get_running_loop().create_future())
        reader.told.add_done_callback(_heard)
        self._waiting.append(reader)
        self._plan()
        seconds = self._github.timeout
        try:
            async with asyncio.timeout(seconds):
                return await reader.told
        except TimeoutError:
            raise Unreachable(f"GitHub did not answer within {seconds:g} seconds.") from None

    def _plan(self) -> None:
        """Have the next look begin, when it may."""
        if self._next or not self._waiting or len(self._looks) >= _AT_ONCE:
            return
        loop = asyncio.get_running_loop()
        now = loop.time()
        due = max(
            now + (self._latency * _TOGETHER if self._looks else 0.0),
            self._began_at + gap(self._latency, self._github.quota, datetime.now(UTC)),
            now + self._bucket.wait(now),
        )
        # At once is not right here: who comes in the same moment goes along.
        self._next = loop.call_at(due, self._begin) if due > now else loop.call_soon(self._begin)

    def _begin(self) -> None:
        self._next = None
        self._waiting = [reader for reader in self._waiting if not reader.told.done()]
        while self._waiting and len(self._looks) < _AT_ONCE:
            asked = [reader.question for reader in self._waiting]
            places = set(sharing(asked, self._size_of))
            sharers = [reader for i, reader in enumerate(self._waiting) if i in places]
            self._waiting = [r for i, r in enumerate(self._waiting) if i not in places]
            self._began_at = asyncio.get_running_loop().time()
            self._bucket.take(self._began_at)
            look = self._run(self._tell(sharers))
            self._looks.add(look)
            look.add_done_callback(self._ended)

    def _ended(self, look: asyncio.Task[None]) -> None:
        self._looks.discard(look)
        self._plan()

    async def _tell(self, readers: Sequence[_Reader]) -> None:
        """Look, and tell those who share the look what came of it, and nobody else."""
        told = [reader.told for reader in readers]
        try:
            sight = await self._look([reader.question for reader in readers])
        except Exception as error:  # a mistake of ours is not to leave them waiting
            for each in told:
                if not each.done():
                    each.set_exception(error)
        else:
            for each in told:
                if not each.done():
                    each.set_result(sight)
        finally:
            for each in told:
                each.cancel()

    async def _look(self, asked: Sequence[Question]) -> Sight:
        if asked[0].at_least:
            return Sight(await self._master.contains(asked[0].at_least))
        texts = dict.fromkeys(q.path for q in asked if q.path is not None and q.content)
        others = dict.fromkeys(q.path for q in asked if q.path is not None)
        began = time.monotonic()
        sight = await self._look_at({**texts, **others}, texts)
        took = time.monotonic() - began
        self._latency = self._latency + (took - self._latency) / 8 if self._latency else took
        self._sizes.update({path: entry.size for path, entry in sight.entries.items() if entry})
        return sight

    async def _look_at(self, paths: Collection[str], texts: Collection[str]) -> Sight:
        began = time.monotonic()
        try:
            if paths:
                return Sight(*await self._master.head_with(paths, contents=texts))
        except Unreachable:
            if len(paths) == 1 or self._github.answered_at < began:
                raise
            # GitHub is there, and one of the paths may be to blame. The others are not to suffer
            # for it: each reader finds its own by the trees.
        return Sight(await self._master.head())

    def _size_of(self, path: str) -> int:
        return self._sizes.get(path, _SUPPOSED_BYTES)


def _heard(told: asyncio.Future[Sight]) -> None:
    """A reader that has gone away hears nothing, and that is no mistake."""
    if not told.cancelled():
        told.exception()
