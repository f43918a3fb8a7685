"""The cache's tables. Everything in them can be rebuilt from the master.

Text that is compared or ordered has the collation "C": code points, the same order as Python's
and git's, whatever locale the database was created with. Case is folded by us, not by the database.
"""

from datetime import date, datetime
from typing import ClassVar, TypeAlias
from uuid import UUID

from pydantic import JsonValue
from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import Field, SQLModel

metadata = MetaData(naming_convention={"ix": "ix_%(table_name)s_%(column_0_N_name)s"})

Plain = Text(collation="C")
Moment = DateTime(timezone=True)
REGULAR = 0o100644  # the mode that git gives a new file
_UNLOGGED: dict[str, list[str]] = {"prefixes": ["UNLOGGED"]}


class Table(SQLModel):
    metadata = metadata


class DocumentRow(Table):
    """The columns that all documents share.

    `mode`: git's, as 0o100644. `hot`: whether the body is to be here; `markdown` is null where it
    is not. `kept_until`: a cold body read again stays until then. `changed_at` is the time of the
    commit that brought the revision, or of a later one if that is not known. `parser`: the version
    that read the document. `seal`: a digest of what it read, by which a damaged row is known.
    """

    path: str = Field(primary_key=True, sa_type=Plain)
    directory: str = Field(sa_type=Plain)
    mode: int = Field(sa_type=Integer, sa_column_kwargs={"server_default": str(REGULAR)})
    revision: str = Field(sa_type=Plain)
    bytes: int = Field(sa_type=Integer)
    title: str = Field(sa_type=Plain)
    title_folded: str = Field(sa_type=Plain)
    found: dict[str, JsonValue] = Field(sa_type=JSON)  # as found; JSONB would turn 1e23 into 10**23
    unreadable: str | None = Field(default=None, sa_type=Plain)
    markdown: str | None = Field(default=None, sa_type=Plain)
    hot: bool
    changed_at: datetime = Field(sa_type=Moment)
    kept_until: datetime | None = Field(default=None, sa_type=Moment)
    parser: int = Field(sa_type=Integer)
    seal: str = Field(sa_type=Plain)


def _document_indexes(table: str, *orders: str) -> tuple[Index, ...]:
    return (
        Index(f"ix_{table}_directory", "directory"),
        Index(f"ix_{table}_revision", "revision"),
        Index(f"ix_{table}_unreadable", "path", postgresql_where=text("unreadable IS NOT NULL")),
        *(Index(f"ix_{table}_{order}", order, "path") for order in orders),
    )


class SessionColumns(DocumentRow):
    occurred_at: datetime | None = Field(default=None, sa_type=Moment)
    occurred_key: datetime = Field(sa_type=Moment)
    status: str | None = Field(default=None, sa_type=Plain)
    project: str | None = Field(default=None, sa_type=Plain)
    project_key: str | None = Field(default=None, sa_type=Plain)
    priority: str | None = Field(default=None, sa_type=Plain)
    agent: str | None = Field(default=None, sa_type=Plain)
    tags: list[str] = Field(sa_type=ARRAY(Plain))


class SessionRow(SessionColumns, table=True):
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


class ProjectColumns(DocumentRow):
    name: str = Field(sa_type=Plain)
    status: str | None = Field(default=None, sa_type=Plain)
    rank: int | None = Field(default=None, sa_type=BigInteger)
    rank_key: int = Field(sa_type=BigInteger)


class ProjectRow(ProjectColumns, table=True):
    __tablename__: ClassVar[str] = "projects"
    __table_args__: ClassVar[tuple[Index, ...]] = _document_indexes("projects", "rank_key")


class PriorityColumns(DocumentRow):
    rank: int | None = Field(default=None, sa_type=BigInteger)
    rank_key: int = Field(sa_type=BigInteger)
    status: str | None = Field(default=None, sa_type=Plain)
    project: str | None = Field(default=None, sa_type=Plain)
    project_key: str | None = Field(default=None, sa_type=Plain)
    due_on: date | None = None


class PriorityRow(PriorityColumns, table=True):
    __tablename__: ClassVar[str] = "priorities"
    __table_args__: ClassVar[tuple[Index, ...]] = _document_indexes("priorities", "rank_key")


# Where a large change is laid out before it takes the place of what readers see, all at once. A
# crash of the server may empty these: what they hold can be read again.


class StagedSessionRow(SessionColumns, table=True):
    __tablename__: ClassVar[str] = "staged_sessions"
    __table_args__: ClassVar[dict[str, list[str]]] = _UNLOGGED


class StagedProjectRow(ProjectColumns, table=True):
    __tablename__: ClassVar[str] = "staged_projects"
    __table_args__: ClassVar[dict[str, list[str]]] = _UNLOGGED


class StagedPriorityRow(PriorityColumns, table=True):
    __tablename__: ClassVar[str] = "staged_priorities"
    __table_args__: ClassVar[dict[str, list[str]]] = _UNLOGGED


class StagingRow(Table, table=True):
    """Whose the staged rows are. One row, or none before the first large change."""

    __tablename__: ClassVar[str] = "staging"

    id: int = Field(default=1, primary_key=True)
    origin: str = Field(sa_type=Plain)


class HeadRow(Table, table=True):
    """The commit that the cache is true for. One row, or none before the first sync.

    `origin` names repository, branch, layout and the largest size that is read: rows of another
    origin are not ours. `parser`: no row with a body was read by an older one. `outdated_at`: when
    the master was last known to have moved on. What was seen before is stale. `version`: given by
    the database, another one with every change of this row.
    """

    __tablename__: ClassVar[str] = "head"

    id: int = Field(default=1, primary_key=True)
    origin: str = Field(sa_type=Plain)
    commit: str = Field(sa_type=Plain)
    parser: int = Field(sa_type=Integer, sa_column_kwargs={"server_default": "0"})
    seen_at: datetime = Field(sa_type=Moment)
    outdated_at: datetime | None = Field(default=None, sa_type=Moment)
    version: int = Field(sa_type=BigInteger, sa_column_kwargs={"server_default": "0"})


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
    `others`: the entries that are neither documents nor directories of this table, as git writes
    them in a tree, so that the tree's oid can be computed from the index alone.
    """

    __tablename__: ClassVar[str] = "directories"

    path: str = Field(primary_key=True, sa_type=Plain)
    tree: str = Field(sa_type=Plain)
    others: bytes = Field(sa_type=LargeBinary, sa_column_kwargs={"server_default": ""})


class TouchedRow(Table, table=True):
    """A stamp for each directory whose rows were ever touched.

    PostgreSQL itself gives it a new one with every change of its rows, whoever makes it; but not
    for a body that is kept or dropped. No stamp is ever given twice.
    """

    __tablename__: ClassVar[str] = "touched"

    directory: str = Field(primary_key=True, sa_type=Plain)
    stamp: UUID


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
    """The log of syncs, health checks and retention runs that did or tried something.

    `points`: of GitHub's hourly quota. `bytes`: received from GitHub. Also of runs that failed:
    what they had spent by then. `error`: for people. `error_class`: the name of its class.
    """

    __tablename__: ClassVar[str] = "sync_log"

    id: int | None = Field(default=None, primary_key=True, sa_type=BigInteger)
    kind: str = Field(sa_type=Plain)
    started_at: datetime = Field(sa_type=Moment, index=True)
    seconds: float
    commit: str | None = Field(default=None, sa_type=Plain)
    requests: int = 0
    points: int = 0
    bytes: int = Field(default=0, sa_type=BigInteger)
    added: int = 0
    changed: int = 0
    removed: int = 0
    error: str | None = Field(default=None, sa_type=Plain)
    error_class: str | None = Field(default=None, sa_type=Plain)


class HealthCheckRow(Table, table=True):
    """What a check of the whole cache found.

    `bodies`: hot ones, each hashed. `drift`: how many documents differed, by kind. `consistency`:
    the share of documents that did not. `wrong_trees`: directories that were noted wrong.
    """

    __tablename__: ClassVar[str] = "health_checks"

    id: int | None = Field(default=None, primary_key=True, sa_type=BigInteger)
    checked_at: datetime = Field(sa_type=Moment, index=True)
    seconds: float
    commit: str = Field(sa_type=Plain)
    requests: int
    documents: int
    bodies: int
    wrong_trees: int
    drift: dict[str, int] = Field(sa_type=JSON)
    drifted: int
    repaired: int
    consistency: float


class WorkerRow(Table, table=True):
    """A worker's sign of life, with what GitHub last told it about the token.

    `quota_*`: of the hourly points. `token_expires_at`: null where GitHub names no end.
    """

    __tablename__: ClassVar[str] = "workers"

    name: str = Field(primary_key=True, sa_type=Plain)
    started_at: datetime = Field(sa_type=Moment)
    seen_at: datetime = Field(sa_type=Moment)
    quota_limit: int | None = None
    quota_remaining: int | None = None
    quota_resets_at: datetime | None = Field(default=None, sa_type=Moment)
    token_expires_at: datetime | None = Field(default=None, sa_type=Moment)


class IncidentRow(Table, table=True):
    """Something that people are to be told of, while it lasts. `told_at`: when they were."""

    __tablename__: ClassVar[str] = "incidents"

    kind: str = Field(primary_key=True, sa_type=Plain)
    since: datetime = Field(sa_type=Moment)
    message: str = Field(sa_type=Plain)
    told_at: datetime | None = Field(default=None, sa_type=Moment)


AnyRow: TypeAlias = SessionRow | ProjectRow | PriorityRow
