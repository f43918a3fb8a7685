"""A copy of the record of keyed writes. The record itself is the history at the master."""

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col

from api.cache.cache import Cache
from api.cache.database import Connection
from api.cache.tables import KeyedHistoryRow, KeyedWriteRow

_ROWS_A_STATEMENT = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyedWrite:
    """One write: digests of its key and content, the paths chosen for it, and its commit."""

    key: str
    content: str
    write_id: str
    chosen: Sequence[str]
    commit: str
    parent: str
    tree: str | None
    committed_at: datetime


class KeyedHistory:
    """The keyed writes in the last days of the history of one commit: all of them, or unusable.

    Several processes add to it. What one of them added may be lost, when somebody wipes the tables
    or brings an old backup back; then what another adds would leave a gap, in which a key that was
    used looks new. So only who has seen the rows as they are may add; all others write them anew.
    """

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._generation: str | None = None  # that we know all rows of
        self._version = 0  # the newest that we have seen

    async def load(self) -> tuple[str, list[KeyedWrite]] | None:
        """The commit that the record is complete for, and the record; None if there is none.

        Raises CacheUnavailable.
        """
        async with self._cache.database.transaction(snapshot=True) as connection:
            heads = await connection.rows(
                select(*KeyedHistoryRow.__table__.columns).where(  # type: ignore[attr-defined]
                    col(KeyedHistoryRow.origin) == self._cache.origin
                )
            )
            if not heads:
                return None
            rows = await connection.rows(
                select(*KeyedWriteRow.__table__.columns)  # type: ignore[attr-defined]
            )
        [head] = heads
        self._generation, self._version = head["generation"], head["version"]
        return head["head"], [KeyedWrite(**row) for row in rows]

    async def add(self, writes: Iterable[KeyedWrite], *, head: str, since: datetime) -> bool:
        """Add what is new up to `head`, and forget what is older than `since`.

        False, and nothing happens, when the rows are not those that we know. Raises
        CacheUnavailable; then it may have happened or not, and they are not known any more.
        """
        generation, self._generation = self._generation, None
        async with self._cache.database.transaction() as connection:
            changed = await connection.run(
                update(KeyedHistoryRow)
                .where(
                    col(KeyedHistoryRow.origin) == self._cache.origin,
                    col(KeyedHistoryRow.generation) == generation,
                    col(KeyedHistoryRow.version) >= self._version,
                )
                .values(head=head, version=col(KeyedHistoryRow.version) + 1)
            )
            if not changed:
                return False
            await connection.run(
                delete(KeyedWriteRow).where(col(KeyedWriteRow.committed_at) < since)
            )
            await _insert(connection, writes)
            [row] = await connection.rows(select(col(KeyedHistoryRow.version)))
        self._generation, self._version = generation, row["version"]
        return True

    async def replace(self, writes: Iterable[KeyedWrite], *, head: str) -> None:
        """Write all of it anew. Raises CacheUnavailable as `add` does."""
        self._generation, generation = None, secrets.token_hex(8)
        values = {
            "origin": self._cache.origin,
            "generation": generation,
            "version": 1,
            "head": head,
        }
        async with self._cache.database.transaction() as connection:
            statement = insert(KeyedHistoryRow).values(id=1, **values)
            await connection.run(
                statement.on_conflict_do_update(index_elements=["id"], set_=values)
            )
            await connection.run(delete(KeyedWriteRow))
            await _insert(connection, writes)
        self._generation, self._version = generation, 1


async def _insert(connection: Connection, writes: Iterable[KeyedWrite]) -> None:
    rows = [asdict(write) | {"chosen": list(write.chosen)} for write in writes]
    for start in range(0, len(rows), _ROWS_A_STATEMENT):
        statement = insert(KeyedWriteRow).values(rows[start : start + _ROWS_A_STATEMENT])
        await connection.run(statement.on_conflict_do_nothing(index_elements=["key"]))
