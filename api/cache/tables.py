"""The cache's tables. Everything in them can be rebuilt from the master.

Text that is compared or ordered has the collation "C": code points, the same order as Python's
and git's, whatever locale the database was created with. Case is folded by us, not by the database.
"""

from datetime import date, datetime
from typing import ClassVar, TypeAlias

from pydantic import JsonValue
from sqlalchemy import JSON, BigInteger, DateTime, Index, Integer, MetaData, Text, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import Field, SQLModel

metadata = MetaData(naming_convention={"ix": "ix_%(table_name)s_%(column_0_N_name)s"})

Plain = Text(collation="C")
Moment = DateTime(timezone=True)


class Table(SQLModel):
    metadata = metadata


class DocumentRow(Table):
    """The columns that all documents share.

    `markdown` is null when cold. `changed_at` is the time of the commit that brought the revision,
    or of a later one if that is not known. `kept_until`: a cold body read again stays until then.
    """

    path: str = Field(primary_key=True, sa_type=Plain)
    directory: str = Field(sa_type=Plain)
    revision: str = Field(sa_type=Plain)
    bytes: int = Field(sa_type=Integer)
    title: str = Field(sa_type=Plain)
    title_folded: str = Field(sa_type=Plain)
    found: dict[str, JsonValue] = Field(sa_type=JSON)  # as found; JSONB would turn 1e23 into 10**23
    unreadable: str | None = Field(default=None, sa_type=Plain)
    markdown: str | None = Field(default=None, sa_type=Plain)
    changed_at: datetime = Field(sa_type=Moment)
    kept_until: datetime | None = Field(default=None, sa_type=Moment)


def _document_indexes(table: str, *orders: str) -> tuple[Index, ...]:
    return (
        Index(f"ix_{table}_directory", "directory"),
        Index(f"ix_{table}_revision", "revision"),
        *(Index(f"ix_{table}_{order}", order, "path") for order in orders),
    )


class SessionRow(DocumentRow, table=True):
    __tablename__: ClassVar[str] = "sessions"
    __table_args__: ClassVar[tuple[Index, ...]] = (
        *_document_indexes("sessions", "occurred_key"),
        Index("ix_sessions_status", "status", "occurred_key"),
        Index("ix_sessions_priority", "priority", "occurred_key"),
        Index("ix_sessions_agent", "agent", "occurred_key"),
        Index("ix_sessions_project_key", "project_key", "occurred_key"),
        Index("ix_sessions_tags", "tags", postgresql_using="gin"),
        Index(
            "ix_sessions_title_folded",
            "title_folded",
            postgresql_using="gin",
            postgresql_ops={"title_folded": "gin_trgm_ops"},
        ),
        Index("ix_sessions_hot", "changed_at", postgresql_where=text("markdown IS NOT NULL")),
    )

    occurred_at: datetime | None = Field(default=None, sa_type=Moment)
    occurred_key: datetime = Field(sa_type=Moment)
    status: str | None = Field(default=None, sa_type=Plain)
    project: str | None = Field(default=None, sa_type=Plain)
    project_key: str | None = Field(default=None, sa_type=Plain)
    priority: str | None = Field(default=None, sa_type=Plain)
    agent: str | None = Field(default=None, sa_type=Plain)
    tags: list[str] = Field(sa_type=ARRAY(Plain))


class ProjectRow(DocumentRow, table=True):
    __tablename__: ClassVar[str] = "projects"
    __table_args__: ClassVar[tuple[Index, ...]] = _document_indexes("projects", "rank_key")

    name: str = Field(sa_type=Plain)
    status: str | None = Field(default=None, sa_type=Plain)
    rank: int | None = Field(default=None, sa_type=BigInteger)
    rank_key: int = Field(sa_type=BigInteger)


class PriorityRow(DocumentRow, table=True):
    __tablename__: ClassVar[str] = "priorities"
    __table_args__: ClassVar[tuple[Index, ...]] = _document_indexes("priorities", "rank_key")

    rank: int | None = Field(default=None, sa_type=BigInteger)
    rank_key: int = Field(sa_type=BigInteger)
    status: str | None = Field(default=None, sa_type=Plain)
    project: str | None = Field(default=None, sa_type=Plain)
    project_key: str | None = Field(default=None, sa_type=Plain)
    due_on: date | None = None


class HeadRow(Table, table=True):
    """The commit that the cache is true for. One row, or none before the first sync.

    `origin` names repository, branch, layout and parser: rows of another origin are not ours.
    `outdated_at`: when the master was last known to have moved on. What was seen before is stale.
    """

    __tablename__: ClassVar[str] = "head"

    id: int = Field(default=1, primary_key=True)
    origin: str = Field(sa_type=Plain)
    commit: str = Field(sa_type=Plain)
    seen_at: datetime = Field(sa_type=Moment)
    outdated_at: datetime | None = Field(default=None, sa_type=Moment)


class AppliedCommitRow(Table, table=True):
    """The ledger of heads that the cache has been at, in the order they were applied."""

    __tablename__: ClassVar[str] = "applied_commits"

    sequence: int | None = Field(default=None, primary_key=True, sa_type=BigInteger)
    commit: str = Field(sa_type=Plain, index=True)
    applied_at: datetime = Field(sa_type=Moment)


class DirectoryRow(Table, table=True):
    """The tree oid of each directory as of the head. The root's path is the empty string.

    Every directory is here that has documents in or below it, or it were not noticed when it goes
    away. The tree is empty where it is not known: then it is walked when the one above has changed.
    """

    __tablename__: ClassVar[str] = "directories"

    path: str = Field(primary_key=True, sa_type=Plain)
    tree: str = Field(sa_type=Plain)


class KeyedHistoryRow(Table, table=True):
    """What `keyed_writes` is complete for: the last days of the history of `head`. One row or none.

    A `generation` ends when the rows are written anew. `version` grows with every change.
    """

    __tablename__: ClassVar[str] = "keyed_history"

    id: int = Field(default=1, primary_key=True)
    origin: str = Field(sa_type=Plain)
    generation: str = Field(sa_type=Plain)
    version: int = Field(sa_type=BigInteger)
    head: str = Field(sa_type=Plain)


class KeyedWriteRow(Table, table=True):
    """A write with an idempotency key, as its commit tells of it. Digests only."""

    __tablename__: ClassVar[str] = "keyed_writes"

    key: str = Field(primary_key=True, sa_type=Plain)
    content: str = Field(sa_type=Plain)
    write_id: str = Field(sa_type=Plain)
    chosen: list[str] = Field(sa_type=ARRAY(Plain))
    commit: str = Field(sa_type=Plain)
    parent: str = Field(sa_type=Plain)
    tree: str | None = Field(default=None, sa_type=Plain)
    committed_at: datetime = Field(sa_type=Moment)


class SyncRow(Table, table=True):
    """The log of syncs, health checks and retention runs that did or tried something."""

    __tablename__: ClassVar[str] = "sync_log"

    id: int | None = Field(default=None, primary_key=True, sa_type=BigInteger)
    kind: str = Field(sa_type=Plain)
    started_at: datetime = Field(sa_type=Moment, index=True)
    seconds: float
    commit: str | None = Field(default=None, sa_type=Plain)
    requests: int = 0
    added: int = 0
    changed: int = 0
    removed: int = 0
    error: str | None = Field(default=None, sa_type=Plain)


class HealthCheckRow(Table, table=True):
    __tablename__: ClassVar[str] = "health_checks"

    id: int | None = Field(default=None, primary_key=True, sa_type=BigInteger)
    checked_at: datetime = Field(sa_type=Moment, index=True)
    commit: str = Field(sa_type=Plain)
    documents: int
    drifted: int
    repaired: int
    consistency: float


AnyRow: TypeAlias = SessionRow | ProjectRow | PriorityRow
