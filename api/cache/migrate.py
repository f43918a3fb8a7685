"""Bringing the database's tables to this version. Safe to run at once from several processes."""

from contextlib import suppress

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from api.cache.database import CacheUnavailable
from api.cache.tables import SessionRow

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
            await connection.run_sync(_index_parts_of_titles)
    except (
        CommandError,
        DBAPIError,
        asyncpg.PostgresError,
        asyncpg.InterfaceError,
        OSError,
    ) as error:
        raise CacheUnavailable(f"The database cannot be migrated: {error}") from error
    finally:
        await engine.dispose()


def _upgrade(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", "api.cache:migrations")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _index_parts_of_titles(connection: Connection) -> None:
    """Needs an extension that not every role may create. Without it searches read every row.

    Tried at each migration, because an administrator may have created it since.
    """
    [index] = [i for i in SessionRow.__table__.indexes if i.name == "ix_sessions_title_folded"]  # type: ignore[attr-defined]
    with suppress(DBAPIError), connection.begin_nested():
        connection.execute(text("CREATE EXTENSION IF NOT EXISTS pg_trgm"))
        index.create(connection, checkfirst=True)
