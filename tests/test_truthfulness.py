"""Whatever happens at once, an answer is true for the commit that it names, and honest of its age.

Others push with plain git, force-push and rename; agents write; workers sync, and are cut or
cancelled anywhere; PostgreSQL and GitHub fail. Meanwhile readers ask at every level, and each of
their answers is judged by git, and by the times at which each commit was the master's head.

Longer: `HYPOTHESIS_PROFILE=deep`. Other paths: `READS_SEED=7`, which is printed with a failure.
"""

import asyncio
import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from subprocess import CalledProcessError
from typing import Any

import pytest

from api.cache.database import CacheUnavailable
from api.documents import Collection
from api.master.errors import MasterError
from api.settings import load
from api.wiring import open_parts
from sandbox.github import Fault, GitHub
from sandbox.github.hosting import Push
from tests.clone import git
from tests.sync.oracle import commit
from tests.system import System, running
from tests.truth import (
    GARDEN,
    LEVELS,
    ROOM,
    Question,
    Reply,
    Truth,
    one,
    page,
    put,
    ranked,
)
from tests.waiting import until
from tests.wire import Wire

SEED = int(os.environ.get("READS_SEED", "1"))
DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"
HISTORIES, ROUNDS = (100, 60) if DEEP else (4, 14)

NAMES = [f"autosaves/{name}.md" for name in ("a", "b", "2026/c", "2026/d", "2026/11/e")]
PROJECTS = [ROOM, GARDEN, "autosaves/projects/attic.md"]
POOL = [
    *(one("session", path) for path in NAMES[:3]),
    one("project", ROOM),
    page(first=3),
    page(None, "PATH_ASC", last=3, titles=True),
    page({"status": "open"}, "OCCURRED_AT_ASC", first=20, titles=True),
    page({"project": ROOM}, first=20),
    ranked(Collection.PROJECTS),
]
FALLBACKS = {"CACHE_UNAVAILABLE", "CACHE_STALE", "CACHE_EMPTY", "BEHIND_AT_LEAST"}
TROUBLE = ["bad_gateway", "dropped", "gateway_timeout", "something_wrong", "resource_limits"]
LATE = timedelta(hours=1)  # up to which a CACHE answer is fresh


@dataclass
class Heads:
    """When each commit was the master's head, as the stand-in saw it."""

    until: dict[str, datetime | None] = field(default_factory=dict)
    """By commit, until when at the latest; None: it still is."""
    doubtful: list[tuple[datetime, datetime | None]] = field(default_factory=list)
    """Times in which GitHub may tell of an older head: a replica lags, or seems to."""
    rewritten_at: datetime | None = None

    def moved(self, push: Push) -> None:
        if push.ref == "refs/heads/main":
            self.until[push.before] = datetime.now(UTC)
            self.until[push.after] = None

    def were(self, commit: str, since: datetime) -> bool:
        """Whether a commit was the head then or later, as far as GitHub could tell."""
        assert commit in self.until, f"{commit} never was the head"
        for begin, end in self.doubtful:
            if since >= begin and (end is None or since <= end):
                since = begin
        last = self.until[commit]
        return last is None or last >= since


class World:
    """A repository, a cache, two gateways, and what goes on between them."""

    def __init__(
        self,
        number: int,
        github: GitHub,
        *,
        systems: tuple[System, System],
        to_postgres: Wire,
        to_worker: Wire,
        environment_of_worker: Mapping[str, str],
    ) -> None:
        self.random = random.Random(1_000 * SEED + number)
        self.github = github
        self.systems = systems
        self.to_postgres = to_postgres  # from the first of them
        self.to_worker = to_worker
        self.environment_of_worker = environment_of_worker
        self.truth = Truth(github.path)
        self.heads = Heads({github.head or "": None})
        self.told: Counter[str] = Counter()
        self.acknowledged: list[tuple[System, datetime, str]] = []
        self.may_trouble = number % 2 == 1
        self.may_set_back = number % 4 == 2
        announce = github.hosting.on_push

        def moved(push: Push) -> None:
            self.heads.moved(push)
            if announce:
                announce(push)

        github.hosting.on_push = moved

    # What others do

    async def push(self) -> None:
        """Anything that git can."""
        ways = [self._edit, self._edit, self._remove, self._rename, self._rewrite]
        with suppress(CalledProcessError):  # there was nothing to do it with
            self.random.choice(ways)()
        self.github.hosting.observe()

    def _edit(self) -> None:
        paths = self.random.sample(NAMES, self.random.randint(1, 3))
        if self.random.random() < 0.2:
            paths = [self.random.choice(PROJECTS)]
        commit(self.github.path, {path: self.text() for path in paths})

    def _remove(self) -> None:
        commit(self.github.path, {self.random.choice([*NAMES, "autosaves/2026"]): None})

    def _rename(self) -> None:
        old, new = self.random.sample(NAMES, 2)
        content = git(self.github.path, "cat-file", "blob", f"main:{old}")
        commit(self.github.path, {old: None, new: content})

    def _rewrite(self) -> None:
        """What was pushed last is gone; something else is there, or what was before."""
        back = f"main~{self.random.randint(1, 2)}"
        self.heads.rewritten_at = datetime.now(UTC)
        if self.may_set_back and self.random.random() < 0.5:
            # To those who saw the newer commit this looks like a replica that lags.
            self.heads.doubtful.append((datetime.now(UTC), None))
            git(self.github.path, "update-ref", "refs/heads/main", back)
        else:
            commit(self.github.path, {self.random.choice(NAMES): self.text()}, parent=back)

    def text(self) -> bytes:
        choose = self.random.choice
        day = choose(["", *(f"occurred_at: 2026-11-0{n}T12:00:00Z\n" for n in range(1, 4))])
        return (
            f"---\ntitle: T{self.random.randrange(10**6)}\n{day}"
            f"status: {choose(['open', 'done'])}\n"
            f"project: {choose(['Reading room', 'Attic', 'nowhere'])}\n---\nText.\n"
        ).encode()

    # What agents do

    async def write(self, system: System) -> None:
        path = self.random.choice(NAMES)
        operation: Mapping[str, object] = self.random.choice(
            [
                {"updateSession": {"id": path, "status": self.random.choice(["open", "done"])}},
                {"createSession": {"title": "New", "markdown": "x", "path": path}},
                {"delete": {"id": path}},
                {"rename": {"id": path, "path": self.random.choice(NAMES)}},
            ]
        )
        answer = await system.ask(WRITE, operations=[operation])
        if answer.data and answer.data["commitDocuments"]:
            oid = answer.data["commitDocuments"]["commit"]["oid"]
            self.acknowledged.append((system, datetime.now(UTC), oid))

    async def read(self, system: System) -> None:
        question = self.random.choice(POOL)
        trust: dict[str, Any] = {"consistency": self.random.choice(["CACHE", "CACHE", *LEVELS])}
        if "$atLeast" in question.text and self.acknowledged and self.random.random() < 0.2:
            trust["atLeast"] = self.random.choice(self.acknowledged)[2]
        elif self.random.random() < 0.2:
            trust["maxStaleness"] = 0
        reply = await put(system, question, **trust)
        if reply.errors:
            self.told["error"] += 1
            self.check_error(reply, trust)
        else:
            told = reply.told[0] if reply.told else None
            self.told[f"{told.source} {told.fallback}" if told else "null"] += 1
            self.check(system, reply, trust)

    # What must be true

    def check(self, system: System, reply: Reply, trust: Mapping[str, Any]) -> None:
        try:
            self.truth.check(reply)
            for told in reply.told:
                assert self.heads.were(told.commit, told.as_of), "it was not the head any more then"
                check_named(told.way, trust["consistency"])
            limit = timedelta(seconds=trust.get("maxStaleness", LATE.total_seconds()))
            since = reply.asked_at - (limit if trust["consistency"] == "CACHE" else timedelta(0))
            if not reply.told:
                self._check_absent(reply, since)
                return
            told = reply.told[0]
            if told.stale:
                return
            assert told.as_of >= since, "it is older than was asked for"
            for by, at, oid in self.acknowledged:
                is_known = by is system or oid == trust.get("atLeast")
                if is_known and at < reply.asked_at and not self._is_rewritten_since(at):
                    assert oid in self.truth.history(told.commit), f"{oid} was acknowledged"
        except AssertionError as broken:
            broken.add_note(f"{reply.question.name} {trust}: {reply.told[:1]}")
            raise

    def _check_absent(self, reply: Reply, since: datetime) -> None:
        """What is not there has no provenance. It was not there at a commit that would do."""
        assert reply.content is None
        heads = [head for head in self.heads.until if self.heads.were(head, since)]
        assert any(reply.question.says(self.truth.at(head)) is None for head in heads)

    def check_error(self, reply: Reply, trust: Mapping[str, Any]) -> None:
        if "atLeast" in trust and self.heads.rewritten_at:
            assert reply.codes <= {"BAD_INPUT", "MASTER_UNAVAILABLE"}
            return
        # A branch that was set back is not believed at once by those who compare.
        is_doubted = self.may_set_back and trust["consistency"] == "VERIFIED"
        assert self.may_trouble or is_doubted, f"an error without a cause: {reply.errors}"
        assert reply.codes <= {"MASTER_UNAVAILABLE"}

    def _is_rewritten_since(self, at: datetime) -> bool:
        return self.heads.rewritten_at is not None and self.heads.rewritten_at > at

    # What goes wrong

    async def sync(self) -> None:
        """As a worker does, which is left alone, stopped, or cut off anywhere."""
        how = self.random.choice(["left alone", "left alone", "stopped", "cut off"])
        if how == "cut off":
            self.to_worker.break_off(self.random.choice([0, 200, 1_000, 2_000, 4_000, 8_000]))
        syncing = asyncio.create_task(self._sync())
        if how == "stopped":
            await asyncio.sleep(self.random.uniform(0, 0.2))
            syncing.cancel()
        with suppress(asyncio.CancelledError, CacheUnavailable, MasterError):
            await syncing
        await self.to_worker.heal()

    async def _sync(self) -> None:
        async with open_parts(load(self.environment_of_worker)) as parts:
            await parts.reconciler.run()

    async def trouble_postgresql(self) -> None:
        wire = self.to_postgres
        match self.random.choice(["cut", "refused", "mute", "late", "cut off", "silent"]):
            case "cut":
                wire.cut()
            case "refused":
                await wire.refuse()
            case "mute":
                wire.hang()
            case "late":
                wire.back = self.random.choice([0.05, 1.0])
            case "cut off":
                wire.break_off(self.random.choice([0, 100, 500, 2_000]))
            case "silent":
                wire.break_off(self.random.choice([0, 100, 500, 2_000]), then="hang")

    def trouble_github(self) -> None:
        if self.random.random() < 0.3:
            self.heads.doubtful.append((datetime.now(UTC), None))
            self.github.faults.add(Fault(kind="lagging_head", operation="query", count=None))
            return
        kind = self.random.choice(TROUBLE)
        count = self.random.randint(1, 2)
        self.github.faults.add(Fault.model_validate({"kind": kind, "count": count}))

    async def heal(self) -> None:
        self.github.faults.clear()
        if self.may_trouble:
            self.heads.doubtful = [
                (begin, end or datetime.now(UTC)) for begin, end in self.heads.doubtful
            ]
        await self.to_postgres.heal()

    # All of it

    async def round(self) -> None:
        if self.random.random() < 0.5:
            await self.trouble_postgresql()
        if self.may_trouble and self.random.random() < 0.5:
            self.trouble_github()
        doing = [self._later(partial(self.read, system)) for system in self.systems * 2]
        if self.random.random() < 0.8:
            doing.append(self._later(self.push))
        if self.random.random() < 0.4:
            doing.append(self._later(partial(self.write, self.random.choice(self.systems))))
        if self.random.random() < 0.6:
            doing.append(self.sync())
        async with asyncio.TaskGroup() as tasks:
            for one_of_them in doing:
                tasks.create_task(one_of_them)
        if self.random.random() < 0.6:
            await self.heal()

    async def _later(self, do: Callable[[], Awaitable[None]]) -> None:
        await asyncio.sleep(self.random.uniform(0, 0.05))
        await do()

    async def end(self) -> None:
        """When all is quiet, both answer from a cache that is in step, and agree with git."""
        await self.heal()
        commit(self.github.path, {NAMES[0]: self.text()})
        self.github.hosting.observe()

        for system in self.systems:
            await until(partial(self._is_in_step, system), "the cache is in step")
            for question in POOL:
                await until(partial(self._is_matched, system, question), "all is as at the master")

    async def _is_in_step(self, system: System) -> bool:
        with suppress(CacheUnavailable, MasterError):
            await self._sync()
        reply = await put(system, POOL[4])
        self.check(system, reply, {"consistency": "CACHE"})
        return (reply.told[0].source, reply.commit) == ("CACHE", self.github.head)

    async def _is_matched(self, system: System, question: Question) -> bool:
        """On a busy machine PostgreSQL may be called down again, for a moment."""
        reply = await put(system, question, consistency="VERIFIED")
        self.check(system, reply, {"consistency": "VERIFIED"})
        return {told.verification for told in reply.told} <= {"MATCHED"}


def check_named(way: tuple[str, bool, str | None, str | None], level: str) -> None:
    """No answer comes from elsewhere, or is older than it should be, without a word of it."""
    source, stale, fallback, verification = way
    match level:
        case "CACHE":
            assert verification is None
            if source == "CACHE":
                assert (stale, fallback) in {(False, None), (True, "MASTER_UNAVAILABLE")}
            else:
                assert fallback in FALLBACKS
        case "MASTER":
            assert way == ("MASTER", False, None, None)
        case _:
            assert way[:3] == ("MASTER", False, None)
            assert verification is not None


WRITE = """
mutation Write($operations: [DocumentOperation!]!) {
  commitDocuments(operations: $operations) { commit { oid } cache }
}
"""


@asynccontextmanager
async def world(number: int, github: GitHub, database_url: str) -> AsyncIterator[World]:
    environment = {
        "DATABASE_TIMEOUT_SECONDS": "1",
        "MASTER_TIMEOUT_SECONDS": "10",
        "DATABASE_URL": database_url,
        "GITHUB_TOKEN": github.token,
        "GITHUB_REPOSITORY": github.hosting.name,
        "GITHUB_API_URL": github.url,
    }
    async with (
        Wire.to_postgres(database_url) as to_postgres,
        Wire.to_postgres(database_url) as to_worker,
        running(github, to_postgres.url_of(database_url), environment) as system,
        running(github, database_url, environment) as other,
    ):
        environment["DATABASE_URL"] = to_worker.url_of(database_url)
        environment["DATABASE_TIMEOUT_SECONDS"] = "5"
        yield World(
            number,
            github,
            systems=(system, other),
            to_postgres=to_postgres,
            to_worker=to_worker,
            environment_of_worker=environment,
        )


@pytest.mark.parametrize("number", range(HISTORIES))
@pytest.mark.timeout(300)
async def test_every_answer_is_true_and_honest(
    github: GitHub, database_url: str, number: int
) -> None:
    async with world(number, github, database_url) as there:
        try:
            for _ in range(ROUNDS):
                await there.round()
            await there.end()
        except BaseException as error:
            error.add_note(f"READS_SEED={SEED}")
            raise
        print(f"seed {SEED}, history {number}: {there.told}")  # noqa: T201
