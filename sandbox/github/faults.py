"""Faults on purpose: what may go wrong at GitHub, switched on for chosen requests.

A `Fault` names a kind, the requests that it strikes (`operation`, `operation_name`, `nth`,
`probability` with `seed`) and how long it lasts (`count` times, `for_ms`). `Faults` holds the
active ones; each request draws from it when it reaches the point where the kind applies, and a
draw is what `count` and `nth` count. Every fault knows how often it struck and can be awaited.
"""

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count as counter
from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator

Operation = Literal["query", "mutation", "rest", "token", "git", "webhook"]

When = Literal["before", "after"]

Kind = Literal[
    "latency",
    "bad_gateway",
    "gateway_timeout",
    "dropped",
    "hang",
    "something_wrong",
    "rate_limit",
    "secondary_rate_limit",
    "resource_limits",
    "bad_credentials",
    "forbidden",
    "saml",
    "branch_protection",
    "ruleset",
    "graphql_error",
    "partial",
    "ref_moved",
    "lagging_head",
    "corrupted_blob",
    "repository_missing",
    "repository_renamed",
    "repository_archived",
    "webhook_drop",
    "webhook_delay",
    "webhook_duplicate",
    "webhook_reorder",
]

API: Final[frozenset[Operation]] = frozenset({"query", "mutation", "rest"})
HTTP: Final[frozenset[Operation]] = API | {"token"}
GRAPHQL: Final[frozenset[Operation]] = frozenset({"query", "mutation"})
MUTATION: Final[frozenset[Operation]] = frozenset({"mutation"})
WEBHOOK: Final[frozenset[Operation]] = frozenset({"webhook"})

STRIKES: Final[Mapping[Kind, frozenset[Operation]]] = {
    "latency": HTTP | {"git"},
    "bad_gateway": HTTP | {"git"},
    "gateway_timeout": HTTP,
    "dropped": HTTP | {"git"},
    "hang": HTTP | {"git"},
    "something_wrong": GRAPHQL,
    "rate_limit": API,
    "secondary_rate_limit": HTTP,
    "resource_limits": frozenset({"query"}),
    "bad_credentials": API,
    "forbidden": MUTATION,
    "saml": API,
    "branch_protection": MUTATION,
    "ruleset": MUTATION,
    "graphql_error": GRAPHQL,
    "partial": MUTATION,
    "ref_moved": MUTATION,
    "lagging_head": API,
    "corrupted_blob": frozenset({"query", "rest"}),
    "repository_missing": API,
    "repository_renamed": GRAPHQL,
    "repository_archived": GRAPHQL,
    "webhook_drop": WEBHOOK,
    "webhook_delay": WEBHOOK,
    "webhook_duplicate": WEBHOOK,
    "webhook_reorder": WEBHOOK,
}
"""Which requests a kind can strike at all; `operation` narrows this and never widens it."""

_numbers = counter(1)


class Fault(BaseModel):
    """One fault. Times are milliseconds. `count` None means until it is cleared."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Kind
    when: When = "before"
    """Before the request is carried out, or after it was and only the answer is lost."""

    operation: Operation | None = None
    operation_name: str | None = None
    token: str | None = None
    """Only requests made with this token (to revoke one of several)."""
    nth: int | None = Field(None, ge=1)
    """Strike only the nth matching request, counted from when the fault was added."""
    probability: float = Field(1.0, ge=0, le=1)
    seed: int = 0
    count: int | None = Field(1, ge=1)
    for_ms: float | None = Field(None, ge=0)

    ms: float = Field(0, ge=0)
    """latency, webhook_delay: how long. lagging_head: how far behind the replica is."""
    max_ms: float | None = Field(None, ge=0)
    """latency, webhook_delay: with it the time is drawn evenly between `ms` and `max_ms`."""
    status: int | None = None
    """something_wrong: 200 or 502. secondary_rate_limit: 403, 429 or 200. Others: fixed."""
    retry_after: int | None = 60
    """secondary_rate_limit: seconds in the header; None sends no header."""
    type: str | None = None
    """rate_limit: RATE_LIMIT or RATE_LIMITED. graphql_error: the error's type."""
    message: str | None = None
    """forbidden, branch_protection, ruleset (the rule), graphql_error: words to use instead."""
    containing: str | None = None
    """ruleset: only commits that add a file with these words, as a rule about secrets does."""
    head: str | None = None
    """lagging_head: the commit that the lagging replica still sees as the head."""
    mode: Literal["truncated", "corrupted"] = "corrupted"
    """corrupted_blob: cut the content short without saying so, or change a character of it."""
    name: str | None = None
    """repository_renamed: the new `owner/name`."""
    files: Mapping[str, str] = Field(default_factory=lambda: {"ref-moved.md": "moved\n"})
    """ref_moved: what the other writer's commit adds."""

    _id: int = PrivateAttr(default_factory=lambda: next(_numbers))
    _seen: int = PrivateAttr(0)
    _struck: int = PrivateAttr(0)
    _random: random.Random = PrivateAttr()
    _expires: float | None = PrivateAttr(None)
    _changed: asyncio.Event = PrivateAttr(default_factory=asyncio.Event)
    _stopped_at: str | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _applies_somewhere(self) -> Self:
        if self.operation is not None and self.operation not in STRIKES[self.kind]:
            msg = f"{self.kind} cannot strike a {self.operation}"
            raise ValueError(msg)
        self._random = random.Random(self.seed)  # noqa: S311 - a seeded fault, not a secret
        return self

    @property
    def id(self) -> int:
        return self._id

    @property
    def struck(self) -> int:
        """How many requests it struck so far."""
        return self._struck

    @property
    def spent(self) -> bool:
        return (self.count is not None and self._struck >= self.count) or (
            self._expires is not None and time.monotonic() >= self._expires
        )

    @property
    def stale_head(self) -> str | None:
        """lagging_head: where the replica stopped; None when it follows `ms` behind."""
        return self.head or self._stopped_at

    def duration(self) -> float:
        """Seconds to wait, from the fault's own seeded distribution."""
        if self.max_ms is None:
            return self.ms / 1000
        return self._random.uniform(self.ms, self.max_ms) / 1000

    async def wait_until_struck(self, times: int = 1, *, timeout: float = 10) -> None:  # noqa: ASYNC109
        async with asyncio.timeout(timeout):
            while self._struck < times:
                self._changed.clear()
                await self._changed.wait()

    def _start(self) -> None:
        if self.for_ms is not None:
            self._expires = time.monotonic() + self.for_ms / 1000

    def _strikes(self) -> bool:
        """Decide for one request that matches, and keep count."""
        if self.spent:
            return False
        self._seen += 1
        if self.nth is not None and self._seen != self.nth:
            return False
        if self.probability < 1 and self._random.random() >= self.probability:
            return False
        self._struck += 1
        self._changed.set()
        return True


@dataclass(frozen=True)
class Target:
    """The request that faults are drawn for."""

    operation: Operation
    operation_name: str | None = None
    token: str | None = None


@dataclass
class Draw:
    """The faults of one request: each kind is decided once, at the moment it is first asked."""

    faults: "Faults"
    target: Target
    _decided: dict[tuple[Kind, str | None], Fault | None] = field(default_factory=dict)

    def take(self, kind: Kind, when: When | None = None) -> Fault | None:
        """The fault of this kind that strikes the request, if any."""
        key = (kind, when)
        if key not in self._decided:
            self._decided[key] = self.faults.strike(kind, self.target, when)
        return self._decided[key]

    @property
    def struck(self) -> list[str]:
        return [kind for (kind, _), fault in self._decided.items() if fault is not None]


class Faults:
    """The faults that are switched on."""

    def __init__(self, head: Callable[[], str | None] | None = None) -> None:
        self._faults: list[Fault] = []
        self._head = head

    def add(self, fault: Fault) -> Fault:
        """Switch a fault on. The same object tells later how often it struck."""
        if fault.kind == "lagging_head" and fault.head is None and not fault.ms and self._head:
            # A replica that stopped following now: later commits are unknown to it.
            fault._stopped_at = self._head()  # noqa: SLF001
        fault._start()  # noqa: SLF001 - the two classes of this file are one thing
        self._faults.append(fault)
        return fault

    def clear(self, fault: Fault | None = None) -> None:
        """Switch one off, or all."""
        self._faults = [] if fault is None else [one for one in self._faults if one.id != fault.id]

    def __iter__(self) -> Iterator[Fault]:
        return iter([fault for fault in self._faults if not fault.spent])

    def strike(self, kind: Kind, target: Target, when: When | None = None) -> Fault | None:
        """The first fault of the kind that decides to strike the request."""
        for fault in self._faults:
            if (
                fault.kind == kind
                and (when is None or fault.when == when)
                and target.operation in STRIKES[kind]
                and fault.operation in (None, target.operation)
                and fault.operation_name in (None, target.operation_name)
                and fault.token in (None, target.token)
                and fault._strikes()  # noqa: SLF001
            ):
                if fault.spent:
                    self._faults = [one for one in self._faults if not one.spent]
                return fault
        return None

    def draw(self, target: Target) -> Draw:
        return Draw(self, target)
