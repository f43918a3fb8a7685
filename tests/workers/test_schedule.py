"""When the worker works: by the clock, at its start, and after what it missed."""

from datetime import UTC, datetime, timedelta

import pytest
from arq.connections import ArqRedis
from hypothesis import given
from hypothesis import strategies as st

import workers.worker
from api.cache.snapshot import CachedHead
from api.cache.tables import SyncRow
from api.jobs import HEALTH_CHECK, QUEUE, RETENTION
from api.settings import load
from api.wiring import Parts, open_parts
from sandbox.github import GitHub
from sandbox.redis import Redis
from tests.clone import Clone
from tests.freezing import frozen
from tests.test_settings import GOOD
from tests.waiting import until
from tests.workers.conftest import at_work, settings_of
from workers.people import People
from workers.tasks import health_check, retention
from workers.worker import _catch_up, _worker, last_tick, sync_minutes


@pytest.mark.parametrize(
    ("interval", "minute", "expected"),
    [
        ("60", "0", {0}),
        ("60", "37", {37}),
        ("15", "0", {0, 15, 30, 45}),
        ("15", "20", {5, 20, 35, 50}),
        ("7", "3", {3, 10, 17, 24, 31, 38, 45, 52, 59}),
        ("1", "59", set(range(60))),
    ],
)
def test_syncs_are_an_interval_apart_and_one_is_at_the_minute(
    interval: str, minute: str, expected: set[int]
) -> None:
    settings = load(GOOD | {"SYNC_INTERVAL_MINUTES": interval, "SYNC_MINUTE": minute})

    assert sync_minutes(settings) == expected


@given(st.datetimes(timezones=st.just(UTC), min_value=datetime(2020, 1, 2)), st.integers(0, 23))  # noqa: DTZ001
def test_the_last_tick_was_at_its_time_within_the_last_day(now: datetime, hour: int) -> None:
    tick = last_tick(now, hour=hour, minute=17)

    assert (tick.hour, tick.minute, tick.second, tick.microsecond) == (hour, 17, 0, 0)
    assert timedelta(0) <= now - tick < timedelta(days=1)


async def caught_up(parts: Parts, queue: ArqRedis) -> set[str]:
    """The jobs that are rung for, by name."""
    await queue.flushdb()
    for _ in range(3):
        await _catch_up(parts, queue)
    ids = [job.decode() for job in await queue.zrange(QUEUE, 0, -1)]
    assert len(ids) == len({name.partition(":")[0] for name in ids}), "each once"
    return {name.partition(":")[0] for name in ids}


async def test_what_was_missed_at_night_is_rung_for_once(parts: Parts, queue: ArqRedis) -> None:
    assert await caught_up(parts, queue) == {HEALTH_CHECK, RETENTION}

    await health_check(parts)
    assert await caught_up(parts, queue) == {RETENTION}

    await retention(parts)
    assert await caught_up(parts, queue) == set()


async def test_a_run_before_the_last_tick_or_a_failed_one_does_not_count(
    parts: Parts, queue: ArqRedis
) -> None:
    await health_check(parts)
    now = datetime.now(UTC)
    tick = last_tick(now, hour=3, minute=workers.worker.NIGHTLY[RETENTION])
    cache = parts.reconciler.cache
    before = tick - timedelta(seconds=1)
    await cache.log(SyncRow(kind=RETENTION, started_at=before, seconds=1))
    await cache.log(SyncRow(kind=RETENTION, started_at=now, seconds=1, error="It failed."))

    assert await caught_up(parts, queue) == {RETENTION}

    await cache.log(SyncRow(kind=RETENTION, started_at=tick, seconds=1))
    assert await caught_up(parts, queue) == set()


async def test_a_worker_that_starts_looks_at_github_though_the_cache_is_fresh(
    github: GitHub, database_url: str, redis: Redis, parts: Parts
) -> None:
    await health_check(parts)
    await retention(parts)
    cache, lately = parts.reconciler.cache, datetime.now(UTC)
    async with cache.snapshot() as snapshot:
        head = snapshot.head
    assert head is not None
    await cache.seen(CachedHead(head.commit, lately))
    github.requests.clear()

    async with at_work(settings_of(github, database_url, REDIS_URL=redis.url)):

        async def seen() -> bool:
            async with cache.snapshot() as snapshot:
                return snapshot.head is not None and snapshot.head.seen_at > lately

        await until(seen, "the head was seen")

    assert [request.operation_name for request in github.requests] == ["Head"]


async def test_every_tick_is_at_its_minute_in_utc(
    github: GitHub, database_url: str, queue: ArqRedis
) -> None:
    """With the machine's own time the minutes were others in Kathmandu."""
    environment = {"SYNC_INTERVAL_MINUTES": "30", "SYNC_MINUTE": "7"}
    async with open_parts(settings_of(github, database_url, **environment)) as parts:
        worker = _worker(parts, People([]), queue)

    assert worker.timezone is UTC
    assert {job.name: job.minute for job in worker.cron_jobs} == {
        "cron:sync": {7, 37},
        "cron:catch_up": {17, 47},
        "cron:alert": None,
    }
    assert all(job.unique for job in worker.cron_jobs), "whatever the number of workers"


async def test_a_worker_that_is_late_to_a_tick_leaves_it_alone(
    github: GitHub, database_url: str, redis: Redis, queue: ArqRedis
) -> None:
    async with at_work(settings_of(github, database_url, REDIS_URL=redis.url)):
        assert await queue.enqueue_job("cron:sync", _job_id="cron:sync:1")

        async def done() -> bool:
            return await queue.zscore(QUEUE, "cron:sync:1") is None

        await until(done, "the tick was worked off")

        assert await queue.enqueue_job("cron:sync", _job_id="cron:sync:1") is None


async def test_a_worker_that_lost_a_frozen_redis_comes_back_and_syncs_though_nobody_rings(
    parts: Parts, redis: Redis, clone: Clone, caplog: pytest.LogCaptureFixture
) -> None:
    head = clone.push({"autosaves/before.md": "# Before\n"})

    async def is_at_head() -> bool:
        async with parts.reconciler.cache.snapshot() as snapshot:
            return snapshot.head is not None and snapshot.head.commit == head

    async def noticed() -> bool:
        return "Redis is lost" in caplog.text

    async with at_work(parts.settings):
        await until(is_at_head, "the cache is filled")
        with frozen(redis):
            await until(noticed, "the worker notices")
            head = clone.push({"autosaves/meanwhile.md": "# Meanwhile\n"})
        await until(is_at_head, "the worker is back")
