"""The worker: rung by webhooks, driven by the clock, and no harm if Redis or GitHub fail."""

import asyncio
import contextlib
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime

import pytest

from api.jobs import SYNC, Doorbell
from api.wiring import open_parts
from sandbox.github import GitHub, Webhook
from sandbox.redis import Redis
from tests.clone import Clone
from tests.system import System, running
from workers.tasks import health_check, retention, sync
from workers.worker import work

SECRET = "It's a Secret to Everybody"


@pytest.fixture
async def redis() -> AsyncIterator[Redis]:
    """A Redis that may be killed, and that no other test rings in."""
    async with Redis() as server:
        yield server


@pytest.fixture
async def system(github: GitHub, database_url: str, redis: Redis) -> AsyncIterator[System]:
    environment = {"REDIS_URL": redis.url, "GITHUB_WEBHOOK_SECRET": SECRET}
    async with running(github, database_url, environment) as gateway:
        github.webhook = Webhook(f"{gateway.url}/webhooks/github", SECRET)
        yield gateway


@contextlib.asynccontextmanager
async def working(system: System) -> AsyncIterator[None]:
    """A worker beside the gateway, with parts of its own."""
    async with open_parts(system.parts.settings) as parts:
        worker = asyncio.create_task(work(parts))
        try:
            yield
        finally:
            worker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await worker


async def until(holds: Callable[[], Awaitable[bool]], what: str) -> None:
    for _ in range(1000):
        if await holds():
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"it did not come about that {what}")


async def cached_commit(system: System) -> str | None:
    async with system.parts.gateway.cache.snapshot() as snapshot:
        return snapshot.head.commit if snapshot.head else None


def reaches(system: System, commit: str) -> Callable[[], Awaitable[bool]]:
    async def reached() -> bool:
        return await cached_commit(system) == commit

    return reached


async def test_a_worker_that_starts_catches_up_at_once(system: System) -> None:
    assert system.github.head is not None
    async with working(system):
        await until(reaches(system, system.github.head), "the cache is filled")

        async def checked() -> bool:
            answer = await system.ask("{ cacheStatus { lastHealthCheck { drifted } } }")
            return bool(answer.data["cacheStatus"]["lastHealthCheck"] == {"drifted": 0})

        await until(checked, "the first health check is done")


async def test_a_push_with_plain_git_reaches_the_cache(system: System, clone: Clone) -> None:
    async with working(system):
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
    async with working(system):
        await until(reaches(system, system.github.head or ""), "the cache is filled")
        await redis.kill()
        await redis.start()

        async def rung() -> bool:
            return await system.parts.doorbell.ring(SYNC)

        await until(rung, "Redis takes rings again")
        pushed = clone.push({"autosaves/pushed.md": "# Pushed\n"})
        await until(reaches(system, pushed), "the push has arrived")


async def test_rings_within_a_second_become_one_job(redis: Redis) -> None:
    doorbell = Doorbell(redis.url)
    try:
        rings = await asyncio.gather(*(doorbell.ring(SYNC) for _ in range(50)))
        pool = await doorbell._connected(redis.url)
        queued = await pool.zcard("annoris")
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


# The webhook's door


def signed(body: bytes, secret: str = SECRET) -> dict[str, str]:
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {"X-GitHub-Event": "push", "X-Hub-Signature-256": f"sha256={digest}"}


PUSH = json.dumps(
    {"ref": "refs/heads/main", "repository": {"full_name": "annoris/documents"}}
).encode()


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (PUSH, signed(PUSH), 202),
        (PUSH, signed(PUSH) | {"X-GitHub-Event": "ping"}, 202),
        (b"{", signed(b"{"), 202),
        (b"[1]", signed(b"[1]"), 202),
        (b"\xff", signed(b"\xff"), 202),
        (PUSH, signed(PUSH, "another"), 401),
        (PUSH, {"X-GitHub-Event": "push"}, 401),
        (PUSH, {"X-Hub-Signature-256": "sha256=é"}, 401),
        (PUSH + b" ", signed(PUSH), 401),
    ],
)
async def test_only_what_github_signed_is_taken(
    system: System, body: bytes, headers: dict[str, str], status: int
) -> None:
    async with system.http.post(
        f"{system.url}/webhooks/github", data=body, headers=headers
    ) as response:
        assert response.status == status


async def test_pushes_to_other_branches_and_repositories_ring_nobody(
    system: System, redis: Redis
) -> None:
    for ref, name in (("refs/heads/x", "annoris/documents"), ("refs/heads/main", "other/repo")):
        body = json.dumps({"ref": ref, "repository": {"full_name": name}}).encode()
        async with system.http.post(
            f"{system.url}/webhooks/github", data=body, headers=signed(body)
        ) as response:
            assert response.status == 202

    pool = await system.parts.doorbell._connected(redis.url)
    assert await pool.zcard("annoris") == 0


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
