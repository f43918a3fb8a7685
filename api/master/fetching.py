"""Fetching content by oid: in portions that GitHub bears, and each only once at a time."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from api.master.errors import TooMuchAsked, Unreachable

BYTES_A_REQUEST = 1_500_000

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A blob to fetch: its oid and the size that its tree announced, in bytes."""

    oid: str
    size: int


class Portion:
    """How much to ask for at once: half after GitHub gave up, slowly more again when it did not.

    Bounded by count, and by the sizes that the trees announced.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._count = most

    def of(self, wanted: Sequence[Wanted]) -> Sequence[Wanted]:
        """The first part of what is wanted; one at least."""
        size = 0
        for i, want in enumerate(wanted[: self._count]):
            size += want.size
            if i and size > BYTES_A_REQUEST:
                return wanted[:i]
        return wanted[: self._count]

    def shrink(self, asked: int) -> None:
        self._count = max(1, min(self._count, asked) // 2)

    def grow(self) -> None:
        self._count = min(self._most, self._count + 1 + self._count // 4)


# Sends one request, for all of a batch. Its answer is by oid.
Fetch: TypeAlias = Callable[[Sequence[Wanted]], Awaitable[dict[str, V]]]


@dataclass(frozen=True, slots=True)
class _Request(Generic[V]):
    """A request that is on its way, and how many oids it asks for."""

    size: int
    answer: asyncio.Task[dict[str, V]]


class Fetching(Generic[V]):
    """Fetches by oid, in portions. What is on its way already is waited for, not asked for again.

    What an oid names never changes, so whoever wants it may share a request that began before.
    `patience`: seconds to wait for a further part of what is wanted; None: as long as it takes.
    """

    def __init__(self, fetch: Fetch[V], portion: Portion, patience: float | None) -> None:
        self._fetch = fetch
        self._portion = portion
        self._patience = patience
        self._on_the_way: dict[str, _Request[V]] = {}

    async def all(self, wanted: Iterable[Wanted]) -> dict[str, V]:
        """All of it, by oid, in smaller requests where GitHub gives up on larger ones.

        Raises what the requests fail with; Unreachable when patience is at an end.
        """
        found: dict[str, V] = {}
        left = {want.oid: want for want in wanted}
        until = self._until()
        while left:
            if new := [want for oid, want in left.items() if oid not in self._on_the_way]:
                self._send(self._portion.of(new))
            for request in self._requests_for(left):
                try:
                    async with asyncio.timeout_at(until):
                        answer = await asyncio.shield(request.answer)
                except TooMuchAsked:
                    if request.size == 1:
                        raise
                except TimeoutError:
                    raise Unreachable(
                        f"GitHub did not deliver anything within {self._patience:g} seconds."
                    ) from None
                else:
                    found |= {oid: answer[oid] for oid in answer if left.pop(oid, None)}
                    until = self._until()
        return found

    def _requests_for(self, oids: Iterable[str]) -> list[_Request[V]]:
        found = (self._on_the_way.get(oid) for oid in oids)
        return list({id(request): request for request in found if request}.values())

    def _until(self) -> float | None:
        if self._patience is None:
            return None
        return asyncio.get_running_loop().time() + self._patience

    def _send(self, batch: Sequence[Wanted]) -> None:
        # In a task of its own, which goes on when one of those who share it is cancelled. With
        # nobody left it is one request that ends by itself, and whose answer is remembered.
        answer = asyncio.create_task(self._carry_out(batch))
        answer.add_done_callback(_heard)
        self._on_the_way |= dict.fromkeys((w.oid for w in batch), _Request(len(batch), answer))

    async def _carry_out(self, batch: Sequence[Wanted]) -> dict[str, V]:
        try:
            answer = await self._fetch(batch)
        except TooMuchAsked:
            self._portion.shrink(len(batch))
            raise
        finally:  # before anybody is told, so that who comes next asks anew
            for want in batch:
                del self._on_the_way[want.oid]
        self._portion.grow()
        return answer


def _heard(answer: asyncio.Task[dict[str, V]]) -> None:
    """Those who waited for it may all have gone, and that is no mistake."""
    if not answer.cancelled():
        answer.exception()
