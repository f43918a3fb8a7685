"""The worker: rung by webhooks, driven by the clock, and no harm if Redis or GitHub fail."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from api.jobs import QUEUE, SYNC, Doorbell
from api.wiring import Parts
from sandbox.github import GitHub, Webhook
from sandbox.redis import Redis
from tests.clone import Clone
from tests.freezing import frozen
from tests.system import System, running
from tests.waiting import cached_commit, reaches, until
from tests.workers.conftest import at_work
from workers.tasks import health_check, retention, sync
from workers.worker import work

SECRET = "It's a Secret to Everybody"


@pytest.fixture
async def system(github: GitHub, database_url: str, redis: Redis) -> AsyncIterator[System]:
    environment = {"REDIS_URL": redis.url, "GITHUB_WEBHOOK_SECRET": SECRET}
    async with running(github, database_url, environment) as gateway:
        github.webhook = Webhook(f"{gateway.url}/webhooks/github", SECRET)
        yield gateway


async def test_a_worker_that_starts_catches_up_at_once(system: System) -> None:
    assert system.github.head is not None
    async with at_work(system.parts.settings):
        await until(reaches(system, system.github.head), "the cache is filled")

        async def checked() -> bool:
            answer = await system.ask("{ cacheStatus { lastHealthCheck { drifted } } }")
            return bool(answer.data["cacheStatus"]["lastHealthCheck"] == {"drifted": 0})

        await until(checked, "the first health check is done")


async def test_a_push_with_plain_git_reaches_the_cache(system: System, clone: Clone) -> None:
    async with at_work(system.parts.settings):
        await until(reaches(system, system.github.head or ""), "the cache is filled")

        pushed = clone.push({"autosaves/pushed.md": "# Pushed\n"})

        await until(reaches(system, pushed), "the push has arrived")


async def test_without_redis_the_webhook_is_heeded_all_the_same(
    system: System, redis: Redis, clone: Clone
) -> None:
    await system.sync()
    await redis.kill()

    pushed = clone.push({"autosaves/pushed.md": "# Pushed\n"})

    await until(reaches(system, pushed), "the push has arrived")


async def test_the_worker_survives_the_loss_of_redis(
    system: System, redis: Redis, clone: Clone
) -> None:
    async with at_work(system.parts.settings):
        await until(reaches(system, system.github.head or ""), "the cache is filled")
        await redis.kill()
        await redis.start()

        async def rung() -> bool:
            return await system.parts.doorbell.ring(SYNC)

        await until(rung, "Redis takes rings again")
        pushed = clone.push({"autosaves/pushed.md": "# Pushed\n"})
        await until(reaches(system, pushed), "the push has arrived")


async def test_the_worker_notices_a_frozen_redis_and_goes_on_when_it_thaws(
    system: System, redis: Redis, clone: Clone, caplog: pytest.LogCaptureFixture
) -> None:
    async def noticed() -> bool:
        return "Redis is lost" in caplog.text

    async with at_work(system.parts.settings):
        await until(reaches(system, system.github.head or ""), "the cache is filled")
        with frozen(redis):
            await until(noticed, "the worker notices")
        await system.parts.doorbell.ring(SYNC)  # what the thawed Redis had before is closed
        pushed = clone.push({"autosaves/pushed.md": "# Pushed\n"})
        await until(reaches(system, pushed), "the push has arrived")


async def test_a_worker_ends_though_redis_is_frozen(system: System, redis: Redis) -> None:
    with contextlib.ExitStack() as thawing:
        async with at_work(system.parts.settings):
            await until(reaches(system, system.github.head or ""), "the cache is filled")
            thawing.enter_context(frozen(redis))


async def test_a_worker_ends_though_its_first_cancellation_is_lost(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `asyncio.wait_for` of Python 3.11 loses it, in the midst of what is sent to Redis."""
    ringing = asyncio.Event()
    ring = parts.doorbell.ring

    async def losing(job: str, *, within: float = 1.0) -> bool:
        with contextlib.suppress(asyncio.CancelledError):
            ringing.set()
            await asyncio.Event().wait()
        return await ring(job, within=within)

    monkeypatch.setattr(parts.doorbell, "ring", losing)
    worker = asyncio.create_task(work(parts))
    await ringing.wait()

    worker.cancel()

    await asyncio.wait({worker}, timeout=60)
    assert worker.cancelled()


@pytest.mark.parametrize("known", [True, False], ids=["connected before", "new to it"])
async def test_a_frozen_redis_holds_neither_a_ring_nor_the_goodbye(
    redis: Redis, *, known: bool
) -> None:
    doorbell = Doorbell(redis.url)
    if known:
        assert await doorbell.ring(SYNC)

    with frozen(redis):
        async with asyncio.timeout(30):  # it never answers
            assert not await doorbell.ring(SYNC)
            await doorbell.close()

    assert await doorbell.ring(SYNC), "it thawed"
    await doorbell.close()


async def test_rings_within_a_second_become_one_job(redis: Redis) -> None:
    doorbell = Doorbell(redis.url)
    try:
        rings = await asyncio.gather(*(doorbell.ring(SYNC) for _ in range(50)))
        assert doorbell.redis
        queued = await doorbell.redis.zcard(QUEUE)
    finally:
        await doorbell.close()

    assert all(rings)
    assert 1 <= queued <= 2  # two if the second turned while they rang


async def test_jobs_do_no_harm_when_github_is_down(system: System) -> None:
    await sync(system.parts)
    head = await cached_commit(system)
    await system.github.stop()

    for job in (sync, health_check, retention):
        await job(system.parts)

    assert await cached_commit(system) == head


async def test_retention_lets_old_bodies_go_and_keeps_the_index(
    system: System, database_url: str
) -> None:
    import asyncpg  # noqa: PLC0415

    await system.sync()
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        "UPDATE sessions SET changed_at = $1", datetime(2026, 1, 1, tzinfo=UTC)
    )
    await connection.execute(
        "UPDATE sessions SET occurred_key = $1, occurred_at = $1", datetime(2026, 1, 1, tzinfo=UTC)
    )

    await retention(system.parts)

    hot = await connection.fetchval("SELECT count(markdown) FROM sessions")
    await connection.close()
    assert hot == 0
    answer = await system.ask(
        "{ sessions { totalCount nodes { markdown hot } } projects { nodes { hot } } }"
    )
    assert answer.data["sessions"]["totalCount"] == 6
    assert not any(node["hot"] for node in answer.data["sessions"]["nodes"])
    assert all(node["markdown"] for node in answer.data["sessions"]["nodes"])
    assert all(node["hot"] for node in answer.data["projects"]["nodes"])
