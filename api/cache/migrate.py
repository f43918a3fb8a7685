"""Bringing the database's tables to this version. Safe to run at once from several processes."""

import asyncpg
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from api.cache.database import CacheUnavailable

_LOCK = 0x6D696772


async def migrate(url: str, *, seconds: float = 60) -> None:
    """Upgrade to the newest tables in one transaction, each statement within so many seconds.

    Raises CacheUnavailable when PostgreSQL cannot be reached or refuses.
    """
    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=lambda: asyncpg.connect(url, timeout=seconds, command_timeout=seconds),
        poolclass=NullPool,
    )
    try:
        async with engine.begin() as connection:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            await connection.run_sync(_upgrade)
    except (DBAPIError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        raise CacheUnavailable(f"The database cannot be migrated: {error}") from error
    finally:
        await engine.dispose()


def _upgrade(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", "api.cache:migrations")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
