"""What was asked of the stand-in: counts by kind, and the latest requests in detail."""

import asyncio
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["query", "mutation", "rest", "token", "git", "invalid"]

REMEMBERED = 10_000


@dataclass(frozen=True)
class Request:
    """One request as it was answered. `status` 0 stands for a connection cut on purpose."""

    kind: Kind
    operation_name: str | None
    status: int
    seconds: float
    request_bytes: int
    response_bytes: int
    cost: int = 0
    faults: tuple[str, ...] = ()
    path: str = ""


@dataclass
class Requests:
    """Counts never forget; details of the latest ten thousand requests are kept."""

    latest: deque[Request] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    counts: Counter[str] = field(default_factory=Counter)
    running: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, request: Request) -> None:
        self.latest.append(request)
        self.counts[request.kind] += 1
        self._changed.set()

    def count(self, kind: Kind | None = None) -> int:
        return self.counts[kind] if kind else self.counts.total()

    def clear(self) -> None:
        self.latest.clear()
        self.counts.clear()

    async def wait_for(self, times: int, kind: Kind | None = None, *, timeout: float = 10) -> None:  # noqa: ASYNC109
        """Return once that many requests (since the last clear) were answered."""
        async with asyncio.timeout(timeout):
            while self.count(kind) < times:
                self._changed.clear()
                await self._changed.wait()

    def __len__(self) -> int:
        return self.count()

    def __iter__(self) -> Iterator[Request]:
        return iter(list(self.latest))
