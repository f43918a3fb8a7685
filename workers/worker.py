"""The arq worker: a clock and a doorbell. What there is to do stands in cache and master."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import cast

import orjson
from arq import Retry, Worker, cron, func
from arq.connections import ArqRedis
from arq.cron import CronJob
from arq.typing import WorkerCoroutine
from arq.worker import Function
from redis.exceptions import RedisError

from api.cache.database import CacheUnavailable
from api.cache.runs import Runs
from api.jobs import HEALTH_CHECK, QUEUE, RETENTION, SYNC, connect, serialize
from api.settings import Settings, SettingsError
from api.wiring import Parts, open_parts
from workers.alerts import alert
from workers.heartbeat import beat
from workers.people import People
from workers.tasks import (
    CHECK_SECONDS,
    RETENTION_SECONDS,
    SYNC_SECONDS,
    Ended,
    Ending,
    Failed,
    health_check,
    retention,
    sync,
)

log = logging.getLogger(__name__)

NIGHTLY = {HEALTH_CHECK: 17, RETENTION: 47}  # minutes of NIGHTLY_HOUR
RETRY_SECONDS, TRIES = 5, 3  # a failed job is tried again after 5 s, then after 20 s
NOT_NOW_SECONDS = 30.0  # within which a job that could not do its work looks again
ALERT_AT = frozenset({30})  # seconds of every minute
_SHORT_SECONDS = 60  # for a tick, which only rings, and for alerts
_SPARE_SECONDS = 30  # by which arq is more patient than a job is with itself
_SYNC_FIRST = timedelta(seconds=3)  # what is caught up at start lets the sync fill the cache
_CLOSE_SECONDS = 5.0
_CANCEL_AGAIN_SECONDS = 1.0
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0  # seconds between tries to reach Redis


async def run(settings: Settings) -> None:
    """Work until cancelled. A lost Redis is waited for; what failed is tried by the clock."""
    async with open_parts(settings) as parts:
        await work(parts)


async def work(parts: Parts) -> None:
    """As `run`, with parts that are open. Raises SettingsError without REDIS_URL."""
    url = parts.settings.redis_url
    if url is None:
        raise SettingsError("Cannot start the worker: set REDIS_URL (redis://...).")
    people = People(parts.settings.alert_urls)
    working = asyncio.create_task(_work(parts, people, url.get_secret_value()))
    try:
        await asyncio.wait({working})
    except asyncio.CancelledError:
        # redis-py and arq wait by `asyncio.wait_for`, and up to Python 3.11 that loses a
        # cancellation which comes as the thing waited for ends. The worker would work on.
        while not working.done():
            working.cancel()
            await asyncio.wait({working}, timeout=_CANCEL_AGAIN_SECONDS)
        raise
    await working


async def _work(parts: Parts, people: People, url: str) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(beat(parts))
        await _serve_for_ever(parts, people, url)


async def _serve_for_ever(parts: Parts, people: People, url: str) -> None:
    pause = _FIRST_PAUSE
    while True:
        born = time.monotonic()
        try:
            await _serve(parts, people, url)
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("Redis is lost (%s)", type(error).__name__)
        lived = time.monotonic() - born
        pause = _FIRST_PAUSE if lived > _LONGEST_PAUSE else min(2 * pause, _LONGEST_PAUSE)
        await asyncio.sleep(pause)


async def _serve(parts: Parts, people: People, url: str) -> None:
    """One life of an arq worker: it ends when Redis goes away."""
    pool = connect(url)
    worker = _worker(parts, people, pool)
    try:
        # Always: it costs one request, and heals what a process that died has left behind.
        if not await parts.doorbell.ring(SYNC):
            raise ConnectionError
        await _catch_up(parts, pool)
        await worker.async_run()
    finally:
        closing = asyncio.create_task(_close(worker, pool))
        while not closing.done():
            with suppress(asyncio.CancelledError):  # it is bounded, and `work` cancels again
                await asyncio.wait({closing})


def _worker(parts: Parts, people: People, pool: ArqRedis) -> Worker:
    return Worker(
        functions=[
            _function(SYNC, sync, parts, SYNC_SECONDS),
            _function(HEALTH_CHECK, health_check, parts, CHECK_SECONDS),
            _function(RETENTION, retention, parts, RETENTION_SECONDS),
        ],
        cron_jobs=[
            _cron("sync", lambda: parts.doorbell.ring(SYNC), minute=sync_minutes(parts.settings)),
            _cron("catch_up", lambda: _catch_up(parts, pool), minute=set(NIGHTLY.values())),
            _cron("alert", lambda: _alert(parts, people), second=set(ALERT_AT)),
        ],
        queue_name=QUEUE,
        redis_pool=pool,
        handle_signals=False,
        health_check_interval=15,
        max_jobs=4,
        max_tries=TRIES,
        poll_delay=0.5,
        job_serializer=serialize,
        job_deserializer=orjson.loads,
        timezone=UTC,
    )


async def _close(worker: Worker, pool: ArqRedis) -> None:
    """End the jobs that run; each can be killed anywhere. Redis may be gone by now."""
    try:
        async with asyncio.timeout(_CLOSE_SECONDS):
            await worker.close()
    except (RedisError, OSError, TimeoutError, asyncio.CancelledError) as error:
        log.info("the worker was closed without Redis (%s)", type(error).__name__)
    finally:
        # A job that goes on would open a new connection, which nobody would close.
        for task in worker.tasks.values():
            task.cancel()
        if worker.tasks:
            await asyncio.wait(worker.tasks.values(), timeout=_CLOSE_SECONDS)
        await pool.connection_pool.disconnect()


def _function(
    name: str, task: Callable[[Parts], Awaitable[Ending]], parts: Parts, seconds: float
) -> Function:
    async def job(context: dict[str, int], *_: object, **__: object) -> None:
        ended = await _end_of(name, task(parts))
        if ended is Ended.NOT_NOW:
            await parts.doorbell.ring(name, within=NOT_NOW_SECONDS)
        if isinstance(ended, Failed) and (tried := context["job_try"]) < TRIES:
            raise Retry(defer=max(ended.after, RETRY_SECONDS * tried**2))

    return func(
        cast(WorkerCoroutine, job), name=name, timeout=seconds + _SPARE_SECONDS, keep_result=0
    )


async def _end_of(name: str, running: Awaitable[Ending]) -> Ending:
    try:
        return await running
    except Exception:
        log.exception("%s failed", name)
        return Failed()


def _cron(
    name: str,
    tick: Callable[[], Awaitable[object]],
    *,
    minute: set[int] | None = None,
    second: set[int] | int = 0,
) -> CronJob:
    """What a tick does is short: it rings. arq would try it again only a minute later.

    Its trace is kept, so that a worker that is late to the same tick leaves it alone.
    """

    async def job(*_: object, **__: object) -> None:
        await tick()

    return cron(
        cast(WorkerCoroutine, job),
        name=f"cron:{name}",
        minute=minute,
        second=second,
        timeout=_SHORT_SECONDS,
        keep_result=_SHORT_SECONDS,
    )


def sync_minutes(settings: Settings) -> set[int]:
    """The minutes of an hour at which to sync."""
    interval = settings.sync_interval_minutes
    return set(range(settings.sync_minute % interval, 60, interval))


def last_tick(now: datetime, *, hour: int, minute: int) -> datetime:
    """When it was last this time of the day."""
    tick = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
    return tick if tick <= now else tick - timedelta(days=1)


async def _catch_up(parts: Parts, pool: ArqRedis) -> None:
    """Ring for what is to run nightly and has not since its last tick, whoever missed that."""
    cache, now = parts.reconciler.cache, datetime.now(UTC)
    try:
        async with cache.snapshot() as snapshot:
            check = await snapshot.last_health_check()
        done = {
            # One that only looked has not done what the nightly one is for.
            HEALTH_CHECK: check.checked_at if check and check.repaired == check.drifted else None,
            RETENTION: await Runs(cache.database).last_done(RETENTION),
        }
    except CacheUnavailable as error:
        log.warning("it is not known which nightly runs were missed: %s", error)
        return
    for job, minute in NIGHTLY.items():
        tick = last_tick(now, hour=parts.settings.nightly_hour, minute=minute)
        last = done[job]
        if last is None or last < tick:
            # One job for each tick: while it waits or runs, ringing again changes nothing.
            await pool.enqueue_job(job, _job_id=f"{job}:{tick:%F}", _defer_by=_SYNC_FIRST)


async def _alert(parts: Parts, people: People) -> None:
    try:
        await alert(parts, people)
    except CacheUnavailable as error:
        log.info("alerts have to wait: %s", error)
