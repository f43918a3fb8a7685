"""The consistency table, cell by cell: what each level answers, whatever has become of the stores.

A row says what a provenance has to be. Every query of the contract is asked in it, and what it
answers is compared with what git shows at the commit that it names.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from sandbox.github import Fault, GitHub
from sandbox.redis import Redis
from tests.clone import git
from tests.filling import fill
from tests.sync.oracle import commit as push
from tests.system import System, running
from tests.truth import (
    DRILL,
    GARDEN,
    QUESTIONS,
    ROOM,
    SEEDS,
    Question,
    Reply,
    Truth,
    one,
    page,
    put,
)
from tests.waiting import settled, until
from tests.wire import Wire
from tests.writes.asking import write

PATIENT = {"DATABASE_TIMEOUT_SECONDS": "10"}  # so that no busy machine is taken for a dead one
HEAD = "the master's head"
FEW = [
    question
    for question in QUESTIONS
    if question.name in {f"session {DRILL}", "projects"} or "first" in question.variables
]
TABLES = ("sessions", "projects", "priorities")


@dataclass
class Stage:
    """A gateway with an empty memory, and all that may be done to what it stands on."""

    system: System
    wire: Wire
    database_url: str
    truth: Truth
    cached: str
    """The commit that the cache was brought to last."""

    @property
    def github(self) -> GitHub:
        return self.system.github

    @property
    def head(self) -> str:
        return self.github.head or ""

    async def sql(self, change: str) -> None:
        """Change every row that holds a document."""
        connection = await asyncpg.connect(self.database_url)
        for table in TABLES:
            await connection.execute(f"UPDATE {table} SET {change}")  # noqa: S608 - ours
        await connection.close()


@asynccontextmanager
async def staged(
    github: GitHub, database_url: str, redis: Redis, *, filled: bool = True
) -> AsyncIterator[Stage]:
    """Nobody syncs: the worker that is rung for is not there."""
    cached = github.head or ""
    environment = {**PATIENT, "REDIS_URL": redis.url}
    async with Wire.to_postgres(database_url) as wire:
        if filled:
            await fill(github, database_url)
        async with running(github, wire.url_of(database_url), environment) as system:
            yield Stage(system, wire, database_url, Truth(github.path), cached)


@pytest.fixture
async def stage(github: GitHub, database_url: str, redis_server: Redis) -> AsyncIterator[Stage]:
    async with staged(github, database_url, redis_server) as stage:
        yield stage


# What may have become of the stores. Each is brought about again before every question.

counted = iter(range(1_000_000))


async def in_step(stage: Stage) -> None:
    pass


async def behind(stage: Stage) -> None:
    """Somebody pushed, and no sync was."""
    if stage.head != stage.cached:
        return
    text = f"---\ntitle: Pushed {next(counted)}\nproject: Reading room\n---\nNew.\n".encode()
    push(
        stage.github.path,
        {**dict.fromkeys([DRILL, GARDEN, SEEDS], text), "autosaves/2026/12/new.md": text},
    )


async def cold(stage: Stage) -> None:
    await stage.sql("markdown = NULL")


async def corrupt(stage: Stage) -> None:
    await stage.sql("markdown = markdown || 'x'")


async def master_down(stage: Stage) -> None:
    await stage.github.stop()


async def cache_down(stage: Stage) -> None:
    await stage.wire.refuse()


async def behind_and_master_down(stage: Stage) -> None:
    await behind(stage)
    await master_down(stage)


async def both_down(stage: Stage) -> None:
    await cache_down(stage)
    await master_down(stage)


State = Callable[[Stage], Awaitable[None]]
Way = tuple[str, bool, str | None, str | None]  # source, stale, fallback, verification


@dataclass(frozen=True)
class Row:
    """A level, with what may be said besides, and the provenance that it has to have.

    In place of a provenance the code of an error.
    """

    level: str
    is_told: Way | str
    trust: Mapping[str, Any]


def row(level: str, is_told: Way | str, **trust: Any) -> Row:
    return Row(level, is_told, trust)


CACHE = ("CACHE", False, None, None)
MASTER = ("MASTER", False, None, None)
MATCHED = ("MASTER", False, None, "MATCHED")
REPAIRED = ("MASTER", False, None, "REPAIRED")
UNCOMPARED = ("MASTER", False, None, "CACHE_UNAVAILABLE")
STALE = ("CACHE", True, "MASTER_UNAVAILABLE", None)
DOWN = "MASTER_UNAVAILABLE"


def instead(reason: str) -> Way:
    return "MASTER", False, reason, None


TABLE: Sequence[tuple[State, Sequence[Row]]] = [
    (
        in_step,
        [
            row("CACHE", CACHE),
            row("CACHE", CACHE, maxStaleness=2**31 - 1),
            row("CACHE", CACHE, atLeast=HEAD),
            row("CACHE", instead("CACHE_STALE"), maxStaleness=0),
            row("CACHE", instead("CACHE_STALE"), maxStaleness=0, atLeast=HEAD),
            row("MASTER", MASTER),
            row("MASTER", MASTER, maxStaleness=0, atLeast=HEAD),
            row("VERIFIED", MATCHED),
            row("VERIFIED", MATCHED, maxStaleness=0, atLeast=HEAD),
        ],
    ),
    (
        behind,
        [
            row("CACHE", CACHE),
            row("CACHE", instead("CACHE_STALE"), maxStaleness=0),
            row("CACHE", instead("BEHIND_AT_LEAST"), atLeast=HEAD),
            row("MASTER", MASTER),
            row("VERIFIED", REPAIRED),
        ],
    ),
    (cold, [row("CACHE", CACHE), row("MASTER", MASTER), row("VERIFIED", MATCHED)]),
    (corrupt, [row("MASTER", MASTER), row("VERIFIED", REPAIRED)]),
    (
        master_down,
        [
            row("CACHE", CACHE),
            row("CACHE", CACHE, atLeast=HEAD),
            row("CACHE", STALE, maxStaleness=0),
            row("MASTER", DOWN),
            row("VERIFIED", DOWN),
        ],
    ),
    (
        behind_and_master_down,
        [row("CACHE", CACHE), row("CACHE", STALE, atLeast=HEAD), row("MASTER", DOWN, atLeast=HEAD)],
    ),
    (
        cache_down,
        [
            row("CACHE", instead("CACHE_UNAVAILABLE")),
            row("CACHE", instead("CACHE_UNAVAILABLE"), maxStaleness=0),
            row("CACHE", instead("CACHE_UNAVAILABLE"), atLeast=HEAD),
            row("MASTER", MASTER),
            row("VERIFIED", UNCOMPARED),
        ],
    ),
    (both_down, [row("CACHE", DOWN), row("MASTER", DOWN), row("VERIFIED", DOWN)]),
]
WITHOUT_A_CACHE: Sequence[tuple[State, Sequence[Row]]] = [
    (
        in_step,
        [
            row("CACHE", instead("CACHE_EMPTY")),
            row("CACHE", instead("CACHE_EMPTY"), maxStaleness=2**31 - 1),
            row("CACHE", instead("CACHE_EMPTY"), atLeast=HEAD),
            row("MASTER", MASTER),
            row("VERIFIED", UNCOMPARED),
        ],
    ),
    (master_down, [row("CACHE", DOWN), row("MASTER", DOWN), row("VERIFIED", DOWN)]),
]


async def ask(stage: Stage, question: Question, row: Row) -> Reply:
    head = stage.head
    trust = {name: head if said == HEAD else said for name, said in row.trust.items()}
    return await put(stage.system, question, consistency=row.level, **trust)


async def check(stage: Stage, state: State, row: Row) -> None:
    """Ask all that can be asked so; with more than a level, or in vain, a few of them."""
    is_plain = not row.trust and not isinstance(row.is_told, str)
    for question in QUESTIONS if is_plain else FEW:
        await state(stage)
        reply = await ask(stage, question, row)
        try:
            check_reply(stage, row, reply)
        except AssertionError as broken:
            broken.add_note(f"{row} of {question.name}: {reply.told[:1]} {reply.errors}")
            raise
        if row.is_told == REPAIRED:
            stage.cached = stage.head
            again = await put(stage.system, question)
            stage.truth.check(again)
            assert {told.way for told in again.told} <= {CACHE}


def check_reply(stage: Stage, row: Row, reply: Reply) -> None:
    if isinstance(row.is_told, str):
        assert (reply.content, reply.codes) == (None, {row.is_told})
        return
    commit = stage.cached if row.is_told[0] == "CACHE" else stage.head
    stage.truth.check(reply)
    assert reply.content == reply.question.says(stage.truth.at(commit))
    assert {told.commit for told in reply.told} <= {commit}
    ways = {told.way for told in reply.told}
    if row.is_told == REPAIRED and ways:
        # What hangs on a document may be damaged where the document itself is not.
        assert REPAIRED in ways
        assert ways <= {REPAIRED, MATCHED}
    else:
        assert ways <= {row.is_told}
    if row.level != "CACHE" or (row.trust.get("maxStaleness") == 0 and row.is_told != STALE):
        assert all(told.as_of >= reply.asked_at for told in reply.told), "looked up before"


@pytest.mark.parametrize(("state", "rows"), TABLE, ids=[state.__name__ for state, _ in TABLE])
async def test_every_query_at_every_level(stage: Stage, state: State, rows: Sequence[Row]) -> None:
    for row in rows:
        await check(stage, state, row)


@pytest.mark.parametrize(
    ("state", "rows"), WITHOUT_A_CACHE, ids=[state.__name__ for state, _ in WITHOUT_A_CACHE]
)
async def test_every_query_at_every_level_before_the_first_sync(
    github: GitHub, database_url: str, redis_server: Redis, state: State, rows: Sequence[Row]
) -> None:
    async with staged(github, database_url, redis_server, filled=False) as stage:
        for row in rows:
            await check(stage, state, row)


# Bodies that the cache does not have


async def test_cold_bodies_of_a_page_cost_one_request_and_are_kept(
    github: GitHub, database_url: str, redis_server: Redis
) -> None:
    question = page(first=20)
    async with staged(github, database_url, redis_server) as stage:
        await cold(stage)
        first = await put(stage.system, question)
        asked = stage.system.requests
        await settled(stage.system)
    async with running(github, database_url, PATIENT) as later:  # with no memory of its own
        second = await put(later, question)
        requests = later.requests

    for reply in (first, second):
        stage.truth.check(reply)
        assert {told.way for told in reply.told} == {CACHE}
    assert (asked, requests) == (1, 0)


async def test_titles_of_cold_documents_cost_no_request(stage: Stage) -> None:
    await cold(stage)
    await stage.github.stop()

    for where in (None, {"project": ROOM}, {"status": "done"}, {"titleContains": "о"}):
        reply = await put(stage.system, page(where, titles=True, first=20))
        stage.truth.check(reply)
        assert {told.way for told in reply.told} == {CACHE}
    assert stage.system.requests == 0


async def test_without_github_a_cold_body_is_an_error_and_everything_else_is_there(
    stage: Stage,
) -> None:
    await cold(stage)
    await stage.github.stop()

    answer = await stage.system.ask(
        """query Two($id: ID!) { whole: session(id: $id) { title markdown }
             rest: session(id: $id) { title status project { name } provenance { stale } } }""",
        id=DRILL,
    )

    assert [error["path"] for error in answer.errors] == [["whole", "markdown"]]
    assert answer.code == "MASTER_UNAVAILABLE"
    assert answer.data == {
        "whole": None,
        "rest": {
            "title": "Outage drill",
            "status": "done",
            "project": {"name": "Reading room"},
            "provenance": {"stale": False},
        },
    }


# maxStaleness


async def test_a_staleness_that_is_none_is_bad_input(stage: Stage) -> None:
    for seconds in (-1, -(2**31), 2**31, 0.5, "0"):
        for level in ("CACHE", "MASTER"):
            for question in FEW:
                reply = await put(stage.system, question, consistency=level, maxStaleness=seconds)

                assert (reply.content, reply.codes) == (None, {"BAD_INPUT"})


async def test_an_answer_that_is_not_stale_is_as_young_as_was_asked_for(stage: Stage) -> None:
    """The cache is passed by as soon as it is a second old, and not before."""
    seen_at = (await put(stage.system, page(first=1))).told[0].as_of

    async def is_passed_by() -> bool:
        reply = await put(stage.system, page(first=1), maxStaleness=1)
        stage.truth.check(reply)
        told = reply.told[0]
        assert told.as_of >= reply.asked_at - timedelta(seconds=1)
        if told.way == CACHE:
            assert told.as_of == seen_at
        else:
            assert told.way == instead("CACHE_STALE")
            assert reply.answered_at > seen_at + timedelta(seconds=1)
        return told.way != CACHE

    await until(is_passed_by, "a cache that nobody syncs grows old")


# atLeast


async def test_what_was_written_is_included_for_whoever_asks_for_it(stage: Stage) -> None:
    """A commit of the gateway's own, and one before it: from the cache, which has them."""
    old = stage.head
    new = (await write(stage.system, "updateSession", id=DRILL, status="new"))["commit"]["oid"]

    for commit in (new, old):
        for level, way in (("CACHE", CACHE), ("MASTER", MASTER), ("VERIFIED", MATCHED)):
            for question in FEW:
                reply = await put(stage.system, question, consistency=level, atLeast=commit)
                stage.truth.check(reply)
                assert {told.way for told in reply.told} == {way}
                assert reply.commit == new


async def test_a_commit_from_before_the_cache_was_built_is_included(
    github: GitHub, database_url: str, redis_server: Redis
) -> None:
    """The cache cannot know it. The master does."""
    old = github.head
    push(github.path, {DRILL: b"# Newer\n"})
    async with staged(github, database_url, redis_server) as stage:
        for level, way in (
            ("CACHE", instead("BEHIND_AT_LEAST")),
            ("MASTER", MASTER),
            ("VERIFIED", MATCHED),
        ):
            reply = await put(stage.system, one("session", DRILL), consistency=level, atLeast=old)
            stage.truth.check(reply)
            assert (reply.told[0].way, reply.commit) == (way, stage.head)


async def test_a_commit_that_is_not_on_the_branch_is_bad_input(stage: Stage) -> None:
    """Nor is one that a force-push took from it."""
    repository, base = stage.github.path, stage.head
    other = push(repository, {DRILL: b"# Elsewhere\n"})
    git(repository, "update-ref", "refs/heads/other", other)
    git(repository, "update-ref", "refs/heads/main", base)
    push(repository, {DRILL: b"# Here\n"})

    for level in ("CACHE", "MASTER", "VERIFIED"):
        for question in FEW:
            reply = await put(stage.system, question, consistency=level, atLeast=other)
            assert (reply.content, reply.codes) == (None, {"BAD_INPUT"})


@pytest.mark.parametrize("level", ["CACHE", "MASTER", "VERIFIED"])
async def test_a_commit_ahead_of_a_replica_that_lags_is_waited_for(
    stage: Stage, level: str
) -> None:
    lagging = stage.github.faults.add(Fault(kind="lagging_head", operation="query", count=2))
    pushed = push(stage.github.path, {DRILL: b"# Pushed\n"})

    reply = await put(stage.system, one("session", DRILL), consistency=level, atLeast=pushed)

    stage.truth.check(reply)
    assert (reply.commit, lagging.struck) == (pushed, 2)


async def test_a_replica_that_keeps_lagging_makes_nothing_old_fresh(stage: Stage) -> None:
    stage.github.faults.add(Fault(kind="lagging_head", operation="query", count=None))
    pushed = push(stage.github.path, {DRILL: b"# Pushed\n"})

    for level in ("CACHE", "VERIFIED"):
        reply = await put(stage.system, one("session", DRILL), consistency=level, atLeast=pushed)
        if reply.errors:
            assert reply.codes <= {"BAD_INPUT", "MASTER_UNAVAILABLE"}
        else:
            stage.truth.check(reply)
            assert reply.told[0].way == STALE


# A branch that is set back looks, to those who saw more of it, like a replica that lags


@pytest.mark.parametrize("known", [True, False], ids=["to-a-known-commit", "to-an-unknown-one"])
async def test_a_branch_that_is_set_back_is_no_error(stage: Stage, known: bool) -> None:
    repository = stage.github.path
    back = stage.head if known else push(repository, {DRILL: b"# Back\n"})
    push(repository, {DRILL: b"# Taken back\n"})
    await fill(stage.github, stage.database_url)
    git(repository, "update-ref", "refs/heads/main", back)

    for level in ("MASTER", "VERIFIED"):
        reply = await put(stage.system, one("session", DRILL), consistency=level)
        stage.truth.check(reply)
        assert reply.commit == back


# Readers who come while others wait for GitHub

MASTERLY: list[dict[str, Any]] = [
    {"consistency": "MASTER"},
    {"consistency": "VERIFIED"},
    {"maxStaleness": 0},
]
TRUST = pytest.mark.parametrize("trust", MASTERLY, ids=["MASTER", "VERIFIED", "too-old"])


@TRUST
async def test_whoever_comes_after_a_push_sees_it(stage: Stage, trust: dict[str, Any]) -> None:
    """A head that was looked up before may still be on its way to another reader."""
    for question in FEW:
        before = stage.head
        slow = stage.github.faults.add(
            Fault(kind="latency", when="after", operation="query", ms=150)
        )
        early = asyncio.create_task(put(stage.system, question, **trust))
        await slow.wait_until_struck()
        stage.cached = before
        await behind(stage)

        late = await put(stage.system, question, **trust)

        stage.truth.check(late)
        stage.truth.check(await early)
        assert late.commit == stage.head
        assert (await early).commit in {before, stage.head}


async def test_many_who_ask_the_same_at_once_share_what_is_asked_of_github(stage: Stage) -> None:
    question = page(first=4)
    for trust in MASTERLY:
        await put(stage.system, question, **trust)
    stage.github.faults.add(Fault(kind="latency", operation="query", ms=1_000, count=None))
    before = stage.system.requests

    replies = await asyncio.gather(
        *(put(stage.system, question, **trust) for trust in MASTERLY * 12)
    )

    for reply in replies:
        stage.truth.check(reply)
        assert reply.told[0].as_of >= reply.asked_at
    assert stage.system.requests - before < 18
