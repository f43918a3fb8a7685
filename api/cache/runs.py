"""What was done to the cache without a request: the log of runs, and of health checks."""

from datetime import datetime

from sqlalchemy import delete, select
from sqlmodel import col

from api.cache.changing import BULK_SECONDS
from api.cache.database import Database
from api.cache.tables import HealthCheckRow, SyncRow


class Runs:
    """Every method raises CacheUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def latest(self, kind: str, *, first: int) -> list[SyncRow]:
        """The last runs of this kind, failed ones too, newest first."""
        async with self._database.transaction(snapshot=True) as connection:
            rows = await connection.rows(
                select(*SyncRow.__table__.columns)  # type: ignore[attr-defined]
                .where(col(SyncRow.kind) == kind)
                .order_by(col(SyncRow.id).desc())
                .limit(first)
            )
        return [SyncRow.model_validate(dict(row)) for row in rows]

    async def last_done(self, kind: str) -> datetime | None:
        """When the last run of this kind began that did not fail."""
        async with self._database.transaction(snapshot=True) as connection:
            rows = await connection.rows(
                select(col(SyncRow.started_at))
                .where(col(SyncRow.kind) == kind, col(SyncRow.error).is_(None))
                .order_by(col(SyncRow.id).desc())
                .limit(1)
            )
        return rows[0]["started_at"] if rows else None

    async def forget(self, before: datetime) -> None:
        """Drop what was logged before this time, health checks too."""
        async with self._database.transaction(seconds=BULK_SECONDS) as connection:
            await connection.run(delete(SyncRow).where(col(SyncRow.started_at) < before))
            await connection.run(
                delete(HealthCheckRow).where(col(HealthCheckRow.checked_at) < before)
            )
