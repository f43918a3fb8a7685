"""The failure table, as readers meet it: servers that are killed, frozen, slow, mute, full or lost.

None of it is an error while one of the two stores is there, none of it makes old content fresh,
and nobody waits twice for the same dead server. How often a server was asked is counted on the
wire to it; time is bounded only where the point is that nothing hangs.
"""

import asyncio
import secrets
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from api.cache.migrate import migrate
from sandbox.github import Fault, GitHub
from sandbox.github.faults import Kind
from sandbox.postgres import UNSAFE_BUT_QUICK, Postgres
from sandbox.redis import Redis
from tests.conftest import run
from tests.filling import fill
from tests.freezing import frozen
from tests.sync.oracle import commit as push
from tests.system import System, running
from tests.truth import DRILL, ROOM, Question, Reply, Truth, one, page, put
from tests.waiting import until
from tests.wire import Wire

PATIENT = {"DATABASE_TIMEOUT_SECONDS": "10"}  # so that no busy machine is taken for a dead one
LONG = 20.0  # seconds; who waits for so long waits for something that does not come
FEW = [one("session", DRILL), one("project", ROOM), page(first=4)]
TITLE = page(first=1, titles=True)

Way = tuple[str, bool, str | None, str | None]  # source, stale, fallback, verification
CACHE = ("CACHE", False, None, None)
INSTEAD = ("MASTER", False, "CACHE_UNAVAILABLE", None)
TOO_OLD = ("MASTER", False, "CACHE_STALE", None)
MASTER = ("MASTER", False, None, None)
MATCHED = ("MASTER", False, None, "MATCHED")
OLD = ("CACHE", True, "MASTER_UNAVAILABLE", None)
EVERY_LEVEL = {
    "CACHE": INSTEAD,
    "MASTER": MASTER,
    "VERIFIED": ("MASTER", False, None, "CACHE_UNAVAILABLE"),
}


@dataclass
class Stage:
    """A gateway with a wire to each of its stores, and the cache in step with the master."""

    postgres: Postgres
    github: GitHub
    to_postgres: Wire
    to_github: Wire
    database_url: str
    system: System
    truth: Truth
    taken: AsyncExitStack = field(default_factory=AsyncExitStack)
    """What is given back when an outage ends."""

    @property
    def head(self) -> str:
        return self.github.head or ""

    async def ask(self, question: Question, **trust: object) -> Reply:
        """An answer in time. An error is one too."""
        async with asyncio.timeout(LONG):
            return await put(self.system, question, **trust)

    async def until_missed(self) -> None:
        """Until those who write would not wait for PostgreSQL any more, and go on without it."""
        database = self.system.parts.gateway.cache.database

        async def is_so() -> bool:
            silent_for = asyncio.get_running_loop().time() - database._silent_since
            return database.is_down or silent_for > database.timeout

        await until(is_so, "who writes has given up")

    async def until_cached(self) -> None:
        """Until the cache answers, and is at the master's head. Until then the master does."""

        async def is_so() -> bool:
            reply = await self.ask(TITLE)
            self.truth.check(reply)
            [told] = reply.told
            assert told.commit == self.head, "old content as fresh"
            assert told.way == CACHE or (told.source, told.stale) == ("MASTER", False)
            return told.way == CACHE

        await until(is_so, "the cache answers")


@pytest.fixture(scope="module")
def breakable() -> Iterator[Postgres]:
    """A PostgreSQL for the tests of this file, which put it right again."""
    with tempfile.TemporaryDirectory(prefix="annoris-outages-") as directory:
        server = Postgres(Path(directory) / "postgres", settings=UNSAFE_BUT_QUICK)
        run(server.start())
        try:
            run(migrate(server.url))
            yield server
        finally:
            run(server.kill())  # sooner than it would stop


@asynccontextmanager
async def staged(
    postgres: Postgres, github: GitHub, environment: Mapping[str, str]
) -> AsyncIterator[Stage]:
    name = f"test_{secrets.token_hex(6)}"
    await postgres.create_database(name, template="annoris")
    url = postgres.url_of(name)
    async with Wire.to_postgres(url) as to_postgres, Wire.to_http(github.url) as to_github:
        await fill(github, url)
        environment = {"GITHUB_API_URL": to_github.url_of(github.url), **environment}
        async with running(github, to_postgres.url_of(url), environment) as system:
            stage = Stage(postgres, github, to_postgres, to_github, url, system, Truth(github.path))
            try:
                async with stage.taken:
                    yield stage
            finally:
                await postgres.start()
    await postgres.drop_database(name)


# PostgreSQL


@pytest.fixture
async def stage(breakable: Postgres, github: GitHub) -> AsyncIterator[Stage]:
    async with staged(breakable, github, {"DATABASE_TIMEOUT_SECONDS": "0.5"}) as stage:
        await stage.until_cached()
        yield stage


async def killed(stage: Stage) -> None:
    await stage.postgres.kill()
    stage.taken.push_async_callback(stage.postgres.start)


async def stopped(stage: Stage) -> None:
    """SIGSTOP: it neither answers nor goes away."""
    stage.taken.enter_context(frozen(stage.postgres))


async def refused(stage: Stage) -> None:
    await stage.to_postgres.refuse()
    stage.taken.push_async_callback(stage.to_postgres.heal)


async def mute(stage: Stage) -> None:
    stage.to_postgres.hang()
    stage.taken.push_async_callback(stage.to_postgres.heal)


async def slow(stage: Stage) -> None:
    """Every answer comes, and too late."""
    stage.to_postgres.back = 3.0
    stage.taken.push_async_callback(stage.to_postgres.heal)


async def full(stage: Stage) -> None:
    """All its connections are taken by others, and ours are gone."""
    others = await stage.taken.enter_async_context(AsyncExitStack())
    ending = await asyncpg.connect(stage.database_url)
    await ending.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    others.push_async_callback(ending.close)
    with suppress(asyncpg.TooManyConnectionsError):
        while True:
            other = await asyncpg.connect(stage.database_url)
            others.push_async_callback(other.close)


Outage = Callable[[Stage], Awaitable[None]]


WITHOUT_POSTGRESQL = pytest.mark.parametrize(
    "begin", [killed, stopped, refused, mute, slow, full], ids=lambda begin: begin.__name__
)


async def check(stage: Stage, reply: Reply, *ways: Way) -> None:
    stage.truth.check(reply)
    assert {told.way for told in reply.told} <= set(ways)
    assert reply.commit == stage.head


@WITHOUT_POSTGRESQL
async def test_without_postgresql_the_master_answers_and_afterwards_the_cache(
    stage: Stage, begin: Outage
) -> None:
    await begin(stage)

    for question in FEW:
        for level, way in EVERY_LEVEL.items():
            await check(stage, await stage.ask(question, consistency=level), way)
    push(stage.github.path, {DRILL: b"# Pushed\n"})
    for level, way in EVERY_LEVEL.items():
        await check(stage, await stage.ask(FEW[0], consistency=level), way)

    await stage.until_missed()
    await stage.taken.aclose()

    await stage.until_cached()


@WITHOUT_POSTGRESQL
async def test_while_it_is_known_to_be_down_readers_leave_postgresql_alone(
    stage: Stage, begin: Outage
) -> None:
    """Only somebody who looks whether it is back comes by, and less and less often."""
    await begin(stage)
    await stage.ask(TITLE)
    before, readers = stage.to_postgres.accepted, 24

    for _ in range(readers):
        reply = await stage.ask(TITLE)
        assert reply.told[0].way == INSTEAD

    assert stage.to_postgres.accepted - before < readers / 2


async def test_postgresql_is_lost_at_any_place_in_its_answers(stage: Stage) -> None:
    for number, after in enumerate((0, 1, 7, 60, 300, 1_000, 2_500, 6_000)):
        question = FEW[number % len(FEW)]
        stage.to_postgres.break_off(after)

        await ask_in_the_middle(stage, question)

        await stage.to_postgres.heal()
        await stage.until_cached()


async def test_postgresql_falls_silent_at_any_place_in_its_answers(stage: Stage) -> None:
    for number, after in enumerate((0, 40, 400, 2_500)):
        question = FEW[number % len(FEW)]
        stage.to_postgres.break_off(after, then="hang")

        await ask_in_the_middle(stage, question)

        await stage.to_postgres.heal()
        await stage.until_cached()


async def ask_in_the_middle(stage: Stage, question: Question) -> None:
    """Ask until it has struck. All of an answer is true for one commit, wherever it came from."""
    for number in range(50):
        reply = await stage.ask(question, maxStaleness=3_000 + number)  # given again, it is no risk
        await check(stage, reply, CACHE, INSTEAD, TOO_OLD)
        if stage.to_postgres.strikes:
            stage.to_postgres.strikes = 0
            return
    raise AssertionError("so much is never answered")


async def test_many_readers_at_once_wait_no_longer_than_one(stage: Stage) -> None:
    """However many come at once to a server that is mute, each has an answer of the master's."""
    stage.to_postgres.hang()

    replies = await asyncio.gather(*(stage.ask(question) for question in FEW * 8))

    for reply in replies:
        await check(stage, reply, INSTEAD)


# GitHub


@pytest.fixture
async def masterly(breakable: Postgres, github: GitHub) -> AsyncIterator[Stage]:
    """Where GitHub is not waited for long."""
    environment = {**PATIENT, "MASTER_TIMEOUT_SECONDS": "0.5"}
    async with staged(breakable, github, environment) as stage:
        yield stage


async def github_killed(stage: Stage) -> None:
    await stage.github.stop()
    stage.taken.push_async_callback(stage.github.start)


async def github_refused(stage: Stage) -> None:
    await stage.to_github.refuse()
    stage.taken.push_async_callback(stage.to_github.heal)


async def github_mute(stage: Stage) -> None:
    stage.to_github.hang()
    stage.taken.push_async_callback(stage.to_github.heal)


async def github_slow(stage: Stage) -> None:
    stage.to_github.back = 5.0
    stage.taken.push_async_callback(stage.to_github.heal)


def failing(kind: Kind, **more: object) -> Outage:
    """Every request fails so."""

    async def begin(stage: Stage) -> None:
        stage.github.faults.add(Fault.model_validate({"kind": kind, "count": None, **more}))
        stage.taken.callback(stage.github.faults.clear)

    return begin


WITHOUT_GITHUB: Mapping[str, Outage] = {
    "killed": github_killed,
    "refused": github_refused,
    "mute": github_mute,
    "slow": github_slow,
    "502": failing("bad_gateway"),
    "504": failing("gateway_timeout"),
    "dropped": failing("dropped"),
    "dropped-late": failing("dropped", when="after"),
    "something-wrong": failing("something_wrong"),
    "credentials": failing("bad_credentials"),
    "repository": failing("repository_missing"),
}


@pytest.mark.parametrize("begin", WITHOUT_GITHUB.values(), ids=WITHOUT_GITHUB.keys())
async def test_without_github_the_cache_answers_and_the_rest_is_a_clear_error(
    masterly: Stage, begin: Outage
) -> None:
    await begin(masterly)

    await check_without_github(masterly, "MASTER_UNAVAILABLE")

    await masterly.taken.aclose()
    await until_masterly(masterly)


@pytest.mark.parametrize(
    "begin",
    [failing("rate_limit"), failing("secondary_rate_limit", retry_after=30)],
    ids=["primary", "secondary"],
)
async def test_a_rate_limit_is_like_no_github_and_says_when_to_come_again(
    masterly: Stage, begin: Outage
) -> None:
    await begin(masterly)

    errors = await check_without_github(masterly, "RATE_LIMITED")

    assert all(0 < error["extensions"]["retryAfter"] <= 3_660 for error in errors)


async def check_without_github(stage: Stage, code: str) -> list[Mapping[str, Any]]:
    """Returns the errors."""
    asked, errors = stage.to_github.asked, list[Mapping[str, Any]]()
    for question in FEW:
        await check(stage, await stage.ask(question), CACHE)
    assert stage.to_github.asked == asked, "the cache needs no GitHub"
    for question in FEW[1:]:
        await check(stage, await stage.ask(question, maxStaleness=0), OLD)
    for question in FEW[1:]:
        for level in ("MASTER", "VERIFIED"):
            reply = await stage.ask(question, consistency=level)
            assert (reply.content, reply.codes) == (None, {code})
            errors += reply.errors
    return errors


async def until_masterly(stage: Stage) -> None:
    async def is_back() -> bool:
        reply = await stage.ask(TITLE, consistency="MASTER")
        if not reply.errors:
            stage.truth.check(reply)
        return not reply.errors

    await until(is_back, "the master answers")


async def test_while_github_is_known_to_be_mute_readers_leave_it_alone(masterly: Stage) -> None:
    """Each who did not would wait for a time-out of his own."""
    masterly.to_github.hang()
    masterly.taken.push_async_callback(masterly.to_github.heal)
    await masterly.ask(TITLE, consistency="MASTER")
    before, readers = masterly.to_github.accepted, 12

    for _ in range(readers):
        reply = await masterly.ask(TITLE, consistency="MASTER")
        assert reply.codes == {"MASTER_UNAVAILABLE"}

    assert masterly.to_github.accepted - before < readers / 2
    await masterly.taken.aclose()
    await until_masterly(masterly)


async def test_github_is_lost_at_any_place_in_its_answers(masterly: Stage) -> None:
    """What came of it is never taken for the whole."""
    for number, after in enumerate((0, 1, 100, 400, 800)):
        question = FEW[number % len(FEW)]
        masterly.to_github.break_off(after)
        reply = await masterly.ask(question, consistency=("MASTER", "VERIFIED")[number % 2])
        if reply.errors:
            assert reply.codes == {"MASTER_UNAVAILABLE"}
        else:
            masterly.truth.check(reply)
            assert reply.commit == masterly.head
        await masterly.to_github.heal()
        await until_masterly(masterly)


@pytest.mark.parametrize("mode", ["corrupted", "truncated"])
async def test_a_body_that_was_damaged_on_its_way_is_no_body(
    breakable: Postgres, github: GitHub, mode: str
) -> None:
    async with staged(breakable, github, {}) as stage:
        await stage.to_postgres.refuse()
        await failing("corrupted_blob", mode=mode)(stage)

        reply = await stage.ask(FEW[0])

        if reply.errors:
            assert reply.codes == {"MASTER_UNAVAILABLE"}
        else:
            stage.truth.check(reply)


# Both


@pytest.mark.parametrize("one", [refused, mute], ids=lambda begin: begin.__name__)
@pytest.mark.parametrize("other", [github_refused, github_mute], ids=lambda begin: begin.__name__)
async def test_without_both_there_is_a_clear_error(
    masterly: Stage, one: Outage, other: Outage
) -> None:
    await one(masterly)
    await other(masterly)

    for level in EVERY_LEVEL:
        reply = await masterly.ask(TITLE, consistency=level)
        assert (reply.content, reply.codes) == (None, {"MASTER_UNAVAILABLE"})


# Redis and the worker


@pytest.fixture
async def redis(redis_server: Redis) -> AsyncIterator[Wire]:
    async with Wire("127.0.0.1", redis_server.port) as wire:
        yield wire


@pytest.mark.parametrize("failure", ["refused", "mute"])
async def test_without_redis_reads_are_what_they_were(
    breakable: Postgres, github: GitHub, redis: Wire, failure: str
) -> None:
    environment = {**PATIENT, "REDIS_URL": f"redis://127.0.0.1:{redis.port}/0"}
    async with staged(breakable, github, environment) as stage:
        if failure == "refused":
            await redis.refuse()
        else:
            redis.hang()

        for question in FEW:
            await check(stage, await stage.ask(question), CACHE)
            await check(stage, await stage.ask(question, maxStaleness=0), TOO_OLD)
            await check(stage, await stage.ask(question, consistency="MASTER"), MASTER)
            await check(stage, await stage.ask(question, consistency="VERIFIED"), MATCHED)
        await redis.heal()


async def test_without_a_worker_the_cache_ages_and_one_sync_catches_up(
    breakable: Postgres, github: GitHub, redis: Wire
) -> None:
    """It is rung for, and nobody comes."""
    url = f"redis://127.0.0.1:{redis.port}/0"
    environment = {**PATIENT, "REDIS_URL": url, "MAX_STALENESS_SECONDS": "1"}
    async with staged(breakable, github, environment) as stage:
        push(github.path, {DRILL: b"# Pushed\n"})
        await until(lambda: comes(stage, TOO_OLD), "the cache is too old")

        await fill(github, stage.database_url)

        for question in FEW:
            await check(stage, await stage.ask(question, maxStaleness=3_600), CACHE)


async def comes(stage: Stage, way: Way) -> bool:
    """Whether an answer comes this way. None is older than it may be."""
    reply = await stage.ask(FEW[2])
    stage.truth.check(reply)
    told = reply.told[0]
    assert told.way in {CACHE, TOO_OLD}
    assert told.as_of >= reply.asked_at - timedelta(seconds=1)
    if told.way == TOO_OLD:
        assert told.commit == stage.head
    return told.way == way
