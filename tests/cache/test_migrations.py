"""The migrations make the tables that the code believes in, from whatever is there."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from api.cache.cache import Cache
from api.cache.database import CacheUnavailable, Database
from api.cache.migrate import migrate
from api.cache.tables import metadata
from sandbox.postgres import Postgres


@pytest.fixture
async def empty_url(postgres_server: Postgres) -> AsyncIterator[str]:
    """A database without tables."""
    name = f"test_{secrets.token_hex(6)}"
    await postgres_server.create_database(name)
    yield postgres_server.url_of(name)
    await postgres_server.drop_database(name)


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url, timeout=5, command_timeout=10)
    try:
        yield connection
    finally:
        await connection.close()


async def differences(url: str) -> list[object]:
    """What alembic would write into the next migration."""

    def compare(connection: Connection) -> list[object]:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        return list(compare_metadata(context, metadata))

    engine = create_async_engine(
        "postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(url), poolclass=NullPool
    )
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(compare)
    finally:
        await engine.dispose()


async def shortcomings(url: str) -> list[str]:
    async with Database(url, timeout=10) as database:
        return await Cache(database, "ours").shortcomings()


async def test_the_migrations_make_exactly_the_tables_of_the_code(empty_url: str) -> None:
    await migrate(empty_url)
    assert await differences(empty_url) == []
    assert await shortcomings(empty_url) == []


async def test_migrating_again_changes_nothing_and_keeps_the_rows(empty_url: str) -> None:
    await migrate(empty_url)
    async with connected(empty_url) as connection:
        await connection.execute("INSERT INTO directories VALUES ('autosaves', 'oid')")
    await migrate(empty_url)
    async with connected(empty_url) as connection:
        assert await connection.fetchval("SELECT tree FROM directories") == "oid"
    assert await differences(empty_url) == []


async def test_processes_that_start_together_migrate_once(empty_url: str) -> None:
    await asyncio.gather(*(migrate(empty_url) for _ in range(4)))
    async with connected(empty_url) as connection:
        assert await connection.fetchval("SELECT count(*) FROM alembic_version") == 1
    assert await differences(empty_url) == []


async def test_without_leave_to_create_extensions_all_but_one_index_is_made(
    empty_url: str,
) -> None:
    """And that one as soon as an administrator has created the extension."""
    clerk = f"clerk_{secrets.token_hex(4)}"
    clerks_url = f"{empty_url}&role={clerk}"
    async with connected(empty_url) as administrator:
        await administrator.execute(f"CREATE ROLE {clerk}")
        await administrator.execute(f"GRANT USAGE, CREATE ON SCHEMA public TO {clerk}")
        try:
            await migrate(clerks_url)
            [missing] = await differences(clerks_url)
            assert isinstance(missing, tuple)
            assert (missing[0], missing[1].name) == ("add_index", "ix_sessions_title_folded")
            [warning] = await shortcomings(clerks_url)
            assert "CREATE EXTENSION pg_trgm" in warning

            await administrator.execute("CREATE EXTENSION pg_trgm")
            await migrate(clerks_url)
            assert await differences(clerks_url) == []
            assert await shortcomings(clerks_url) == []
        finally:
            await administrator.execute(f"DROP OWNED BY {clerk}")
            await administrator.execute(f"DROP ROLE {clerk}")


async def test_a_database_that_knows_no_cyrillic_is_told_of(postgres_server: Postgres) -> None:
    name = f"test_{secrets.token_hex(6)}"
    async with connected(postgres_server.url_of("postgres")) as administrator:
        await administrator.execute(
            f"CREATE DATABASE {name} TEMPLATE template0 LOCALE_PROVIDER libc LOCALE 'C'"
        )
    try:
        await migrate(postgres_server.url_of(name))
        [warning] = await shortcomings(postgres_server.url_of(name))
        assert "C.UTF-8" in warning
    finally:
        await postgres_server.drop_database(name)


async def test_tables_of_a_newer_version_are_left_alone(empty_url: str) -> None:
    await migrate(empty_url)
    async with connected(empty_url) as connection:
        await connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(CacheUnavailable, match="9999"):
        await migrate(empty_url)


async def test_a_server_that_cannot_be_reached_is_an_error_with_a_sentence() -> None:
    with pytest.raises(CacheUnavailable, match="cannot be migrated"):
        await migrate("postgresql://127.0.0.1:1/annoris", seconds=1)
