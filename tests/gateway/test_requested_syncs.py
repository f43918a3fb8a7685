"""Requests for a sync: however many ask, few run; none is lost, whatever is away meanwhile."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from api.gateway import gateway as module
from api.gateway.gateway import Gateway
from sandbox.github import Fault, GitHub
from sandbox.postgres import Postgres
from sandbox.redis import Redis
from tests.clone import Clone
from tests.freezing import frozen
from tests.system import System, running
from tests.waiting import cached_commit, reaches, settled, until


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failed syncs are tried again sooner."""
    monkeypatch.setattr(module, "_FIRST_PAUSE", 0.05)


@pytest.fixture
async def redis() -> AsyncIterator[Redis]:
    async with Redis() as server:
        yield server


class Bell:
    """A doorbell that takes its time, and is heard or not."""

    def __init__(self, gateway: Gateway, *, heard: bool) -> None:
        self.rings = 0
        self.rung = asyncio.Event()
        self.answered = asyncio.Event()
        self._heard = heard
        gateway._ring = self.ring

    async def ring(self, job: str) -> bool:
        assert job == "sync"
        self.rings += 1
        self.rung.set()
        await self.answered.wait()
        return self._heard


def ask(gateway: Gateway, times: int = 1_000) -> None:
    for number in range(times):
        gateway.request_sync(f"{number:040x}" if number % 2 else None)


async def test_however_many_ask_at_once_one_task_rings_once(system: System) -> None:
    gateway = system.parts.gateway
    bell = Bell(gateway, heard=True)
    bell.answered.set()

    ask(gateway)

    assert len(gateway._tidying) == 2  # one syncs, and one looks again later
    await settled(system)
    assert bell.rings == 1


async def test_those_who_ask_while_a_ring_is_under_way_become_one_more(system: System) -> None:
    gateway = system.parts.gateway
    bell = Bell(gateway, heard=True)
    gateway.request_sync()
    await bell.rung.wait()

    ask(gateway)

    assert len(gateway._tidying) == 2
    bell.answered.set()
    await settled(system)
    assert bell.rings == 2


async def test_a_request_after_all_were_met_is_met_too(system: System) -> None:
    gateway = system.parts.gateway
    bell = Bell(gateway, heard=True)
    bell.answered.set()
    gateway.request_sync()
    await settled(system)

    gateway.request_sync()

    await settled(system)
    assert bell.rings == 2


async def test_who_asks_after_a_sync_has_seen_the_head_gets_one_more_sync(
    system: System, github: GitHub, clone: Clone
) -> None:
    clone.push({"autosaves/one.md": "# One\n"})
    slow = github.faults.add(Fault(kind="latency", operation_name="Trees", ms=500))
    system.parts.gateway.request_sync()
    await slow.wait_until_struck()  # it walks the trees of the head that it saw
    newest = clone.push({"autosaves/two.md": "# Two\n"})

    ask(system.parts.gateway)
    await settled(system)

    assert await cached_commit(system) == newest
    heads = [request for request in github.requests if request.operation_name == "Head"]
    assert len(heads) <= 3, "the first build, and two syncs for a thousand requests"


@pytest.mark.usefixtures("quick")
async def test_a_requested_sync_is_tried_again_while_github_is_away(
    system: System, github: GitHub, clone: Clone
) -> None:
    pushed = clone.push({"autosaves/pushed.md": "# Pushed\n"})
    down = github.faults.add(Fault(kind="dropped", count=8))

    system.parts.gateway.request_sync()
    await settled(system)

    assert down.struck == 8
    assert await cached_commit(system) == pushed


@pytest.mark.usefixtures("quick")
async def test_a_sync_waits_as_long_as_github_asks_for(
    system: System, github: GitHub, clone: Clone
) -> None:
    pushed = clone.push({"autosaves/pushed.md": "# Pushed\n"})
    github.faults.add(Fault(kind="secondary_rate_limit", count=None, for_ms=900, retry_after=1))

    system.parts.gateway.request_sync()
    await until(reaches(system, pushed), "the push has arrived")

    heads = [request for request in github.requests if request.operation_name == "Head"]
    assert len(heads) <= 3, "the first build, the one that was refused, and the one after"


@pytest.mark.usefixtures("quick")
async def test_a_replica_that_lags_behind_is_asked_again(
    system: System, github: GitHub, clone: Clone
) -> None:
    old = github.head
    clone.push({"autosaves/one.md": "# One\n"})
    await system.sync()
    newest = clone.push({"autosaves/two.md": "# Two\n"})
    lagging = github.faults.add(Fault(kind="lagging_head", head=old, count=3))

    system.parts.gateway.request_sync(newest)
    await settled(system)

    assert lagging.struck == 3
    assert await cached_commit(system) == newest


@pytest.mark.usefixtures("quick")
async def test_a_requested_sync_is_tried_again_while_postgresql_is_away(
    github: GitHub, postgres: Postgres, clone: Clone
) -> None:
    async with running(github, postgres.url) as system:
        await system.sync()
        await postgres.kill()
        pushed = clone.push({"autosaves/pushed.md": "# Pushed\n"})
        system.parts.gateway.request_sync(pushed)
        await until(lambda: _is_down(system), "it is noticed")

        await postgres.start()
        await settled(system)

        assert await cached_commit(system) == pushed


async def _is_down(system: System) -> bool:
    return system.parts.gateway.cache.database.is_down


async def test_with_redis_frozen_the_sync_happens_here_and_the_process_ends(
    github: GitHub, database_url: str, redis: Redis, clone: Clone
) -> None:
    async with running(github, database_url, {"REDIS_URL": redis.url}) as system:
        await system.sync()
        await system.parts.doorbell.ring("sync")  # so that it holds a connection
        with frozen(redis):
            pushed = clone.push({"autosaves/pushed.md": "# Pushed\n"})
            system.parts.gateway.request_sync(pushed)
            await until(reaches(system, pushed), "the push has arrived")


async def test_a_process_ends_in_the_middle_of_a_ring_that_is_not_answered(
    github: GitHub, database_url: str, redis: Redis
) -> None:
    with frozen(redis):
        async with running(github, database_url, {"REDIS_URL": redis.url}) as system:
            assert system.parts.doorbell.redis
            pool = system.parts.doorbell.redis.connection_pool

            async def rings() -> bool:
                return bool(pool._in_use_connections)

            system.parts.gateway.request_sync()
            await until(rings, "Redis is rung")


async def test_a_process_ends_while_a_sync_waits_for_its_next_try(
    system: System, caplog: pytest.LogCaptureFixture
) -> None:
    async def failed() -> bool:
        return "the sync is tried again" in caplog.text

    await system.github.stop()
    system.parts.gateway.request_sync()
    await until(failed, "the sync failed")

    assert system.parts.gateway._tidying


async def test_a_push_that_a_lagging_replica_hid_is_looked_for_again(
    system: System, github: GitHub, clone: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody tells of it a second time, and the hourly sync is far away."""
    monkeypatch.setattr(module, "LAG_SECONDS", 0.2)
    github.faults.add(Fault(kind="lagging_head", head=github.head, operation_name="Head"))
    pushed = clone.push({"autosaves/pushed.md": "# Pushed\n"})

    system.parts.gateway.request_sync(pushed)

    await until(reaches(system, pushed), "the push has arrived")
    await asyncio.wait({task for task in [system.parts.gateway._looking] if task})
    before = system.requests
    system.parts.gateway.request_sync(pushed)
    await asyncio.wait({task for task in [system.parts.gateway._looking] if task})
    assert system.requests == before, "what has arrived is looked for no more"
