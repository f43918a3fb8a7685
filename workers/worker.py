"""The arq worker: a clock and a doorbell. What there is to do stands in cache and master."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import cast

import orjson
from arq import Retry, Worker, cron, func
from arq.connections import ArqRedis, create_pool
from arq.cron import CronJob
from arq.typing import WorkerCoroutine
from redis.exceptions import RedisError

from api.cache.database import CacheUnavailable
from api.jobs import HEALTH_CHECK, QUEUE, RETENTION, SYNC, redis_settings, serialize
from api.settings import Settings, SettingsError
from api.wiring import Parts, open_parts
from workers.tasks import health_check, retention, sync

log = logging.getLogger(__name__)

_SYNC_SECONDS, _CHECK_SECONDS = 900, 3600  # a run that takes longer is stuck
_NIGHT = 3  # o'clock UTC, when health check and retention run
_RETRY_SECONDS, _TRIES = 5, 3  # a failed job is tried again after 5 s, then after 20 s
_CLOSE_SECONDS = 5.0
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
    pause = _FIRST_PAUSE
    while True:
        born = time.monotonic()
        try:
            await _serve(parts, url.get_secret_value())
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("Redis is lost (%s)", type(error).__name__)
        lived = time.monotonic() - born
        pause = _FIRST_PAUSE if lived > _LONGEST_PAUSE else min(2 * pause, _LONGEST_PAUSE)
        await asyncio.sleep(pause)


async def _serve(parts: Parts, url: str) -> None:
    """One life of an arq worker: it ends when Redis goes away."""
    pool = await create_pool(
        redis_settings(url), job_serializer=serialize, job_deserializer=orjson.loads
    )
    for job in await _missed(parts):
        await pool.enqueue_job(job, _queue_name=QUEUE)
    interval = parts.settings.sync_interval_minutes
    worker = Worker(
        functions=[
            func(_job(sync, parts), name=SYNC, timeout=_SYNC_SECONDS, keep_result=0),
            func(
                _job(health_check, parts), name=HEALTH_CHECK, timeout=_CHECK_SECONDS, keep_result=0
            ),
            func(_job(retention, parts), name=RETENTION, timeout=_SYNC_SECONDS, keep_result=0),
        ],
        cron_jobs=[
            _cron(sync, parts, minute=set(range(0, 60, interval)), timeout=_SYNC_SECONDS),
            _cron(health_check, parts, hour=_NIGHT, minute={17}, timeout=_CHECK_SECONDS),
            _cron(retention, parts, hour=_NIGHT, minute={47}, timeout=_SYNC_SECONDS),
        ],
        queue_name=QUEUE,
        redis_pool=pool,
        handle_signals=False,
        health_check_interval=15,
        max_jobs=2,
        max_tries=_TRIES,
        poll_delay=0.5,
        job_serializer=serialize,
        job_deserializer=orjson.loads,
    )
    try:
        await worker.async_run()
    finally:
        await asyncio.shield(_close(worker, pool))


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


Task = Callable[[Parts], Awaitable[bool]]


def _job(task: Task, parts: Parts) -> WorkerCoroutine:
    async def job(context: dict[str, int], *_: object, **__: object) -> None:
        if not await task(parts):
            raise Retry(defer=_RETRY_SECONDS * context["job_try"] ** 2)

    job.__qualname__ = task.__name__
    return cast(WorkerCoroutine, job)


def _cron(
    task: Task, parts: Parts, *, minute: set[int], timeout: int, hour: int | None = None
) -> CronJob:
    return cron(
        _job(task, parts),
        name=f"cron:{task.__name__}",
        hour=hour,
        minute=minute,
        timeout=timeout,
        keep_result=0,
    )


async def _missed(parts: Parts) -> list[str]:
    """The jobs whose tick passed while no worker ran: arq does not remember those."""
    try:
        async with parts.reconciler.cache.snapshot() as snapshot:
            head, check = snapshot.head, await snapshot.last_health_check()
    except CacheUnavailable:
        return [SYNC]  # it will say what is wrong, and try again
    now = datetime.now(UTC)
    interval = timedelta(minutes=parts.settings.sync_interval_minutes)
    missed = [SYNC] if head is None or now - head.seen_at >= interval else []
    if check is None or now - check.checked_at >= timedelta(days=1):
        missed += [HEALTH_CHECK, RETENTION]
    return missed
