"""What readers ask in SQL: one statement for each shape of a question, written once. Pure.

A statement is for SQLAlchemy as it is. `sql` is the same for asyncpg, with the head's version in
each row: what is read without a transaction is known by it to be of one state.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property, lru_cache
from typing import Any, TypeAlias

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Integer,
    Select,
    any_,
    bindparam,
    false,
    func,
    literal_column,
    select,
    true,
    tuple_,
    union_all,
)
from sqlalchemy.dialects.postgresql import ARRAY, asyncpg
from sqlalchemy.orm import InstrumentedAttribute
from sqlmodel import col

from api.cache.rows import TABLES, WITHOUT_BODIES, AnyTable, Columns, columns_of
from api.cache.tables import AppliedCommitRow, HeadRow, Moment, Plain, SessionRow
from api.documents import Collection
from api.documents.listing import (
    UNSTORABLE,
    Listing,
    Order,
    Where,
    Window,
    cut_key,
    fold,
)

Values: TypeAlias = Mapping[str, object]

_REMEMBERED = 1_000  # shapes; agents use a few dozen
_NO_CONDITIONS = Where()
_NO_SHAPE = frozenset[str]()
_TEXTS = ("status", "priority", "agent")
_DIALECT = asyncpg.dialect()  # type: ignore[no-untyped-call]
# Equal as long as nobody touches a row, by whatever means: the stamps of all directories; and which
# tables and triggers those are, null unless all triggers are there. A table that is truncated or
# written anew by an ALTER TABLE is in another file.
TOUCHES = """
    SELECT (SELECT origin FROM head) AS origin,
    (
        SELECT string_agg(concat_ws(' ', t.oid, t.xmin, pg_relation_filenode(t.tgrelid)), ','
                          ORDER BY t.oid)
        FROM pg_trigger AS t
        WHERE t.tgrelid IN ('sessions'::regclass, 'projects'::regclass, 'priorities'::regclass)
            AND t.tgname IN ('touched_by_insert', 'touched_by_update', 'touched_by_delete')
            AND t.tgenabled = 'A'
        HAVING count(*) = 9
    ) AS tables,
    (
        SELECT concat_ws(' ', count(*), bit_xor(hashtextextended(directory || ' ' || stamp, 0)))
        FROM touched
    ) AS stamps
"""
_WATCHED = "SELECT t.*, q.* FROM ({}) AS t LEFT JOIN ({}) AS q ON true"
_VERSIONED = (
    "SELECT v.version, q.* FROM (SELECT (SELECT version FROM head) AS version) AS v "
    "LEFT JOIN ({}) AS q ON true"
)


class Statement:
    """A statement with named parameters. Its first column is null in no row."""

    def __init__(self, select: Select[*tuple[Any, ...]] | CompoundSelect[*tuple[Any, ...]]) -> None:
        self.select = select

    @cached_property
    def sql(self) -> str:
        return _VERSIONED.format(self._compiled[0])

    @cached_property
    def watched_sql(self) -> str:
        """The same with TOUCHES in each row."""
        return _WATCHED.format(TOUCHES, self._compiled[0])

    def in_order(self, values: Values) -> list[object]:
        """The values as the text for asyncpg takes them."""
        return [values[name] for name in self._compiled[1]]

    @cached_property
    def _compiled(self) -> tuple[str, Sequence[str]]:
        compiled = self.select.compile(dialect=_DIALECT)
        return str(compiled), tuple(compiled.positiontup or ())


HEAD = Statement(
    select(
        col(HeadRow.commit),
        col(HeadRow.seen_at),
        col(HeadRow.outdated_at),
        (col(HeadRow.parser) < bindparam("parser", type_=Integer)).label("is_outparsed"),
        col(HeadRow.version),
    ).where(col(HeadRow.origin) == bindparam("origin", type_=Plain))
)


@lru_cache(_REMEMBERED)
def documents(collection: Collection, columns: Columns) -> Statement:
    """The documents at `paths`."""
    return Statement(
        select(*columns_of(collection, columns)).where(_among(TABLES[collection].path, "paths"))
    )


@lru_cache(_REMEMBERED)
def listed(collection: Collection) -> Statement:
    """What a tree would name of the documents at `paths`."""
    table = TABLES[collection]
    return Statement(
        select(col(table.path), col(table.revision), col(table.bytes), col(table.mode)).where(
            _among(table.path, "paths")
        )
    )


@lru_cache(_REMEMBERED)
def everything(collection: Collection) -> Statement:
    """All documents, ordered by path."""
    columns = columns_of(collection, WITHOUT_BODIES)
    return Statement(select(*columns).order_by(col(TABLES[collection].path)))


@lru_cache(_REMEMBERED)
def bodies(collection: Collection) -> Statement:
    """The bodies that are at hand of `revisions`."""
    table = TABLES[collection]
    return Statement(
        select(col(table.revision), col(table.markdown)).where(
            _among(table.revision, "revisions"), col(table.markdown).is_not(None)
        )
    )


APPLIED = Statement(
    select(col(AppliedCommitRow.applied_at))
    .where(col(AppliedCommitRow.commit) == bindparam("commit", type_=Plain))
    .order_by(col(AppliedCommitRow.sequence).desc())
    .limit(literal_column("1"))
)


def pages(
    asked: Sequence[tuple[Listing, Window]], columns: Columns, without: Iterable[str] = ()
) -> tuple[Statement, dict[str, object]]:
    """The rows of pages of one collection and one more of each, marked with the page's number.

    `without`: as if nothing were at these paths.
    """
    shapes = tuple(_page_shape(listing, window) for listing, window in asked)
    left_out = storable(without)
    values: dict[str, object] = {"without": left_out}
    for i, (listing, window) in enumerate(asked):
        values |= _values_of(_narrowed(listing, window), str(i))
        for name in ("after", "before"):
            if position := getattr(window, name):
                values |= {f"{name}_key{i}": position[0], f"{name}_path{i}": position[1]}
    return _pages(shapes, columns, bool(left_out)), values


def counts(
    listings: Sequence[Listing], without: Iterable[str] = ()
) -> tuple[Statement, dict[str, object]]:
    """The true total of each list, marked with the list's number. `without`: as of `pages`."""
    shapes = tuple((listing.collection, _where_shape(listing)) for listing in listings)
    left_out = storable(without)
    values: dict[str, object] = {"without": left_out}
    for i, listing in enumerate(listings):
        values |= _values_of(listing.where, str(i))
    return _counts(shapes, bool(left_out)), values


# Shapes: all that makes the text of a statement

_WhereShape: TypeAlias = frozenset[str] | None  # the conditions that are made; None: none is met


@dataclass(frozen=True, slots=True)
class _PageShape:
    collection: Collection
    where: _WhereShape
    order: Order
    size: int
    from_end: bool
    after: bool
    before: bool


def _page_shape(listing: Listing, window: Window) -> _PageShape:
    return _PageShape(
        listing.collection,
        _where_shape(listing),
        listing.order,
        window.size,
        window.from_end,
        window.after is not None,
        window.before is not None,
    )


def _where_shape(listing: Listing) -> _WhereShape:
    where = listing.where
    if where == _NO_CONDITIONS:
        return _NO_SHAPE
    made = frozenset(
        name for name in Where.__dataclass_fields__ if getattr(where, name) is not None
    )
    texts = (where.status, where.priority, where.agent, where.tag, where.title_contains)
    if made and listing.collection is not Collection.SESSIONS:
        return None
    return None if any(UNSTORABLE.search(text) for text in texts if text) else made


def _narrowed(listing: Listing, window: Window) -> Where:
    """The same page, with no day asked for that its cursors exclude.

    Of two bounds on one side PostgreSQL may begin at either, and walk from a far `until` to the
    cursor.
    """
    where, order = listing.where, listing.order
    if order.key != "occurred":
        return where
    newest, oldest = window.after, window.before
    if not order.descending:
        newest, oldest = oldest, newest
    if where.until and newest and isinstance(newest[0], datetime) and newest[0] < where.until:
        where = replace(where, until=newest[0] + timedelta.resolution)
    if where.since and oldest and isinstance(oldest[0], datetime) and oldest[0] > where.since:
        where = replace(where, since=oldest[0])
    return where


def _values_of(where: Where, i: str) -> dict[str, object]:
    if where == _NO_CONDITIONS:
        return {}
    values: dict[str, object] = {f"{name}{i}": getattr(where, name) for name in _TEXTS}
    return values | {
        f"keys{i}": storable(map(cut_key, where.project_keys or ())),
        f"tag{i}": [where.tag],
        f"since{i}": where.since,
        f"until{i}": where.until,
        f"title{i}": _pattern(where.title_contains or ""),
    }


def _pattern(part: str) -> str:
    """What LIKE finds a part of a title by."""
    escaped = fold(part)
    for special in "/%_":
        escaped = escaped.replace(special, f"/{special}")
    return f"%{escaped}%"


def storable(values: Iterable[str]) -> list[str]:
    """Those of the values that can be in the database."""
    return [value for value in values if not UNSTORABLE.search(value)]


@lru_cache(_REMEMBERED)
def _pages(shapes: tuple[_PageShape, ...], columns: Columns, is_cut: bool) -> Statement:
    selects = [
        select(_page(shape, columns, i, is_cut).subquery()) for i, shape in enumerate(shapes)
    ]
    return Statement(union_all(*selects) if len(selects) > 1 else selects[0])


def _page(shape: _PageShape, columns: Columns, i: int, is_cut: bool) -> Select[*tuple[Any, ...]]:
    table = TABLES[shape.collection]
    order = _order_columns(table, shape.order)
    conditions = _conditions(table, shape.where, i, is_cut)
    if shape.after:
        conditions.append(_beyond(order, f"after_{{}}{i}", below=shape.order.descending))
    if shape.before:
        conditions.append(_beyond(order, f"before_{{}}{i}", below=not shape.order.descending))
    backwards = shape.order.descending != shape.from_end
    read = [literal_column(str(i)).label("slot"), *columns_of(shape.collection, columns)]

    def cut(rows: Select[*tuple[Any, ...]], by: Iterable[Any]) -> Select[*tuple[Any, ...]]:
        ordered = rows.order_by(*(c.desc() if backwards else c.asc() for c in by))
        return ordered.limit(literal_column(str(shape.size + 1)))

    rows = select(*read).where(*conditions)
    if shape.where is None or "project_keys" not in shape.where:
        return cut(rows, order)
    # The first of each key by its index, then the first of all: else PostgreSQL reads and sorts
    # all sessions of a project that goes by several names.
    unnested = func.unnest(bindparam(f"keys{i}", type_=ARRAY(Plain)))
    keys = unnested.table_valued("key").render_derived(name=f"k{i}")
    named = rows.add_columns(*(c.label(f"by{n}") for n, c in enumerate(order)))
    first = cut(named.where(col(SessionRow.project_key) == keys.c.key), order).lateral()
    wanted = [first.c[column.name] for column in read]
    joined = select(*wanted).select_from(keys.join(first, true()))
    return cut(joined, [first.c[f"by{n}"] for n in range(len(order))])


@lru_cache(_REMEMBERED)
def _counts(shapes: tuple[tuple[Collection, _WhereShape], ...], is_cut: bool) -> Statement:
    selects = []
    for i, (collection, where) in enumerate(shapes):
        table = TABLES[collection]
        conditions = _conditions(table, where, i, is_cut)
        if where and "project_keys" in where:
            keys = bindparam(f"keys{i}", type_=ARRAY(Plain))
            conditions.append(col(SessionRow.project_key) == any_(keys))
        number: ColumnElement[int] = literal_column(str(i))
        counted = select(number.label("slot"), func.count().label("n")).select_from(table)
        selects.append(counted.where(*conditions))
    return Statement(union_all(*selects) if len(selects) > 1 else selects[0])


def _conditions(
    table: AnyTable, where: _WhereShape, i: int, is_cut: bool
) -> list[ColumnElement[bool]]:
    """All conditions but that on the project. `is_cut`: some paths are left out."""
    if where is None:
        return [false()]
    conditions = [~_among(table.path, "without")] if is_cut else []
    conditions += [
        col(getattr(table, name)) == bindparam(f"{name}{i}", type_=Plain)
        for name in _TEXTS
        if name in where
    ]
    made: dict[str, Callable[[], ColumnElement[bool]]] = {
        "tag": lambda: SessionRow.tags.contains(  # type: ignore[attr-defined]
            bindparam(f"tag{i}", type_=ARRAY(Plain))
        ),
        "since": lambda: col(SessionRow.occurred_key) >= bindparam(f"since{i}", type_=Moment),
        "until": lambda: col(SessionRow.occurred_key) < bindparam(f"until{i}", type_=Moment),
        "title_contains": lambda: col(SessionRow.title_folded).like(
            bindparam(f"title{i}", type_=Plain), escape="/"
        ),
    }
    conditions += [condition() for name, condition in made.items() if name in where]
    if where & {"since", "until"}:
        conditions.append(col(SessionRow.occurred_at).is_not(None))
    return conditions


def _order_columns(table: AnyTable, order: Order) -> list[InstrumentedAttribute[object]]:
    key = {"occurred": "occurred_key", "rank": "rank_key", "path": None}[order.key]
    return [getattr(table, name) for name in (key, "path") if name]


def _beyond(
    columns: Sequence[InstrumentedAttribute[object]], name: str, *, below: bool
) -> ColumnElement[bool]:
    parts = ("key", "path")[-len(columns) :]
    values = [
        bindparam(name.format(part), type_=column.type)
        for part, column in zip(parts, columns, strict=True)
    ]
    left, right = tuple_(*columns), tuple_(*values)
    return left < right if below else left > right


def _among(column: Any, name: str) -> ColumnElement[bool]:
    """Whether the column has one of the values: one parameter, however many there are."""
    return col(column) == any_(bindparam(name, type_=ARRAY(Plain)))
