"""What people are to be told of, as long as it lasts, and whether they were."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col

from api.cache.database import Database
from api.cache.tables import IncidentRow

_TURN_LOCK = 0x74656C6C  # one process at a time tells people


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """`told_at`: when people were told that it began. None: not yet."""

    kind: str
    since: datetime
    message: str
    told_at: datetime | None = None


class Incidents:
    """The incidents that have begun and are not over. Every method raises CacheUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[bool]:
        """Whether it is ours to tell people. One process has the turn at a time, for the block.

        Who loses the connection loses the turn unawares: then people may be told twice.
        """
        async with self._database.transaction() as connection:
            lock = func.pg_try_advisory_xact_lock(_TURN_LOCK).label("ours")
            [tried] = await connection.rows(select(lock))
            yield bool(tried["ours"])

    async def standing(self) -> dict[str, Incident]:
        """By kind."""
        async with self._database.transaction(snapshot=True) as connection:
            rows = await connection.rows(
                select(*IncidentRow.__table__.columns)  # type: ignore[attr-defined]
            )
        return {row["kind"]: Incident(**row) for row in rows}

    async def begin(self, incident: Incident) -> None:
        async with self._database.transaction() as connection:
            statement = insert(IncidentRow).values(**asdict(incident))
            await connection.run(statement.on_conflict_do_nothing(index_elements=["kind"]))

    @asynccontextmanager
    async def telling(self, kind: str, at: datetime) -> AsyncIterator[None]:
        """Note that people know of it, unless the block raises.

        Noted before they are told, and kept after: a database that takes no writes keeps people
        from hearing the same thing again and again.
        """
        async with self._database.transaction() as connection:
            await connection.run(
                update(IncidentRow).where(col(IncidentRow.kind) == kind).values(told_at=at)
            )
            yield

    @asynccontextmanager
    async def ending(self, kind: str) -> AsyncIterator[None]:
        """Note that it is over, in the same way."""
        async with self._database.transaction() as connection:
            await connection.run(delete(IncidentRow).where(col(IncidentRow.kind) == kind))
            yield
