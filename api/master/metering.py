"""What work costs at GitHub, and what is left. Nothing here asks GitHub for anything."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime

from api.documents import Json


@dataclass(slots=True)
class Meter:
    """What work has cost so far.

    `points` of GitHub's budget for GraphQL, `bytes` of the bodies that came back.
    """

    requests: int = 0
    points: int = 0
    bytes: int = 0


class Metering:
    """Counts in all, and for each piece of work that wants to know its own share."""

    def __init__(self) -> None:
        self.total = Meter()
        self._meters: ContextVar[tuple[Meter, ...]] = ContextVar("meters", default=())

    @contextmanager
    def metered(self) -> Iterator[Meter]:
        """Count what is spent in this context and in the tasks that are begun in it."""
        meter = Meter()
        token = self._meters.set((*self._meters.get(), meter))
        try:
            yield meter
        finally:
            self._meters.reset(token)

    def spend(self, *, requests: int = 0, points: int = 0, received: int = 0) -> None:
        """`received`: bytes."""
        for meter in (self.total, *self._meters.get()):
            meter.requests += requests
            meter.points += points
            meter.bytes += received


@dataclass(frozen=True, slots=True)
class Quota:
    """The points of this hour, as GitHub last told. None is what it did not tell."""

    remaining: int | None = None
    limit: int | None = None
    reset_at: datetime | None = None


def read_quota(headers: Mapping[str, str]) -> Quota | None:
    """What an answer tells of the quota, or None if it tells nothing."""
    reset = _number(headers.get("x-ratelimit-reset"))
    quota = Quota(
        remaining=_number(headers.get("x-ratelimit-remaining")),
        limit=_number(headers.get("x-ratelimit-limit")),
        reset_at=None if reset is None else datetime.fromtimestamp(reset, UTC),
    )
    return None if quota == Quota() else quota


def read_token_end(headers: Mapping[str, str]) -> datetime | None:
    """When the token ends that an answer was got with. None if that is never, or not told.

    GitHub writes `2026-12-01 10:00:00 UTC`, at times with an offset like `+0200` in its place.
    """
    told = headers.get("github-authentication-token-expiration", "")
    try:
        return datetime.strptime(told.replace("UTC", "+0000"), "%Y-%m-%d %H:%M:%S %z")
    except ValueError:
        return None


def cost(data: Mapping[str, Json] | None) -> int:
    """The points that an answer says it cost; 1 where it does not say."""
    told = (data or {}).get("rateLimit")
    points = told.get("cost") if isinstance(told, dict) else None
    return points if isinstance(points, int) else 1


def _number(header: str | None) -> int | None:
    """A header's number. More digits than any of them has would be no time that exists."""
    return int(header) if header and re.fullmatch(r"[0-9]{1,10}", header) else None
