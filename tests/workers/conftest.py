"""Workers with parts of their own, a Redis that may be killed, and people who hear of incidents."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import orjson
import pytest
from aiohttp import web
from arq.connections import ArqRedis, RedisSettings, create_pool

from api.cache.runs import Runs
from api.cache.tables import SyncRow
from api.jobs import QUEUE, SYNC, serialize
from api.settings import Settings, load
from api.wiring import Parts, open_parts
from sandbox.github import GitHub
from sandbox.redis import Redis
from workers.worker import work


@pytest.fixture
async def redis() -> AsyncIterator[Redis]:
    """A Redis that may be killed, and that no other test rings in."""
    async with Redis() as server:
        yield server


@pytest.fixture
async def queue(redis: Redis) -> AsyncIterator[ArqRedis]:
    """The jobs that wait in that Redis."""
    settings = RedisSettings.from_dsn(redis.url)
    pool = await create_pool(
        settings,
        job_serializer=serialize,
        job_deserializer=orjson.loads,
        default_queue_name=QUEUE,
    )
    yield pool
    await pool.aclose(close_connection_pool=True)


def settings_of(github: GitHub, database_url: str, **more: str) -> Settings:
    return load(
        {
            "DATABASE_URL": database_url,
            "GITHUB_TOKEN": github.token,
            "GITHUB_REPOSITORY": github.hosting.name,
            "GITHUB_API_URL": github.url,
            "DATABASE_TIMEOUT_SECONDS": "10",  # so that no busy machine is taken for a dead one
            **more,
        }
    )


@pytest.fixture
async def parts(github: GitHub, database_url: str, redis: Redis) -> AsyncIterator[Parts]:
    """Those of a worker that does not run: tests run its jobs."""
    settings = settings_of(github, database_url, REDIS_URL=redis.url)
    async with open_parts(settings) as opened:
        yield opened


@contextlib.asynccontextmanager
async def at_work(settings: Settings) -> AsyncIterator[Parts]:
    """A worker that runs, with parts of its own."""
    async with open_parts(settings) as opened:
        worker = asyncio.create_task(work(opened))
        try:
            yield opened
        finally:
            worker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await worker


async def syncs(parts: Parts) -> list[SyncRow]:
    """What the log has of syncs, newest first."""
    return await Runs(parts.reconciler.cache.database).latest(SYNC, first=100)


@dataclass
class Inbox:
    """Who is told. `before_answer`: what happens when a notice has arrived."""

    url: str = ""
    notices: list[dict[str, str]] = field(default_factory=list)
    refuses: bool = False
    before_answer: Callable[[], Awaitable[None]] | None = None

    @property
    def titles(self) -> list[str]:
        return [notice["title"] for notice in self.notices]

    async def take(self, request: web.Request) -> web.Response:
        notice = await request.json()
        if self.refuses:
            return web.Response(status=503)
        self.notices.append(notice)
        if self.before_answer:
            await self.before_answer()
        return web.Response()


@pytest.fixture
async def inbox() -> AsyncIterator[Inbox]:
    """A real receiver of apprise's `json://` notices."""
    inbox, application = Inbox(), web.Application()
    application.router.add_post("/{tail:.*}", inbox.take)
    runner = web.AppRunner(application, shutdown_timeout=1, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        inbox.url = f"json://someone:canary-password@127.0.0.1:{port}/canary-path"
        yield inbox
    finally:
        await runner.cleanup()
