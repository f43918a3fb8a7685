"""A caller who hangs up takes nothing along: neither a connection to the cache nor a write."""

import asyncio
import json
import random
from urllib.parse import urlencode, urlsplit

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import QueuePool

from sandbox.github import Fault, GitHub
from tests.system import System, running
from tests.waiting import until

LIST = "{ sessions(first: 5) { totalCount nodes { title markdown } } }"
MASTER = "{ sessions(consistency: MASTER) { totalCount } }"


def request(query: str, method: str) -> bytes:
    if method == "GET":
        target = f"/graphql?{urlencode({'query': query})}"
        return f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    body = json.dumps({"query": query}).encode()
    head = "POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def call(system: System, sent: bytes) -> asyncio.StreamWriter:
    _, writer = await asyncio.open_connection("127.0.0.1", urlsplit(system.url).port)
    writer.write(sent)
    await writer.drain()
    return writer


def connections_in_use(system: System) -> int:
    database = system.parts.gateway.cache.database
    pool = database._engine.pool
    assert isinstance(pool, QueuePool)
    return pool.checkedout() + len(database._readers.busy)


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_query_in_the_middle_of_a_statement_gives_its_connection_back(
    github: GitHub, database_url: str, method: str
) -> None:
    engine = create_async_engine(database_url.replace("postgresql://", "postgresql+asyncpg://"))
    patience = {"DATABASE_TIMEOUT_SECONDS": "100"}
    async with running(github, database_url, patience) as system, engine.connect() as other:
        await system.sync()
        waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")

        async def waits() -> bool:
            return bool((await other.execute(waiting)).scalar())

        async def nothing_is_in_use() -> bool:
            return connections_in_use(system) == 0 and not await waits()

        await other.execute(text("LOCK TABLE sessions IN ACCESS EXCLUSIVE MODE"))
        caller = await call(system, request(LIST, method))
        await until(waits, "the query waits for the table")
        assert connections_in_use(system) == 1

        caller.close()

        await until(nothing_is_in_use, "the connection is given back")
        await other.rollback()
        assert (await system.ask(LIST)).errors == []
    await engine.dispose()


async def test_a_query_that_waits_for_github_is_over(github: GitHub, database_url: str) -> None:
    async with running(github, database_url, {"MASTER_TIMEOUT_SECONDS": "100"}) as system:
        slow = github.faults.add(Fault(kind="hang", operation="query"))
        caller = await call(system, request(MASTER, "POST"))
        await slow.wait_until_struck()

        async def is_over() -> bool:
            return not [task for task in asyncio.all_tasks() if "run_asgi" in repr(task)]

        assert not await is_over()

        caller.close()

        await until(is_over, "nothing waits for GitHub any more")
        assert (await system.ask(MASTER)).errors == []


async def test_many_who_hang_up_at_any_moment_leave_the_pool_whole(
    system: System, caplog: pytest.LogCaptureFixture
) -> None:
    dice = random.Random(5)

    async def hang_up() -> None:
        caller = await call(system, request(LIST, dice.choice(["GET", "POST"])))
        for _ in range(dice.randrange(60)):
            await asyncio.sleep(0)
        caller.close()

    for _ in range(10):
        await asyncio.gather(*(hang_up() for _ in range(15)))

    async def nothing_is_in_use() -> bool:
        return connections_in_use(system) == 0

    await until(nothing_is_in_use, "all connections are given back")
    assert (await system.ask(LIST)).errors == []
    assert not system.parts.gateway.cache.database.is_down
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


async def test_a_mutation_goes_on_to_its_end(system: System) -> None:
    slow = system.github.faults.add(Fault(kind="latency", operation="mutation", ms=200))
    two = """mutation {
      a: createSession(input: {title: "First", markdown: "x", path: "autosaves/a.md"}) { cache }
      b: createSession(input: {title: "Second", markdown: "x", path: "autosaves/b.md"}) { cache }
    }"""
    caller = await call(system, request(two, "POST"))
    await slow.wait_until_struck()

    caller.close()

    async def both_are_saved() -> bool:
        answer = await system.ask(
            """{ a: session(id: "autosaves/a.md") { title }
              b: session(id: "autosaves/b.md") { title } }"""
        )
        return all(answer.data.values())

    await until(both_are_saved, "both are saved")
