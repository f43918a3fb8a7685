"""Between documents and rows. Pure."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, TypeAlias, cast

from sqlalchemy import ColumnElement, DateTime, any_, case, func, inspect, literal, literal_column
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.engine import RowMapping
from sqlalchemy.orm import Mapped

from api.cache.tables import (
    Plain,
    PriorityRow,
    ProjectRow,
    SessionRow,
    StagedPriorityRow,
    StagedProjectRow,
    StagedSessionRow,
)
from api.documents import AnyDocument, Collection, Priority, Project, Session
from api.documents.listing import UNDATED, UNSTORABLE, Indexed, fold, key_of, key_of_project

AnyTable: TypeAlias = type[SessionRow] | type[ProjectRow] | type[PriorityRow]
AnyStagedTable: TypeAlias = (
    type[StagedSessionRow] | type[StagedProjectRow] | type[StagedPriorityRow]
)

TABLES: dict[Collection, AnyTable] = {
    Collection.SESSIONS: SessionRow,
    Collection.PROJECTS: ProjectRow,
    Collection.PRIORITIES: PriorityRow,
}
STAGED: dict[Collection, AnyStagedTable] = {
    Collection.SESSIONS: StagedSessionRow,
    Collection.PROJECTS: StagedProjectRow,
    Collection.PRIORITIES: StagedPriorityRow,
}
_SHARED = ("path", "revision", "bytes", "title")
_OWN: dict[Collection, tuple[str, ...]] = {
    Collection.SESSIONS: ("occurred_at", "status", "project", "priority", "agent", "tags"),
    Collection.PROJECTS: ("name", "status", "rank"),
    Collection.PRIORITIES: ("rank", "status", "project", "due_on"),
}


def _read_session(row: RowMapping) -> Session:
    occurred_at: datetime | None = row["occurred_at"]
    if occurred_at is not None and occurred_at.tzinfo is None:
        # asyncpg takes the first and the last moment for infinity, which has no zone.
        occurred_at = occurred_at.replace(tzinfo=UTC)
    return Session(
        path=row["path"],
        revision=row["revision"],
        bytes=row["bytes"],
        title=row["title"],
        metadata=row.get("found", {}),
        occurred_at=occurred_at,
        status=row["status"],
        project=row["project"],
        priority=row["priority"],
        agent=row["agent"],
        tags=tuple(row["tags"]),
    )


def _read_project(row: RowMapping) -> Project:
    return Project(
        path=row["path"],
        revision=row["revision"],
        bytes=row["bytes"],
        title=row["title"],
        metadata=row.get("found", {}),
        name=row["name"],
        status=row["status"],
        rank=row["rank"],
    )


def _read_priority(row: RowMapping) -> Priority:
    return Priority(
        path=row["path"],
        revision=row["revision"],
        bytes=row["bytes"],
        title=row["title"],
        metadata=row.get("found", {}),
        rank=row["rank"],
        status=row["status"],
        project=row["project"],
        due_on=row["due_on"],
    )


_READ: dict[Collection, Callable[[RowMapping], AnyDocument]] = {
    Collection.SESSIONS: _read_session,
    Collection.PROJECTS: _read_project,
    Collection.PRIORITIES: _read_priority,
}
_FIRST: ColumnElement[datetime] = literal_column("timestamptz '0001-01-01 00:00:00+00'")
_LAST: ColumnElement[datetime] = literal_column("timestamptz '9999-12-31 23:59:59.999999+00'")
# What is proven otherwise: the body by its hash, the mode by the directory's; or changes in place.
_UNSEALED = frozenset({"markdown", "has_body", "mode", "hot", "kept_until", "seal"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Upsert:
    """A document to be put into the index. Its body is kept if `item.markdown` is given.

    `mode`: git's; None keeps the one that the row has, and is a regular file's if there is none.
    """

    item: Indexed
    changed_at: datetime
    mode: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A row with all that is kept of a document, but for its body.

    `hot`: whether the body is to be there; `item.hot` whether it is. `is_sealed`: whether the row
    says what was written into it.
    """

    item: Indexed
    mode: int
    hot: bool
    kept_until: datetime | None
    changed_at: datetime
    parser: int
    is_sealed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What of a row proves the index. `directory`: as the row says. `parser`, `is_sealed`: as of
    Stored.
    """

    path: str
    directory: str
    revision: str
    mode: int
    has_body: bool
    parser: int
    is_sealed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """What is read of each document, beside what all lists need."""

    bodies: bool = False
    metadata: bool = True


WITHOUT_BODIES = Columns()
WITH_BODIES = Columns(bodies=True)


def columns_of(collection: Collection, wanted: Columns) -> list[ColumnElement[Any]]:
    """What `read_row` needs, and no more."""
    table = TABLES[collection]
    names = [*_SHARED, *_OWN[collection], "unreadable"]
    names += ["found"] if wanted.metadata else []
    names += ["markdown"] if wanted.bodies else []
    columns: list[ColumnElement[Any]] = [_column(table, name) for name in names]
    return [*columns, _column(table, "markdown").is_not(None).label("has_body")]


def _column(table: AnyTable, name: str) -> ColumnElement[Any]:
    return cast(ColumnElement[Any], getattr(table, name))


def read_row(collection: Collection, row: RowMapping) -> Indexed:
    return Indexed(
        collection=collection,
        document=_READ[collection](row),
        hot=row["has_body"],
        unreadable=row["unreadable"],
        markdown=row.get("markdown"),
    )


def columns_stored(table: AnyTable) -> list[ColumnElement[Any]]:
    """What `read_stored` needs: everything but the body."""
    columns = [_clamped(column) for column in all_columns(table) if column.name != "markdown"]
    return [*columns, _column(table, "markdown").is_not(None).label("has_body")]


def _clamped(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """A time as Python can hold it: one that somebody damaged must not hide all other rows."""
    if not isinstance(column.type, DateTime):
        return column
    clamped = func.least(func.greatest(column, _FIRST), _LAST)
    return case((column.is_not(None), clamped)).label(column.key)


def all_columns(table: AnyTable | AnyStagedTable) -> list[ColumnElement[Any]]:
    return list(inspect(table).local_table.columns)


def read_entry(row: RowMapping) -> Entry:
    """An entry from `columns_stored`."""
    values = dict(row)  # which is read faster than the row
    return Entry(
        path=values["path"],
        directory=values["directory"],
        revision=values["revision"],
        mode=values["mode"],
        has_body=values["has_body"],
        parser=values["parser"],
        is_sealed=values["seal"] == seal_of(values),
    )


def read_stored(collection: Collection, row: RowMapping) -> Stored:
    return Stored(
        item=read_row(collection, row),
        mode=row["mode"],
        hot=row["hot"],
        kept_until=row["kept_until"],
        changed_at=row["changed_at"],
        parser=row["parser"],
        is_sealed=row["seal"] == seal_of(dict(row)),
    )


def row_of(upsert: Upsert, parser: int) -> dict[str, object]:
    """The row of a document, as the parser of this version read it."""
    item, document = upsert.item, upsert.item.document
    row: dict[str, object] = {name: getattr(document, name) for name in _SHARED}
    row |= {name: getattr(document, name) for name in _OWN[item.collection]}
    row |= {
        "directory": document.path.rpartition("/")[0],
        "title_folded": fold(document.title),
        "found": dict(document.metadata),
        "unreadable": item.unreadable,
        "markdown": item.markdown,
        "hot": item.markdown is not None,
        "changed_at": upsert.changed_at,
        "kept_until": None,
        "parser": parser,
    }
    if isinstance(document, Session):
        row["tags"] = list(document.tags)
        row["occurred_key"] = key_of("occurred", document)
    else:
        row["rank_key"] = key_of("rank", document)
    if isinstance(document, Session | Priority):
        project = document.project
        row["project_key"] = None if project is None else key_of_project(project)
    if upsert.mode is not None:
        row["mode"] = upsert.mode
    return row | {"seal": seal_of(row)}


def seal_of(row: Mapping[str, object]) -> str:
    """A digest of a row: of what was read of a document, and when it changed."""
    told = {name: value for name, value in row.items() if name not in _UNSEALED}
    return hashlib.blake2b(_encode(told).encode(), digest_size=16).hexdigest()


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        # asyncpg takes the first and the last moment for infinity, which has no zone.
        aware = value if value.tzinfo else value.replace(tzinfo=UTC)
        return (aware if aware.tzinfo is UTC else aware.astimezone(UTC)).isoformat()
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"a row has no {type(value).__name__}")


_encode = json.JSONEncoder(sort_keys=True, default=_plain).encode


def among(column: Mapped[Any] | ColumnElement[Any], values: Iterable[str]) -> ColumnElement[bool]:
    """Whether the column has one of these values: one parameter, however many there are."""
    storable = [value for value in values if not UNSTORABLE.search(value)]
    return column == any_(literal(storable, ARRAY(Plain)))


def is_hot(document: AnyDocument, changed_at: datetime, cutoff: datetime) -> bool:
    """Whether the cache keeps the body: all but sessions that were and changed before `cutoff`."""
    if not isinstance(document, Session):
        return True
    return changed_at >= cutoff or (document.occurred_at or UNDATED) >= cutoff
