"""The wire to PostgreSQL when PostgreSQL is killed, frozen, restarted or busy.

Everything bounded, every failure CacheUnavailable, and never a connection lost to the pool.
"""

import asyncio
import logging
import os
import random
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import asyncpg
import pytest
from sqlalchemy import text

from api.cache.database import CacheUnavailable, Connection, Database
from sandbox.postgres import Postgres
from tests.cache.waiting import until
from tests.freezing import frozen, thaw

POOL = 10
ONE = text("SELECT 1 AS one")
NOW = text("SELECT pg_backend_pid() AS pid, txid_current_if_assigned() AS writes")
MODES = text(
    "SELECT current_setting('transaction_isolation') AS isolation,"
    " current_setting('transaction_read_only') AS read_only"
)


async def one(database: Database) -> int:
    async with database.transaction() as connection:
        [row] = await connection.rows(ONE)
        return int(row["one"])


async def backend(connection: Connection) -> int:
    [row] = await connection.rows(NOW)
    return int(row["pid"])


async def fails(database: Database) -> None:
    with pytest.raises(CacheUnavailable):
        await one(database)


async def is_whole(database: Database) -> bool:
    """Whether as many transactions as ever can be open at once."""
    async with AsyncExitStack() as stack:
        pids = set()
        for _ in range(POOL):
            connection = await stack.enter_async_context(database.transaction())
            pids.add(await backend(connection))
    return len(pids) == POOL


@pytest.fixture
async def watcher(server: Postgres) -> AsyncIterator[asyncpg.Connection]:
    """Somebody who looks at the server from outside."""
    connection = await asyncpg.connect(server.url, timeout=5)
    yield connection
    connection.terminate()


async def wait_for_backends(watcher: asyncpg.Connection, state: str, count: int) -> None:
    for _ in range(2_000):
        found = await watcher.fetchval(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE application_name = 'annoris' AND state = $1",
            state,
        )
        if found == count:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"there were never {count} backends that are {state}")


# Ordinary life


async def test_a_body_that_raises_leaves_no_trace(database: Database) -> None:
    async with database.transaction() as connection:
        await connection.run(text("CREATE TABLE IF NOT EXISTS notes (n int)"))

    async def fail() -> None:
        async with database.transaction() as connection:
            await connection.run(text("INSERT INTO notes VALUES (1)"))
            raise KeyError

    with pytest.raises(KeyError):
        await fail()
    async with database.transaction() as connection:
        [row] = await connection.rows(text("SELECT count(*) AS n FROM notes"))
    assert row["n"] == 0
    assert not database.is_down


async def test_a_snapshot_reads_one_state_and_writes_nothing(database: Database) -> None:
    async with database.transaction() as writer:
        await writer.run(text("CREATE TABLE IF NOT EXISTS marks (n int)"))
        await writer.run(text("DELETE FROM marks"))
    count = text("SELECT count(*) AS n FROM marks")
    async with database.transaction(snapshot=True) as snapshot:
        [before] = await snapshot.rows(count)
        async with database.transaction() as writer:
            await writer.run(text("INSERT INTO marks VALUES (1)"))
        [after] = await snapshot.rows(count)
        assert (before["n"], after["n"]) == (0, 0)
    with pytest.raises(CacheUnavailable, match="ReadOnly"):
        async with database.transaction(snapshot=True) as snapshot:
            await snapshot.run(text("INSERT INTO marks VALUES (1)"))
    assert not database.is_down


async def test_a_connection_that_served_a_snapshot_comes_back_able_to_write(
    database: Database,
) -> None:
    for snapshot, expected in [
        (True, ("repeatable read", "on")),
        (False, ("read committed", "off")),
        (True, ("repeatable read", "on")),
    ]:
        async with AsyncExitStack() as stack:
            for _ in range(POOL):
                connection = await stack.enter_async_context(
                    database.transaction(snapshot=snapshot)
                )
                [row] = await connection.rows(MODES)
                assert (row["isolation"], row["read_only"]) == expected


async def test_statements_of_one_transaction_take_turns(database: Database) -> None:
    async with database.transaction(snapshot=True) as connection:
        answers = await asyncio.gather(*(connection.rows(ONE) for _ in range(50)))
    assert [row["one"] for [row] in answers] == [1] * 50


async def test_what_cannot_be_encoded_is_refused_and_takes_nothing_down(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    for poison in ("\ud800", "secret\0", 10**400):
        statement = text("SELECT :it ::text AS it").bindparams(it=poison)
        with pytest.raises(CacheUnavailable):
            async with database.transaction() as connection:
                await connection.rows(statement)
        assert not database.is_down
    assert "secret" not in caplog.text
    assert await is_whole(database)


async def test_a_longer_bound_is_for_its_own_transaction_alone(database: Database) -> None:
    slow = text("SELECT pg_sleep(2.5)")
    async with database.transaction(seconds=30) as connection:
        await connection.rows(slow)
    assert not database.is_down
    with pytest.raises(CacheUnavailable):
        async with database.transaction() as connection:
            await connection.rows(slow)


# More callers than connections


async def test_fifty_waiters_share_ten_connections(database: Database) -> None:
    async def work() -> int:
        async with database.transaction(snapshot=True) as connection:
            await connection.rows(text("SELECT pg_sleep(0.01)"))
            return await backend(connection)

    pids = await asyncio.gather(*(work() for _ in range(50)))
    assert 1 <= len(set(pids)) <= POOL


async def test_waiters_that_find_no_connection_are_told_so_and_nobody_else(
    database: Database,
) -> None:
    """A full pool is no sign that PostgreSQL is down."""
    async with AsyncExitStack() as stack:
        held = [await stack.enter_async_context(database.transaction()) for _ in range(POOL)]
        answers = await asyncio.gather(*(one(database) for _ in range(50)), return_exceptions=True)
        assert {str(answer) for answer in answers} == {"All connections to PostgreSQL are in use."}
        assert not database.is_down
        assert [len(await connection.rows(ONE)) for connection in held] == [1] * POOL
    assert await is_whole(database)


# Cancelled callers


async def test_a_cancelled_caller_ends_its_statement_at_the_server(
    database: Database, watcher: asyncpg.Connection
) -> None:
    async def sleep() -> None:
        async with database.transaction(seconds=30) as connection:
            await connection.rows(text("SELECT pg_sleep(60)"))

    sleeping = asyncio.create_task(sleep())
    await wait_for_backends(watcher, "active", 1)
    sleeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sleeping
    assert not database.is_down
    await wait_for_backends(watcher, "active", 0)
    assert await is_whole(database)


async def test_a_cancelled_field_does_not_confuse_those_that_share_its_snapshot(
    database: Database, watcher: asyncpg.Connection
) -> None:
    """They are told that the connection is lost, and no other operation suffers."""

    async def operation() -> None:
        async with database.transaction(snapshot=True) as connection:
            field = asyncio.create_task(connection.rows(text("SELECT pg_sleep(20)")))
            await wait_for_backends(watcher, "active", 1)
            sibling = asyncio.create_task(connection.rows(ONE))
            await asyncio.sleep(0)
            field.cancel()
            with pytest.raises(CacheUnavailable, match="lost"):
                await sibling
            with pytest.raises(asyncio.CancelledError):
                await field
            assert await one(database) == 1

    with pytest.raises(CacheUnavailable, match="lost"):
        await operation()
    assert not database.is_down
    await wait_for_backends(watcher, "active", 0)
    assert await is_whole(database)


async def test_callers_cancelled_anywhere_leave_the_pool_whole(database: Database) -> None:
    """While they wait, connect, read, commit, or between two of these."""
    chance = random.Random(20)

    async def work() -> None:
        async with database.transaction(snapshot=chance.random() < 0.5) as connection:
            for _ in range(chance.randrange(3)):
                await connection.rows(ONE)

    for _ in range(60):
        tasks = [asyncio.create_task(work()) for _ in range(15)]
        for _ in range(chance.randrange(60)):
            await asyncio.sleep(0)
        if chance.random() < 0.3:
            await asyncio.sleep(chance.random() / 100)
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        strange = (asyncio.CancelledError, CacheUnavailable, type(None))
        assert [error for error in ended if not isinstance(error, strange)] == []
        assert not database.is_down
    assert await is_whole(database)


async def test_a_cancelled_commit_is_done_or_undone_and_never_half(database: Database) -> None:
    async with database.transaction() as connection:
        await connection.run(text("CREATE TABLE IF NOT EXISTS pairs (n int, half int)"))

    async def write(n: int) -> None:
        async with database.transaction() as connection:
            await connection.run(text("INSERT INTO pairs VALUES (:n, 1)").bindparams(n=n))
            await connection.run(text("INSERT INTO pairs VALUES (:n, 2)").bindparams(n=n))

    for n in range(40):
        task = asyncio.create_task(write(n))
        for _ in range(n):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    async with database.transaction() as connection:
        rows = await connection.rows(text("SELECT count(*) AS n FROM pairs GROUP BY pairs.n"))
    assert {row["n"] for row in rows} <= {2}


# The server dies


async def test_a_killed_server_fails_the_first_call_and_then_all_at_once(
    server: Postgres, database: Database
) -> None:

    async def operation() -> None:
        async with database.transaction() as connection:
            await connection.rows(ONE)
            await server.kill()
            await connection.rows(ONE)

    with pytest.raises(CacheUnavailable):
        await operation()
    await fails(database)
    assert database.is_down
    sent = database.statements
    for _ in range(100):
        await fails(database)
    assert database.statements == sent


async def test_a_killed_server_that_is_back_is_used_again_without_being_asked_for(
    server: Postgres, database: Database
) -> None:
    assert await one(database) == 1
    await server.kill()
    await fails(database)
    await asyncio.gather(*(fails(database) for _ in range(50)))
    assert database.is_down

    await server.start()

    await until(lambda: not database.is_down)
    assert await one(database) == 1
    assert await is_whole(database)


async def test_a_restart_between_calls_is_not_noticed(server: Postgres, database: Database) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(POOL):
            await backend(await stack.enter_async_context(database.transaction()))
    await server.stop()
    await server.start()

    assert await one(database) == 1
    assert not database.is_down
    assert await is_whole(database)


async def test_a_server_that_was_never_there_is_looked_for(server: Postgres) -> None:
    await server.stop()
    async with Database(server.url, timeout=2) as database:
        await fails(database)
        assert database.is_down
        await server.start()
        await until(lambda: not database.is_down)
        assert await one(database) == 1


async def test_a_connection_ended_by_an_administrator_ends_its_transaction_alone(
    database: Database, watcher: asyncpg.Connection
) -> None:

    async def operation() -> None:
        async with database.transaction() as connection:
            await watcher.fetchval("SELECT pg_terminate_backend($1)", await backend(connection))
            await until(connection.driver.is_closed)
            await connection.rows(ONE)

    with pytest.raises(CacheUnavailable):
        await operation()
    assert await one(database) == 1


async def test_refused_log_ins_are_failures_like_any_other(server: Postgres) -> None:
    for url in (server.url_of("absent"), "postgresql://127.0.0.1:1/annoris"):
        async with Database(url, timeout=0.5) as database:
            await fails(database)
            assert database.is_down


# The server hangs


async def test_a_frozen_server_is_waited_for_once(server: Postgres, database: Database) -> None:
    """Ten hang together within one time-out, then nobody waits; after the thaw all is as before."""
    async with AsyncExitStack() as stack:
        for _ in range(POOL):
            await backend(await stack.enter_async_context(database.transaction()))
    with frozen(server):
        async with asyncio.timeout(10):
            await asyncio.gather(*(fails(database) for _ in range(POOL)))
        assert database.is_down
        sent = database.statements
        async with asyncio.timeout(10):
            for _ in range(1000):
                await fails(database)
        assert database.statements == sent
    await until(lambda: not database.is_down)
    assert await is_whole(database)


async def test_connecting_to_a_frozen_server_is_bounded_too(server: Postgres) -> None:
    with frozen(server):
        async with asyncio.timeout(10), Database(server.url, timeout=0.3) as database:
            await asyncio.gather(*(fails(database) for _ in range(50)))
            assert database.is_down


async def test_a_transaction_open_at_the_freeze_ends_within_the_time_out(
    server: Postgres, database: Database
) -> None:

    async def operation() -> None:
        async with database.transaction(snapshot=True) as connection:
            await connection.rows(ONE)
            with frozen(server):
                await connection.rows(ONE)

    async with asyncio.timeout(10):
        with pytest.raises(CacheUnavailable):
            await operation()
    await until(lambda: not database.is_down)
    assert await is_whole(database)


async def test_an_error_while_the_server_is_frozen_does_not_wait_for_the_rollback(
    server: Postgres, database: Database
) -> None:
    async def operation() -> None:
        async with database.transaction() as connection:
            await connection.rows(ONE)
            os.kill(await backend(connection), signal.SIGSTOP)
            raise KeyError

    try:
        with pytest.raises(KeyError):
            await operation()
        assert database._leaving != set()
    finally:
        thaw(server)
    assert await is_whole(database)


async def test_a_slow_reader_does_not_end_the_long_writes_of_others(database: Database) -> None:
    """A first build may slow everything down. It must not be what its own slowness ends."""

    async def build() -> int:
        async with database.transaction(seconds=30) as connection:
            begun.set()
            await connection.rows(text("SELECT pg_sleep(1)"))
            [row] = await connection.rows(ONE)
            return int(row["one"])

    begun = asyncio.Event()
    building = asyncio.create_task(build())
    await begun.wait()
    with pytest.raises(CacheUnavailable):
        async with database.transaction() as connection:
            await connection.rows(text("SELECT pg_sleep(20)"))
    assert database.is_down
    assert await building == 1


# The end


async def test_closing_ends_every_connection(
    server: Postgres, watcher: asyncpg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        async with Database(server.url, timeout=5) as database:
            await asyncio.gather(*(one(database) for _ in range(POOL)))
        await wait_for_backends(watcher, "idle", 0)
    assert caplog.text == ""
    await fails(database)
    assert not database.is_down


async def test_closing_does_not_wait_for_a_frozen_server(server: Postgres) -> None:
    with frozen(server):
        async with asyncio.timeout(10):
            async with Database(server.url, timeout=0.3) as database:
                await fails(database)
