"""Between documents and rows. Pure."""

from datetime import UTC, datetime
from typing import Any, TypeAlias, cast

from sqlalchemy import ColumnElement
from sqlalchemy.engine import RowMapping

from api.cache.tables import PriorityRow, ProjectRow, SessionRow
from api.documents import AnyDocument, Collection, Priority, Project, Session
from api.documents.listing import UNDATED, Indexed, fold, key_of, key_of_project

AnyTable: TypeAlias = type[SessionRow] | type[ProjectRow] | type[PriorityRow]

TABLES: dict[Collection, AnyTable] = {
    Collection.SESSIONS: SessionRow,
    Collection.PROJECTS: ProjectRow,
    Collection.PRIORITIES: PriorityRow,
}
_DOCUMENTS: dict[Collection, type[AnyDocument]] = {
    Collection.SESSIONS: Session,
    Collection.PROJECTS: Project,
    Collection.PRIORITIES: Priority,
}
_SHARED = ("path", "revision", "bytes", "title")
_OWN: dict[Collection, tuple[str, ...]] = {
    Collection.SESSIONS: ("occurred_at", "status", "project", "priority", "agent", "tags"),
    Collection.PROJECTS: ("name", "status", "rank"),
    Collection.PRIORITIES: ("rank", "status", "project", "due_on"),
}


def columns_of(collection: Collection, *, bodies: bool) -> list[ColumnElement[Any]]:
    """What `read_row` needs, and no more: bodies only when asked for."""
    table = TABLES[collection]
    names = (*_SHARED, *_OWN[collection], "found", "unreadable")
    columns: list[ColumnElement[Any]] = [_column(table, name) for name in names]
    body = _column(table, "markdown")
    columns.append(body.is_not(None).label("hot"))
    return [*columns, body] if bodies else columns


def _column(table: AnyTable, name: str) -> ColumnElement[Any]:
    return cast(ColumnElement[Any], getattr(table, name))


def read_row(collection: Collection, row: RowMapping) -> Indexed:
    values = {name: row[name] for name in (*_SHARED, *_OWN[collection])}
    if collection is Collection.SESSIONS:
        values["tags"] = tuple(values["tags"])
        if values["occurred_at"] is not None:
            # asyncpg takes the first and the last moment for infinity, which has no zone.
            values["occurred_at"] = values["occurred_at"].replace(tzinfo=UTC)
    return Indexed(
        collection=collection,
        document=_DOCUMENTS[collection](**values, metadata=row["found"]),
        hot=row["hot"],
        unreadable=row["unreadable"],
        markdown=row.get("markdown"),
    )


def row_of(item: Indexed, changed_at: datetime) -> dict[str, object]:
    """The row of a document. Its body is kept if the item carries it."""
    document = item.document
    row: dict[str, object] = {name: getattr(document, name) for name in _SHARED}
    row |= {name: getattr(document, name) for name in _OWN[item.collection]}
    row |= {
        "directory": document.path.rpartition("/")[0],
        "title_folded": fold(document.title),
        "found": dict(document.metadata),
        "unreadable": item.unreadable,
        "markdown": item.markdown,
        "changed_at": changed_at,
        "kept_until": None,
    }
    if isinstance(document, Session):
        row["tags"] = list(document.tags)
        row["occurred_key"] = key_of("occurred", document)
    else:
        row["rank_key"] = key_of("rank", document)
    if isinstance(document, Session | Priority):
        project = document.project
        row["project_key"] = None if project is None else key_of_project(project)
    return row


def is_hot(document: AnyDocument, changed_at: datetime, cutoff: datetime) -> bool:
    """Whether the cache keeps the body: all but sessions that were and changed before `cutoff`."""
    if not isinstance(document, Session):
        return True
    return changed_at >= cutoff or (document.occurred_at or UNDATED) >= cutoff
