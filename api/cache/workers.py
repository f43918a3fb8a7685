"""The workers' signs of life, and what GitHub last told each of them about the token."""

from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col

from api.cache.database import Database
from api.cache.tables import WorkerRow

_KNOWN = 100  # one that crashes on and on leaves many rows


class Workers:
    """All workers that there were lately. Every method raises CacheUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def beat(self, worker: WorkerRow) -> None:
        """Write a worker's row, in place of what it wrote before. One round trip."""
        told = worker.model_dump(exclude={"name"})
        statement = insert(WorkerRow).values(name=worker.name, **told)
        async with self._database.transaction(autocommit=True) as connection:
            await connection.run(
                statement.on_conflict_do_update(index_elements=["name"], set_=told)
            )

    async def known(self) -> list[WorkerRow]:
        """Those seen last, newest first."""
        async with self._database.transaction(snapshot=True) as connection:
            rows = await connection.rows(
                select(*WorkerRow.__table__.columns)  # type: ignore[attr-defined]
                .order_by(col(WorkerRow.seen_at).desc())
                .limit(_KNOWN)
            )
        return [WorkerRow.model_validate(dict(row)) for row in rows]

    async def forget(self, before: datetime) -> None:
        async with self._database.transaction() as connection:
            await connection.run(delete(WorkerRow).where(col(WorkerRow.seen_at) < before))
