"""The cache: an index of all documents as of one commit, and the bodies of the hot ones.

Every change of it is one transaction that holds rows, directories and head together.
"""

import logging
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    any_,
    bindparam,
    delete,
    false,
    func,
    literal,
    or_,
    select,
    text,
    tuple_,
    union_all,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.orm import InstrumentedAttribute, Mapped
from sqlmodel import col

from api.cache.database import CacheUnavailable, Connection, Database, Values
from api.cache.rows import TABLES, AnyTable, columns_of, read_row, row_of
from api.cache.tables import (
    AppliedCommitRow,
    DirectoryRow,
    HeadRow,
    HealthCheckRow,
    Plain,
    SessionRow,
    SyncRow,
)
from api.documents import Collection
from api.documents.listing import (
    UNSTORABLE,
    Indexed,
    Listing,
    Order,
    Page,
    Position,
    Where,
    Window,
    cut_key,
    fold,
    position,
)

log = logging.getLogger(__name__)

_LEDGER_DAYS = 90  # an older `atLeast` token is asked of the master
_ROWS_A_STATEMENT = 500
_CHARACTERS_A_STATEMENT = 1_000_000  # of bodies: what a slow server takes within the time-out
_BODIES_A_STATEMENT = 50  # read at once, each of a few KB and none above the limit of documents
_BULK_SECONDS = 60.0  # for each statement that may touch every row
_APPLY_LOCK = 0x616E6E6F  # one change of the index at a time, whoever makes it
UNKNOWN = ""  # the tree of a directory that has documents, and is to be walked anew
_COMMIT_LOCK = 0x636F6D6D  # one process at a time commits to the master


@dataclass(frozen=True, slots=True)
class CachedHead:
    """The commit that the cache is true for. `seen_at`: when it was last known as the master's.

    `outdated_at`: when the master was last known to have moved on to another commit, if ever.
    """

    commit: str
    seen_at: datetime
    outdated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Upsert:
    """A document to be put into the index. Its body is kept if `item.markdown` is given."""

    item: Indexed
    changed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexChange:
    """How the index gets from one head to another.

    `directories`: new tree oids; None where the tree is gone, UNKNOWN where it is not known.
    `anew`: nothing of the old index stays.
    `forward`: the new head's history contains the old head. Else the ledger begins anew.
    """

    head: CachedHead
    directories: Mapping[str, str | None]
    upserts: Sequence[Upsert] = ()
    removals: Sequence[str] = ()
    anew: bool = False
    forward: bool = True

    @property
    def is_bulk(self) -> bool:
        return self.anew or len(self.upserts) + len(self.removals) > _ROWS_A_STATEMENT


@dataclass(frozen=True, slots=True)
class Totals:
    documents: int
    hot: int
    unreadable: int


class Snapshot:
    """The cache at one moment: every answer is for the commit of `head`, or there is none."""

    def __init__(self, connection: Connection, head: CachedHead | None) -> None:
        self._connection = connection
        self.head = head

    async def documents(self, paths: Iterable[str], *, bodies: bool = False) -> dict[str, Indexed]:
        """The documents at these paths, whatever their collection. Absent ones are left out."""
        wanted, found = set(paths), dict[str, Indexed]()
        for collection, table in TABLES.items():
            if missing := wanted - found.keys():
                statement = select(*columns_of(collection, bodies=bodies)).where(
                    _among(col(table.path), missing)
                )
                for row in await self._connection.rows(statement):
                    found[row["path"]] = read_row(collection, row)
        return found

    async def pages(self, asked: Sequence[tuple[Listing, Window]]) -> list[Page]:
        """A page of each list, in one statement for each collection."""
        found: dict[int, Page] = {}
        for collection in dict.fromkeys(listing.collection for listing, _ in asked):
            slots = [i for i, (listing, _) in enumerate(asked) if listing.collection is collection]
            selects = [_page_select(*asked[i], slot=i) for i in slots]
            statement = union_all(*selects) if len(selects) > 1 else selects[0]
            rows = await self._connection.rows(statement)
            for i in slots:
                items = [read_row(collection, row) for row in rows if row["slot"] == i]
                found[i] = cut_page(items, *asked[i])
        return [found[i] for i in range(len(asked))]

    async def counts(self, listings: Sequence[Listing]) -> list[int]:
        """The true total of each list, in one statement."""
        selects = [
            select(literal(i).label("slot"), func.count().label("n"))
            .select_from(TABLES[listing.collection])
            .where(*_conditions(TABLES[listing.collection], listing.where))
            for i, listing in enumerate(listings)
        ]
        rows = await self._connection.rows(union_all(*selects))
        totals = {row["slot"]: int(row["n"]) for row in rows}
        return [totals[i] for i in range(len(listings))]

    async def everything(self, collection: Collection) -> list[Indexed]:
        """The whole index of one collection, without bodies, ordered by path."""
        table = TABLES[collection]
        rows = await self._connection.rows(
            select(*columns_of(collection, bodies=False)).order_by(col(table.path))
        )
        return [read_row(collection, row) for row in rows]

    async def scan(self, collection: Collection) -> AsyncIterator[Indexed]:
        """Every row of a collection with the body it has, ordered by path, a few at a time."""
        table, last = TABLES[collection], ""
        while True:
            rows = await self._connection.rows(
                select(*columns_of(collection, bodies=True))
                .where(col(table.path) > last)
                .order_by(col(table.path))
                .limit(_BODIES_A_STATEMENT)
            )
            for row in rows:
                yield read_row(collection, row)
            if len(rows) < _BODIES_A_STATEMENT:
                return
            last = rows[-1]["path"]

    async def bodies(self, oids: Iterable[str]) -> dict[str, str]:
        """Hot bodies by oid, wherever they are filed. Unproven: hash them before use."""
        wanted, found = set(oids), dict[str, str]()
        for table in TABLES.values():
            if missing := wanted - found.keys():
                rows = await self._connection.rows(
                    select(col(table.revision), col(table.markdown)).where(
                        _among(col(table.revision), missing), col(table.markdown).is_not(None)
                    )
                )
                found |= {row["revision"]: row["markdown"] for row in rows}
        return found

    async def revisions(self, directories: Iterable[str] | None = None) -> dict[str, str]:
        """Paths and revisions of the documents that lie directly in these directories, or all."""
        found = dict[str, str]()
        for table in TABLES.values():
            statement = select(col(table.path), col(table.revision))
            if directories is not None:
                statement = statement.where(_among(col(table.directory), directories))
            found |= {r["path"]: r["revision"] for r in await self._connection.rows(statement)}
        return found

    async def directories(self) -> dict[str, str]:
        """The tree oid of each directory that is known."""
        rows = await self._connection.rows(select(col(DirectoryRow.path), col(DirectoryRow.tree)))
        return {row["path"]: row["tree"] for row in rows}

    async def applied_at(self, commit: str) -> datetime | None:
        """When the cache came to be at this commit. None if its head does not contain it."""
        rows = await self._connection.rows(
            select(col(AppliedCommitRow.applied_at))
            .where(col(AppliedCommitRow.commit) == commit)
            .order_by(col(AppliedCommitRow.sequence).desc())
            .limit(1)
        )
        return rows[0]["applied_at"] if rows else None

    async def totals(self) -> Totals:
        sums = [0, 0, 0]
        for table in TABLES.values():
            [row] = await self._connection.rows(
                select(
                    func.count().label("documents"),
                    func.count(col(table.markdown)).label("hot"),
                    func.count(col(table.unreadable)).label("unreadable"),
                )
            )
            for i, name in enumerate(("documents", "hot", "unreadable")):
                sums[i] += row[name]
        return Totals(*sums)

    async def last_health_check(self) -> HealthCheckRow | None:
        rows = await self._connection.rows(
            select(*HealthCheckRow.__table__.columns)  # type: ignore[attr-defined]
            .order_by(col(HealthCheckRow.id).desc())
            .limit(1)
        )
        return HealthCheckRow.model_validate(dict(rows[0])) if rows else None


class Cache:
    """The cache of one origin: a repository's branch, read with one layout and one parser.

    What another origin left in the tables counts as nothing.
    Every method raises CacheUnavailable and nothing else of PostgreSQL's.
    """

    def __init__(self, database: Database, origin: str) -> None:
        self.database = database
        self.origin = origin

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Snapshot]:
        async with self.database.transaction(snapshot=True) as connection:
            yield Snapshot(connection, await self._head(connection))

    async def apply(self, change: IndexChange, *, expected: str | None) -> bool:
        """Change the index, if its head is still `expected` (None: there is none).

        False, and nothing done, when it is not, or when another change is being applied.
        After CacheUnavailable all of it was done, or nothing.
        """
        seconds = _BULK_SECONDS if change.is_bulk else None
        async with self.database.transaction(seconds=seconds) as connection:
            [lock] = await connection.rows(
                select(func.pg_try_advisory_xact_lock(_APPLY_LOCK).label("ours"))
            )
            head = await self._head(connection) if lock["ours"] else None
            if not lock["ours"] or (head.commit if head else None) != expected:
                return False
            await self._write_rows(connection, change)
            await self._write_directories(connection, change)
            await self._write_head(connection, change, expected)
            return True

    async def _write_rows(self, connection: Connection, change: IndexChange) -> None:
        for table in TABLES.values():
            if change.anew:
                await connection.run(delete(table))
            elif change.removals:
                await connection.run(delete(table).where(_among(col(table.path), change.removals)))
        for collection, table in TABLES.items():
            rows = (
                row_of(upsert.item, upsert.changed_at)
                for upsert in change.upserts
                if upsert.item.collection is collection
            )
            await _upsert(connection, table, rows)

    async def _write_directories(self, connection: Connection, change: IndexChange) -> None:
        gone = [path for path, tree in change.directories.items() if tree is None]
        if change.anew:
            await connection.run(delete(DirectoryRow))
        elif gone:
            await connection.run(delete(DirectoryRow).where(_among(col(DirectoryRow.path), gone)))
        trees = (
            {"path": p, "tree": tree} for p, tree in change.directories.items() if tree is not None
        )
        await _upsert(connection, DirectoryRow, trees)

    async def _write_head(
        self, connection: Connection, change: IndexChange, expected: str | None
    ) -> None:
        now, head = datetime.now(UTC), change.head
        row = {"id": 1, "origin": self.origin, "commit": head.commit, "seen_at": head.seen_at}
        await _upsert(connection, HeadRow, [row], key="id")
        if head.commit == expected:
            return
        ledger = delete(AppliedCommitRow)
        if change.forward and not change.anew:
            ledger = ledger.where(
                col(AppliedCommitRow.applied_at) < now - timedelta(days=_LEDGER_DAYS)
            )
        await connection.run(ledger)
        await connection.run(insert(AppliedCommitRow).values(commit=head.commit, applied_at=now))

    async def seen(self, head: CachedHead) -> None:
        """Note that this head was the master's at `seen_at`. Nothing happens if it is not ours."""
        async with self.database.transaction() as connection:
            await connection.run(
                update(HeadRow)
                .where(
                    col(HeadRow.origin) == self.origin,
                    col(HeadRow.commit) == head.commit,
                    col(HeadRow.seen_at) < head.seen_at,
                )
                .values(seen_at=head.seen_at)
            )

    async def outdated(self, at: datetime) -> None:
        """Note that the master moved on: no process is to take what was seen before for fresh."""
        async with self.database.transaction() as connection:
            await connection.run(
                update(HeadRow)
                .where(col(HeadRow.origin) == self.origin)
                .values(outdated_at=func.greatest(col(HeadRow.outdated_at), at))
            )

    @asynccontextmanager
    async def turn_to_commit(self) -> AsyncIterator[None]:
        """Keeps processes from committing at once: all but one would do so in vain.

        It is a courtesy. Whoever does not get a turn in time goes on without, and so does
        everybody while PostgreSQL is down: the master's swap keeps them from doing harm.
        """
        stack = AsyncExitStack()
        try:
            connection = await stack.enter_async_context(self.database.transaction())
            # Less than any statement has, so that PostgreSQL is not taken for dead.
            patience = f"{self.database.timeout * 800:.0f}ms"
            await connection.rows(select(func.set_config("lock_timeout", patience, True)))
            await connection.rows(select(func.pg_advisory_xact_lock(_COMMIT_LOCK)))
        except CacheUnavailable as error:
            log.info("committing without a turn: %s", error)
            await _left(stack)
        try:
            yield
        finally:
            await _left(stack)

    async def keep(self, bodies: Mapping[str, tuple[str, str]], *, until: datetime) -> None:
        """Keep bodies of sessions that were read: path -> (revision, markdown).

        A row that has changed meanwhile is passed by.
        """
        kept = (
            update(SessionRow)
            .where(
                col(SessionRow.path) == bindparam("at"),
                col(SessionRow.revision) == bindparam("read"),
            )
            .values(markdown=bindparam("body"), kept_until=until)
        )
        rows = [{"at": p, "read": oid, "body": body} for p, (oid, body) in bodies.items()]
        async with self.database.transaction() as connection:
            for chunk in _chunks(rows, body="body"):
                await connection.run(kept, chunk)

    async def forget_cold(self, *, cutoff: datetime, now: datetime) -> int:
        """Drop the bodies of sessions that were and changed before `cutoff`. Returns how many."""
        table = SessionRow
        async with self.database.transaction(seconds=_BULK_SECONDS) as connection:
            return await connection.run(
                update(table)
                .where(
                    col(table.markdown).is_not(None),
                    col(table.changed_at) < cutoff,
                    col(table.occurred_key) < cutoff,
                    or_(col(table.kept_until).is_(None), col(table.kept_until) < now),
                )
                .values(markdown=None, kept_until=None)
            )

    async def shortcomings(self) -> list[str]:
        """Warnings about what makes searches by a part of a title read every row."""
        async with self.database.transaction(snapshot=True) as connection:
            [row] = await connection.rows(
                text(
                    "SELECT lower('Я') = 'я' AS folds, "
                    "to_regclass('ix_sessions_title_folded') IS NOT NULL AS has_trigrams"
                )
            )
            warnings = []
            if not row["folds"]:
                warnings.append(
                    "The database does not know Cyrillic letters: searches for parts of Russian "
                    "titles are slow. Create it with the locale C.UTF-8 or an ICU locale."
                )
            if not row["has_trigrams"]:
                warnings.append(
                    "The database has no pg_trgm: searches for parts of titles are slow. "
                    "Have an administrator run CREATE EXTENSION pg_trgm, then migrate again."
                )
            return warnings

    async def log(self, entry: SyncRow | HealthCheckRow) -> None:
        async with self.database.transaction() as connection:
            await connection.run(insert(type(entry)).values(**entry.model_dump(exclude={"id"})))

    async def _head(self, connection: Connection) -> CachedHead | None:
        rows = await connection.rows(
            select(col(HeadRow.commit), col(HeadRow.seen_at), col(HeadRow.outdated_at)).where(
                col(HeadRow.origin) == self.origin
            )
        )
        return CachedHead(**rows[0]) if rows else None


async def _left(stack: AsyncExitStack) -> None:
    with suppress(CacheUnavailable):  # it held nothing but a lock
        await stack.aclose()


async def _upsert(
    connection: Connection,
    table: AnyTable | type[DirectoryRow] | type[HeadRow],
    rows: Iterable[Values],
    *,
    key: str = "path",
) -> None:
    for chunk in _chunks(rows, body="markdown"):
        statement = insert(table)
        statement = statement.on_conflict_do_update(
            index_elements=[key],
            set_={name: statement.excluded[name] for name in chunk[0] if name != key},
        )
        await connection.run(statement, chunk)


def _chunks(rows: Iterable[Values], *, body: str) -> Iterator[list[Values]]:
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


def _among(column: Mapped[Any], values: Iterable[str]) -> ColumnElement[bool]:
    """Whether the column has one of these values: one parameter, however many there are."""
    storable = [value for value in values if not UNSTORABLE.search(value)]
    return column == any_(literal(storable, ARRAY(Plain)))


def cut_page(items: Sequence[Indexed], listing: Listing, window: Window) -> Page:
    """A page from the rows found for it, of which there is one too many if there are more."""
    ordered = sorted(
        items,
        key=lambda item: position(listing.order, item.document),
        reverse=listing.order.descending,
    )
    cut = len(ordered) > window.size
    if window.from_end:
        return Page(ordered[cut:], has_previous=cut, has_next=window.before is not None)
    return Page(ordered[: window.size], has_previous=window.after is not None, has_next=cut)


def _page_select(listing: Listing, window: Window, *, slot: int) -> Select[tuple[object, ...]]:
    """The rows of a page and one more, marked with their slot. A union keeps no order."""
    table, order = TABLES[listing.collection], listing.order
    backwards = order.descending != window.from_end
    columns = _order_columns(table, order)
    conditions = _conditions(table, listing.where)
    if window.after is not None:
        conditions.append(_beyond(columns, window.after, below=order.descending))
    if window.before is not None:
        conditions.append(_beyond(columns, window.before, below=not order.descending))
    inner = (
        select(literal(slot).label("slot"), *columns_of(listing.collection, bodies=False))
        .where(*conditions)
        .order_by(*(c.desc() if backwards else c.asc() for c in columns))
        .limit(window.size + 1)
        .subquery()
    )
    return select(inner)


def _order_columns(table: AnyTable, order: Order) -> list[InstrumentedAttribute[object]]:
    key = {"occurred": "occurred_key", "rank": "rank_key", "path": None}[order.key]
    return [getattr(table, name) for name in (key, "path") if name]


def _beyond(
    columns: Sequence[InstrumentedAttribute[object]], position: Position, *, below: bool
) -> ColumnElement[bool]:
    values = [
        literal(value, column.type)
        for column, value in zip(columns, position[-len(columns) :], strict=True)
    ]
    left, right = tuple_(*columns), tuple_(*values)
    return left < right if below else left > right


def _conditions(table: AnyTable, where: Where) -> list[ColumnElement[bool]]:
    if where == Where():
        return []
    texts = (where.status, where.priority, where.agent, where.tag, where.title_contains)
    if table is not SessionRow or any(UNSTORABLE.search(text) for text in texts if text):
        return [false()]
    conditions = [
        col(getattr(SessionRow, name)) == value
        for name in ("status", "priority", "agent")
        if (value := getattr(where, name)) is not None
    ]
    if where.project_keys is not None:
        keys = map(cut_key, where.project_keys)
        conditions.append(_among(col(SessionRow.project_key), keys))
    if where.tag is not None:
        conditions.append(SessionRow.tags.contains([where.tag]))  # type: ignore[attr-defined]
    if where.since is not None or where.until is not None:
        conditions.append(col(SessionRow.occurred_at).is_not(None))
    if where.since is not None:
        conditions.append(col(SessionRow.occurred_key) >= where.since)
    if where.until is not None:
        conditions.append(col(SessionRow.occurred_key) < where.until)
    if where.title_contains is not None:
        folded = fold(where.title_contains)
        conditions.append(col(SessionRow.title_folded).contains(folded, autoescape=True))
    return conditions
