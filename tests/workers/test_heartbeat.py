"""A worker's sign of life: a row every few seconds, and a warning where there is none."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

import workers.heartbeat
from api.cache.database import CacheUnavailable
from api.cache.tables import WorkerRow
from api.cache.workers import Workers
from api.wiring import Parts, open_parts
from sandbox.github import GitHub
from sandbox.postgres import Postgres
from sandbox.redis import Redis
from tests.system import running
from tests.waiting import until
from tests.workers.conftest import at_work, settings_of
from workers.heartbeat import beat


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers.heartbeat, "EVERY", 0.05)


@contextlib.asynccontextmanager
async def beating(parts: Parts) -> AsyncIterator[Workers]:
    task = asyncio.create_task(beat(parts))
    try:
        yield Workers(parts.reconciler.cache.database)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def seen(workers: Workers, *, after: datetime | None = None) -> bool:
    try:
        known = await workers.known()
    except CacheUnavailable:
        return False
    return bool(known) and (after is None or known[0].seen_at > after)


async def test_a_worker_writes_one_row_again_and_again(parts: Parts) -> None:
    async with beating(parts) as workers:
        await until(lambda: seen(workers), "the worker is seen")
        [first] = await workers.known()
        await until(lambda: seen(workers, after=first.seen_at), "it is seen again")

        [now] = await workers.known()

    assert (now.name, now.started_at) == (first.name, first.started_at)
    assert now.started_at <= first.seen_at < now.seen_at


async def test_two_workers_have_two_rows(parts: Parts) -> None:
    async with beating(parts) as workers, beating(parts):

        async def both() -> bool:
            return len(await workers.known()) == 2

        await until(both, "both are seen")


async def test_a_row_tells_what_github_told_of_the_quota(parts: Parts) -> None:
    await parts.reconciler.run()

    async with beating(parts) as workers:
        await until(lambda: seen(workers), "the worker is seen")
        [row] = await workers.known()

    assert row.quota_limit == 5000
    assert row.quota_remaining is not None
    assert 0 < row.quota_remaining < 5000
    assert row.quota_resets_at is not None
    assert row.quota_resets_at > datetime.now(UTC)
    assert row.token_expires_at is None


async def test_a_row_tells_when_the_token_ends(parts: Parts, github: GitHub) -> None:
    ends_at = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    github.tokens[github.token] = replace(github.tokens[github.token], token_ends=ends_at)
    await parts.reconciler.run()

    async with beating(parts) as workers:
        await until(lambda: seen(workers), "the worker is seen")
        [row] = await workers.known()

    assert row.token_expires_at == ends_at


async def test_a_lost_postgresql_is_said_once_and_waited_for(
    github: GitHub, postgres: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_parts(settings_of(github, postgres.url)) as parts, beating(parts) as workers:
        await until(lambda: seen(workers), "the worker is seen")
        await postgres.kill()

        async def said() -> bool:
            return "nobody sees that this worker lives" in caplog.text

        await until(said, "it is said")
        lost_at = datetime.now(UTC)
        await postgres.start()
        await until(lambda: seen(workers, after=lost_at), "it is seen again")

    records = [r for r in caplog.records if r.name == "workers.heartbeat"]
    assert [record.levelno for record in records] == [logging.WARNING]


async def test_a_worker_without_redis_lives(
    github: GitHub, database_url: str, redis: Redis
) -> None:
    await redis.kill()
    async with at_work(settings_of(github, database_url, REDIS_URL=redis.url)) as parts:
        workers = Workers(parts.reconciler.cache.database)
        await until(lambda: seen(workers), "the worker is seen")


# Readiness


async def warnings(github: GitHub, database_url: str, **environment: str) -> list[str]:
    async with (
        running(github, database_url, environment) as system,
        system.http.get(f"{system.url}/readyz") as response,
    ):
        assert response.status == 200
        told = (await response.json())["warnings"]
    return [warning for warning in told if "worker" in warning]


async def last_seen(parts: Parts, age: timedelta) -> None:
    at = datetime.now(UTC) - age
    await Workers(parts.reconciler.cache.database).beat(
        WorkerRow(name="w", started_at=at, seen_at=at)
    )


async def test_readyz_misses_no_worker_where_there_is_to_be_none(
    github: GitHub, database_url: str
) -> None:
    assert await warnings(github, database_url) == []


async def test_readyz_misses_a_worker_that_never_was(
    github: GitHub, database_url: str, redis: Redis
) -> None:
    [warning] = await warnings(github, database_url, REDIS_URL=redis.url)

    assert "No worker was seen so far" in warning


async def test_readyz_is_content_with_a_worker_that_was_just_seen(
    github: GitHub, database_url: str, parts: Parts
) -> None:
    await last_seen(parts, timedelta(seconds=5))

    assert await warnings(github, database_url) == []


async def test_readyz_tells_for_how_long_no_worker_was_seen(
    github: GitHub, database_url: str, parts: Parts
) -> None:
    await last_seen(parts, timedelta(minutes=30))

    [warning] = await warnings(github, database_url)

    assert "for 180" in warning
