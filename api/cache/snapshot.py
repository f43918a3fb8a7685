"""Reading the cache: all that a snapshot tells is true for one commit."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, TypeAlias
from uuid import UUID

from cachetools import LRUCache
from sqlalchemy import ColumnElement, func, inspect, literal, select, text, true
from sqlalchemy.engine import RowMapping
from sqlmodel import col

from api.cache import statements
from api.cache.database import Connection, Database
from api.cache.rows import (
    TABLES,
    WITHOUT_BODIES,
    AnyTable,
    Columns,
    Entry,
    Stored,
    among,
    columns_stored,
    read_entry,
    read_row,
    read_stored,
)
from api.cache.statements import Statement, Values, storable
from api.cache.tables import DirectoryRow, HealthCheckRow, SyncRow, TouchedRow, WorkerRow
from api.documents import Collection, Unreadable
from api.documents.listing import Indexed, Listing, Page, Window, position_in, unreadable

Row: TypeAlias = RowMapping  # asyncpg's records are read alike

_BODIES_A_STATEMENT = 50  # read at once, each of a few KB and none above the limit of documents
_ROWS_A_STATEMENT = 500
_TOTALS = 1_000  # remembered of one version


@dataclass(frozen=True, slots=True)
class CachedHead:
    """The commit that the cache is true for. `seen_at`: when it was last known as the master's.

    `outdated_at`: when the master was last known to have moved on to another commit, if ever.
    `is_outparsed`: an older parser read the documents. `version`: no other state of the cache has
    the same; 0 for a head that is not from there.
    """

    commit: str
    seen_at: datetime
    outdated_at: datetime | None = None
    is_outparsed: bool = False
    version: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Totals:
    documents: int
    hot: int
    unreadable: int


@dataclass(slots=True)
class Known:
    """What is known of one version of the head. All of it stays true for ever."""

    head: CachedHead
    totals: LRUCache[Listing, int] = field(default_factory=lambda: LRUCache(_TOTALS))
    projects: Sequence[Indexed] | None = None


class CacheMoved(Exception):
    """The cache has changed since the first of an operation's questions. Ask all of them anew."""


class Questions(ABC):
    """What readers ask. All answers are for the commit of `head`; none without one."""

    _without: Iterable[str] = ()  # lists are as if nothing were at these paths

    def __init__(self, head: CachedHead | None) -> None:
        self.head = head

    @abstractmethod
    async def _ask(self, statement: Statement, values: Values) -> Sequence[Row]: ...

    async def documents(
        self,
        paths: Iterable[str],
        columns: Columns = WITHOUT_BODIES,
        collections: Iterable[Collection] = Collection,
    ) -> dict[str, Indexed]:
        """The documents at these paths, in whichever of the collections. Absent ones are left out.

        Those that are found twice count in the first.
        """
        wanted, found = set(storable(paths)), dict[str, Indexed]()
        for collection in collections:
            if missing := wanted - found.keys():
                statement = statements.documents(collection, columns)
                for row in await self._ask(statement, {"paths": list(missing)}):
                    found[row["path"]] = read_row(collection, row)
        return found

    async def pages(
        self,
        asked: Sequence[tuple[Listing, Window]],
        columns: Columns = WITHOUT_BODIES,
    ) -> list[Page]:
        """A page of each list, in one statement for each collection."""
        found: dict[int, Page] = {}
        for collection in dict.fromkeys(listing.collection for listing, _ in asked):
            places = [i for i, (listing, _) in enumerate(asked) if listing.collection is collection]
            items: list[list[Indexed]] = [[] for _ in places]
            statement = statements.pages([asked[i] for i in places], columns, self._without)
            for row in await self._ask(*statement):
                items[row["slot"]].append(read_row(collection, row))
            found |= {i: cut_page(rows, *asked[i]) for i, rows in zip(places, items, strict=True)}
        return [found[i] for i in range(len(asked))]

    async def counts(self, listings: Sequence[Listing]) -> list[int]:
        """The true total of each list, in one statement."""
        rows = await self._ask(*statements.counts(listings, self._without))
        totals = {row["slot"]: int(row["n"]) for row in rows}
        return [totals[i] for i in range(len(listings))]

    async def listed(self, paths: Iterable[str]) -> dict[str, tuple[str, int, int]]:
        """Revision, size in bytes and mode of the documents at these paths, where there are any."""
        wanted, found = set(storable(paths)), dict[str, tuple[str, int, int]]()
        for collection in Collection:
            if missing := wanted - found.keys():
                statement = statements.listed(collection)
                rows = await self._ask(statement, {"paths": list(missing)})
                found |= {row["path"]: (row["revision"], row["bytes"], row["mode"]) for row in rows}
        return found

    async def everything(self, collection: Collection) -> Sequence[Indexed]:
        """The whole index of one collection, without bodies, ordered by path."""
        rows = await self._ask(statements.everything(collection), {})
        return [read_row(collection, row) for row in rows]

    async def bodies(self, oids: Iterable[str]) -> dict[str, str]:
        """Hot bodies by oid, wherever they are filed. Unproven: hash them before use."""
        wanted, found = set(storable(oids)), dict[str, str]()
        for collection in Collection:
            if missing := wanted - found.keys():
                rows = await self._ask(statements.bodies(collection), {"revisions": list(missing)})
                found |= {row["revision"]: row["markdown"] for row in rows}
        return found

    async def applied_at(self, commit: str) -> datetime | None:
        """When the cache came to be at this commit. None if its head does not contain it."""
        if self.head is None:
            return None
        for row in await self._ask(statements.APPLIED, {"commit": commit}):
            found: datetime = row["applied_at"]
            return found
        return self.head.seen_at if commit == self.head.commit else None


class Glance(Questions):
    """The cache at one version of its head, without a transaction: each question is one round trip.

    Raises CacheMoved when the cache is not at that version any more.
    """

    def __init__(self, database: Database, known: Known) -> None:
        super().__init__(known.head)
        self._database = database
        self._known = known

    async def _ask(self, statement: Statement, values: Values) -> Sequence[Row]:
        rows = await self._database.fetch(statement.sql, statement.in_order(values))
        if rows[0]["version"] != self._known.head.version:
            raise CacheMoved
        return rows if rows[0][1] is not None else ()

    async def counts(self, listings: Sequence[Listing]) -> list[int]:
        totals = self._known.totals
        unknown = [listing for listing in dict.fromkeys(listings) if listing not in totals]
        found = {listing: totals[listing] for listing in listings if listing in totals}
        if unknown:
            found |= zip(unknown, await super().counts(unknown), strict=True)
            for listing in unknown:
                totals[listing] = found[listing]
        return [found[listing] for listing in listings]

    async def projects(self) -> Sequence[Indexed]:
        """All projects, ordered by path."""
        if self._known.projects is None:
            self._known.projects = await self.everything(Collection.PROJECTS)
        return self._known.projects


@dataclass(frozen=True, slots=True)
class Touches:
    """Two of these are equal as long as nobody has touched a row in between, by whatever means.

    `tables`: which tables and triggers they are; `stamps`: a digest of all stamps.
    """

    tables: str
    stamps: str


class Untouched(Questions):
    """The rows of the cache as long as nobody touches one: each question is one round trip.

    Raises CacheMoved when somebody has, or when the cache is not that of `origin` any more.
    """

    def __init__(
        self, database: Database, origin: str, touches: Touches, without: Iterable[str] = ()
    ) -> None:
        super().__init__(None)
        self._database = database
        self._origin = origin
        self._touches = touches
        self._without = without

    def without(self, paths: Iterable[str]) -> "Untouched":
        """The same, but lists are as if nothing were at these paths."""
        return Untouched(self._database, self._origin, self._touches, paths)

    async def check(self) -> None:
        """Only raises CacheMoved, if there is a reason."""
        if await touches_now(self._database, self._origin) != self._touches:
            raise CacheMoved

    async def _ask(self, statement: Statement, values: Values) -> Sequence[Row]:
        rows = await self._database.fetch(statement.watched_sql, statement.in_order(values))
        if _touches_in(rows[0], self._origin) != self._touches:
            raise CacheMoved
        return rows if rows[0][3] is not None else ()


async def touches_now(database: Database, origin: str) -> Touches | None:
    """As `Snapshot.touches`, in one round trip, for a reader."""
    [row] = await database.fetch(statements.TOUCHES, ())
    return _touches_in(row, origin)


def _touches_in(row: Row, origin: str) -> Touches | None:
    """None where changes would not be noticed, or the cache is not that of `origin`."""
    if row["origin"] != origin or row["tables"] is None:
        return None
    return Touches(row["tables"], row["stamps"])


class Snapshot(Questions):
    """The cache at one moment, in a transaction."""

    def __init__(self, connection: Connection, head: CachedHead | None) -> None:
        super().__init__(head)
        self._connection = connection

    async def _ask(self, statement: Statement, values: Values) -> Sequence[Row]:
        return await self._connection.rows(statement.select, values)

    async def scan(self, collection: Collection) -> AsyncIterator[Indexed]:
        """Every row of a collection with the body it has, ordered by path, a few at a time."""
        async for page in self.stored(collection):
            paths = [stored.item.document.path for stored in page if stored.item.hot]
            bodies = await self.texts(collection, paths)
            for stored in page:
                yield replace(stored.item, markdown=bodies.get(stored.item.document.path))

    async def stored(
        self, collection: Collection, *, outparsed: int | None = None
    ) -> AsyncIterator[list[Stored]]:
        """Every row of a collection as it is, without bodies, ordered by path, in pages.

        `outparsed`: only those with a body that were read by an older parser than this one.
        """
        table, last = TABLES[collection], None
        while True:
            statement = select(*columns_stored(table))
            if last is not None:
                statement = statement.where(col(table.path) > last)
            if outparsed is not None:
                statement = statement.where(
                    col(table.parser) < outparsed, col(table.markdown).is_not(None)
                )
            rows = await self._connection.rows(
                statement.order_by(col(table.path)).limit(_ROWS_A_STATEMENT)
            )
            if rows:
                yield [read_stored(collection, row) for row in rows]
            if len(rows) < _ROWS_A_STATEMENT:
                return
            last = rows[-1]["path"]

    async def entries(
        self, collection: Collection, directories: Iterable[str] | None = None
    ) -> AsyncIterator[list[Entry]]:
        """The rows of these directories, or all, ordered by path, in pages."""
        table, last = TABLES[collection], None
        statement = select(*columns_stored(table)).order_by(col(table.path))
        if directories is not None:
            statement = statement.where(among(col(table.directory), directories))
        while True:
            further = statement if last is None else statement.where(col(table.path) > last)
            rows = await self._connection.rows(further.limit(_ROWS_A_STATEMENT))
            if rows:
                yield [read_entry(row) for row in rows]
            if len(rows) < _ROWS_A_STATEMENT:
                return
            last = rows[-1]["path"]

    async def touches(self, origin: str) -> Touches | None:
        """By which it is known whether somebody has touched a row. None: that is not noticed."""
        [row] = await self._connection.rows(text(statements.TOUCHES))
        return _touches_in(row, origin)

    async def stamps(self) -> dict[str, UUID]:
        """The stamp of each directory whose rows were ever touched."""
        rows = await self._connection.rows(select(col(TouchedRow.directory), col(TouchedRow.stamp)))
        return {row["directory"]: row["stamp"] for row in rows}

    async def texts(self, collection: Collection, paths: Sequence[str]) -> dict[str, str]:
        """The bodies at these paths of one collection, where they are here. Unproven."""
        table, found = TABLES[collection], dict[str, str]()
        for start in range(0, len(paths), _BODIES_A_STATEMENT):
            rows = await self._connection.rows(
                select(col(table.path), col(table.markdown)).where(
                    among(col(table.path), paths[start : start + _BODIES_A_STATEMENT]),
                    col(table.markdown).is_not(None),
                )
            )
            found |= {row["path"]: row["markdown"] for row in rows}
        return found

    async def files(self, directories: Iterable[str] | None = None) -> dict[str, tuple[str, int]]:
        """Revision and mode of the documents that lie directly in these directories, or of all."""
        found = dict[str, tuple[str, int]]()
        for table in TABLES.values():
            statement = select(col(table.path), col(table.revision), col(table.mode))
            if directories is not None:
                statement = statement.where(among(col(table.directory), directories))
            rows = await self._connection.rows(statement)
            found |= {row["path"]: (row["revision"], row["mode"]) for row in rows}
        return found

    async def files_in(self, directories: Iterable[str]) -> list[tuple[str, str, int]]:
        """Path, revision and mode of the documents that lie directly in these directories.

        As `files`, and several times as quick where they are thousands.
        """
        found: list[tuple[str, str, int]] = []
        for table in TABLES.values():
            columns = (col(table.path), col(table.revision), col(table.mode))
            statement = select(
                *(
                    func.array_agg(column).label(name)
                    for column, name in zip(columns, "prm", strict=True)
                )
            ).where(among(col(table.directory), directories))
            [row] = await self._connection.rows(statement)
            found += zip(row["p"] or (), row["r"] or (), row["m"] or (), strict=True)
        return found

    async def are_filled(self, directories: Iterable[str]) -> set[str]:
        """Those of these directories that have documents in or below them."""
        filled: set[str] = set()
        for directory in directories:
            for table in TABLES.values():
                within = col(table.path) > f"{directory}/", col(table.path) < f"{directory}0"
                if await self._connection.rows(select(col(table.path)).where(*within).limit(1)):
                    filled.add(directory)
        return filled

    async def directories(self, parents: Iterable[str] | None = None) -> dict[str, str]:
        """The tree oid of each directory that is known, or that lies directly in one of these."""
        statement = select(col(DirectoryRow.path), col(DirectoryRow.tree))
        if parents is not None:
            parent = func.regexp_replace(col(DirectoryRow.path), "/?[^/]*$", "")
            statement = statement.where(among(parent, parents), col(DirectoryRow.path) != "")
        rows = await self._connection.rows(statement)
        return {row["path"]: row["tree"] for row in rows}

    async def others(self) -> dict[str, bytes]:
        """The entries of each directory that are no documents, as git writes them."""
        rows = await self._connection.rows(select(col(DirectoryRow.path), col(DirectoryRow.others)))
        return {row["path"]: row["others"] for row in rows}

    async def known_directories(self, paths: Iterable[str]) -> dict[str, tuple[str, bytes]]:
        """The tree oid and the other entries of each of these directories that is known."""
        rows = await self._connection.rows(
            select(*_all_of(DirectoryRow)).where(among(col(DirectoryRow.path), paths))
        )
        return {row["path"]: (row["tree"], row["others"]) for row in rows}

    async def totals(self, *, documents: int | None = None) -> Totals:
        """`documents`: how many there are, if that is known. To count them, all are read."""
        counts = {
            "hot": [_count(table, col(table.markdown).is_not(None)) for table in TABLES.values()],
            "unreadable": [
                _count(table, col(table.unreadable).is_not(None)) for table in TABLES.values()
            ],
        }
        if documents is None:
            counts["documents"] = [_count(table, true()) for table in TABLES.values()]
        [row] = await self._connection.rows(
            select(*(sum(each, literal(0)).label(name) for name, each in counts.items()))
        )
        return Totals(**({"documents": documents} | dict(row)))

    async def unreadable(self, window: Window) -> list[Indexed]:
        """The documents after `window.after` that cannot be read, by path, whatever collection.

        As many as fit into the window, and one more if there are more.
        """
        found: list[Indexed] = []
        for collection, table in TABLES.items():
            statement = select(
                col(table.path), col(table.revision), col(table.bytes), col(table.unreadable)
            ).where(col(table.unreadable).is_not(None))
            if window.after is not None:
                statement = statement.where(col(table.path) > window.after[-1])
            rows = await self._connection.rows(
                statement.order_by(col(table.path)).limit(window.size + 1)
            )
            for row in rows:
                broken = Unreadable(
                    path=row["path"],
                    revision=row["revision"],
                    bytes=row["bytes"],
                    reason=row["unreadable"],
                )
                found.append(unreadable(collection, broken))
        found.sort(key=lambda item: item.document.path)
        return found[: window.size + 1]

    async def health_checks(self, window: Window) -> list[HealthCheckRow]:
        """The health checks after `window.after`, which is a number, the newest first.

        As many as fit into the window, and one more if there are more.
        """
        statement = select(*_all_of(HealthCheckRow))
        if window.after is not None:
            statement = statement.where(col(HealthCheckRow.id) < window.after[0])
        rows = await self._connection.rows(
            statement.order_by(col(HealthCheckRow.id).desc()).limit(window.size + 1)
        )
        return [HealthCheckRow.model_validate(dict(row)) for row in rows]

    async def health_check_count(self) -> int:
        [row] = await self._connection.rows(
            select(func.count().label("n")).select_from(HealthCheckRow)
        )
        return int(row["n"])

    async def last_health_check(self) -> HealthCheckRow | None:
        checks = await self.health_checks(Window(size=0))
        return checks[0] if checks else None

    async def last_logged(self, kind: str) -> SyncRow | None:
        """The newest entry of the log of this kind."""
        rows = await self._connection.rows(
            select(*_all_of(SyncRow))
            .where(col(SyncRow.kind) == kind)
            .order_by(col(SyncRow.id).desc())
            .limit(1)
        )
        return SyncRow.model_validate(dict(rows[0])) if rows else None

    async def last_worker(self) -> WorkerRow | None:
        """The worker that gave the newest sign of life."""
        rows = await self._connection.rows(
            select(*_all_of(WorkerRow)).order_by(col(WorkerRow.seen_at).desc()).limit(1)
        )
        return WorkerRow.model_validate(dict(rows[0])) if rows else None


def _all_of(
    table: type[DirectoryRow] | type[HealthCheckRow] | type[SyncRow] | type[WorkerRow],
) -> list[ColumnElement[Any]]:
    return list(inspect(table).local_table.columns)


def _count(table: AnyTable, condition: ColumnElement[bool]) -> ColumnElement[int]:
    return select(func.count()).select_from(table).where(condition).scalar_subquery()


def cut_page(items: Sequence[Indexed], listing: Listing, window: Window) -> Page:
    """A page from the rows found for it, of which there is one too many if there are more."""
    place = position_in(listing.order)
    ordered = sorted(items, key=lambda item: place(item.document), reverse=listing.order.descending)
    cut = len(ordered) > window.size
    if window.from_end:
        return Page(ordered[cut:], has_previous=cut, has_next=window.before is not None)
    return Page(ordered[: window.size], has_previous=window.after is not None, has_next=cut)
