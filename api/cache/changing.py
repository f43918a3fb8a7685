"""Changing the index: from one head to another, all at once."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col

from api.cache import statements
from api.cache.database import Connection, Values
from api.cache.rows import (
    STAGED,
    TABLES,
    AnyStagedTable,
    AnyTable,
    Upsert,
    all_columns,
    among,
    row_of,
)
from api.cache.snapshot import CachedHead
from api.cache.tables import AppliedCommitRow, DirectoryRow, HeadRow, StagingRow
from api.documents import Collection

BULK_SECONDS = 60.0  # for each statement that may touch every row
_SWITCH_SECONDS = 600.0  # for what was staged to take its place, be it 100,000 rows

_LEDGER_DAYS = 90  # an older `atLeast` token is asked of the master
_ROWS_A_STATEMENT = 500
_CHARACTERS_A_STATEMENT = 1_000_000  # of bodies: what a slow server takes within the time-out
_APPLY_LOCK = 0x616E6E6F  # one change of the index at a time, whoever makes it
UNKNOWN = ""  # the tree of a directory that has documents, and is to be walked anew

Place: TypeAlias = tuple[Collection, str]  # a collection, and a path in it


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexChange:
    """How the index gets from one head to another.

    `directories`: new tree oids; None where the tree is gone, UNKNOWN where it is not known.
    `others`: for those of them that were listed, the entries that are no documents.
    `anew`: nothing of the old index stays.
    `forward`: the new head's history contains the old head. Else the ledger begins anew.
    `is_reparsed`: after it no body is left that an older parser read.
    """

    head: CachedHead
    directories: Mapping[str, str | None]
    others: Mapping[str, bytes] = field(default_factory=dict)
    upserts: Sequence[Upsert] = ()
    removals: Sequence[str] = ()
    anew: bool = False
    forward: bool = True
    is_reparsed: bool = False

    @property
    def is_bulk(self) -> bool:
        return self.anew or len(self.upserts) + len(self.removals) > _ROWS_A_STATEMENT


class Turn:
    """The right to reconcile. A change that is too large for one step is staged before it applies.

    What was staged survives the process, and whoever has the next turn finds it.
    """

    def __init__(self, connection: Connection, origin: str, parser: int) -> None:
        self._connection = connection
        self._origin = origin
        self._parser = parser
        self._has_staged = False

    async def staged(self) -> dict[Place, tuple[str, int]]:
        """Revision and mode of what an earlier turn staged, of this origin and read as now."""
        found: dict[Place, tuple[str, int]] = {}
        ours = select(col(StagingRow.id)).where(col(StagingRow.origin) == self._origin)
        if not await self._connection.rows(ours):
            return found
        for collection, table in STAGED.items():
            rows = await self._connection.rows(
                select(col(table.path), col(table.revision), col(table.mode)).where(
                    col(table.parser) == self._parser
                )
            )
            found |= {(collection, row["path"]): (row["revision"], row["mode"]) for row in rows}
        await self._connection.commit()
        return found

    async def keep_staged(self, places: Iterable[Place]) -> None:
        """Drop what was staged before, all but what lies at these places, which goes in too."""
        await self._connection.allow(BULK_SECONDS)
        kept: dict[Collection, list[str]] = {collection: [] for collection in Collection}
        for collection, path in places:
            kept[collection].append(path)
        for collection, table in STAGED.items():
            others = ~among(col(table.path), kept[collection])
            await self._connection.run(
                delete(table).where(others | (col(table.parser) != self._parser))
            )
        row = {"id": 1, "origin": self._origin}
        await _upsert(self._connection, StagingRow, [row], key="id")
        await self._connection.commit()
        self._has_staged = True

    async def stage(self, upserts: Iterable[Upsert]) -> None:
        """Lay documents out. Readers see nothing of it."""
        await self._connection.allow(BULK_SECONDS)
        await _upsert_documents(self._connection, STAGED, upserts, self._parser)
        await self._connection.commit()

    async def apply(self, change: IndexChange, *, expected: str | None) -> bool:
        """Apply what was staged and this change, as `Cache.apply`: all at once, or not at all."""
        is_large = self._has_staged or change.is_bulk
        await self._connection.allow(_SWITCH_SECONDS if is_large else None)
        done = await apply_change(
            self._connection, change, self._origin, self._parser, expected, staged=self._has_staged
        )
        await self._connection.commit()
        return done


async def may_apply(connection: Connection) -> bool:
    """Whether nobody else changes the index; and until the transaction ends nobody else can."""
    [lock] = await connection.rows(
        select(func.pg_try_advisory_xact_lock(_APPLY_LOCK).label("ours"))
    )
    return bool(lock["ours"])


async def head_of(connection: Connection, origin: str, parser: int) -> CachedHead | None:
    values = {"origin": origin, "parser": parser}
    rows = await connection.rows(statements.HEAD.select, values)
    return CachedHead(**rows[0]) if rows else None


async def apply_change(
    connection: Connection,
    change: IndexChange,
    origin: str,
    parser: int,
    expected: str | None,
    *,
    staged: bool = False,
) -> bool:
    """Carry a change out within the transaction. False, and nothing done, if it does not fit."""
    if not await may_apply(connection):
        return False
    head = await head_of(connection, origin, parser)
    if (head.commit if head else None) != expected:
        return False
    await _remove_documents(connection, change)
    await _upsert_documents(connection, TABLES, change.upserts, parser)
    if staged:
        await _switch(connection)
    await _write_directories(connection, change)
    await _write_head(connection, change, origin, parser, expected)
    return True


async def _remove_documents(connection: Connection, change: IndexChange) -> None:
    for table in TABLES.values():
        if change.anew:
            await connection.run(delete(table))
        elif change.removals:
            await connection.run(delete(table).where(among(col(table.path), change.removals)))


async def _upsert_documents(
    connection: Connection,
    tables: Mapping[Collection, AnyTable] | Mapping[Collection, AnyStagedTable],
    upserts: Iterable[Upsert],
    parser: int,
) -> None:
    by_collection: dict[Collection, list[Values]] = {collection: [] for collection in Collection}
    for upsert in upserts:
        by_collection[upsert.item.collection].append(row_of(upsert, parser))
    for collection, table in tables.items():
        await _upsert(connection, table, by_collection[collection])


async def _switch(connection: Connection) -> None:
    """Put what was staged in its place."""
    for collection, staged in STAGED.items():
        table = TABLES[collection]
        columns = all_columns(staged)
        names = [column.name for column in columns]
        statement = insert(table).from_select(names, select(*columns))
        await connection.run(
            statement.on_conflict_do_update(
                index_elements=["path"],
                set_={name: statement.excluded[name] for name in names if name != "path"},
            )
        )
        await connection.run(delete(staged))


async def _write_directories(connection: Connection, change: IndexChange) -> None:
    gone = [path for path, tree in change.directories.items() if tree is None]
    if change.anew:
        await connection.run(delete(DirectoryRow))
    elif gone:
        await connection.run(delete(DirectoryRow).where(among(col(DirectoryRow.path), gone)))
    trees = {path: tree for path, tree in change.directories.items() if tree is not None}
    listed = [
        {"path": path, "tree": tree, "others": change.others[path]}
        for path, tree in trees.items()
        if path in change.others
    ]
    await _upsert(connection, DirectoryRow, listed)
    await _upsert(
        connection,
        DirectoryRow,
        [{"path": path, "tree": tree} for path, tree in trees.items() if path not in change.others],
    )


async def _write_head(
    connection: Connection, change: IndexChange, origin: str, parser: int, expected: str | None
) -> None:
    now, head = datetime.now(UTC), change.head
    statement = insert(HeadRow).values(
        id=1, origin=origin, commit=head.commit, parser=parser, seen_at=head.seen_at
    )
    new = statement.excluded
    told: dict[str, object] = {"origin": new.origin, "commit": new.commit, "seen_at": new.seen_at}
    if head.commit == expected:
        told["seen_at"] = func.greatest(col(HeadRow.seen_at), new.seen_at)
    if change.anew or change.is_reparsed:
        told["parser"] = new.parser
    elif change.upserts:  # by an older one, if this process is of an older version
        told["parser"] = func.least(col(HeadRow.parser), new.parser)
    await connection.run(statement.on_conflict_do_update(index_elements=["id"], set_=told))
    if head.commit == expected:
        return
    ledger = delete(AppliedCommitRow)
    if change.forward and not change.anew:
        ledger = ledger.where(col(AppliedCommitRow.applied_at) < now - timedelta(days=_LEDGER_DAYS))
    await connection.run(ledger)
    await connection.run(insert(AppliedCommitRow).values(commit=head.commit, applied_at=now))


async def _upsert(
    connection: Connection,
    table: AnyTable | AnyStagedTable | type[DirectoryRow] | type[HeadRow] | type[StagingRow],
    rows: Iterable[Values],
    *,
    key: str = "path",
) -> None:
    for chunk in chunks(rows, body="markdown"):
        statement = insert(table)
        statement = statement.on_conflict_do_update(
            index_elements=[key],
            set_={name: statement.excluded[name] for name in chunk[0] if name != key},
        )
        await connection.run(statement, chunk)


def chunks(rows: Iterable[Values], *, body: str) -> Iterator[list[Values]]:
    """Cut into statements that a slow server can carry out within the time-out."""
    chunk: list[Values] = []
    characters = 0
    for row in rows:
        chunk.append(row)
        text_of_row = row.get(body)
        characters += len(text_of_row) if isinstance(text_of_row, str) else 0
        if len(chunk) == _ROWS_A_STATEMENT or characters >= _CHARACTERS_A_STATEMENT:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk
