"""The cache as operators see it: what it holds, what proved it, and what it cannot read."""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Generic, TypeVar

import strawberry
from strawberry import Private
from strawberry.types.nodes import SelectedField, Selection

from api.cache.cache import Cache
from api.cache.snapshot import Snapshot
from api.cache.tables import HealthCheckRow, SyncRow
from api.documents import Collection
from api.documents.listing import Indexed, Order, Window, cursor, cursor_at
from api.graphql.context import Info
from api.graphql.scalars import GitObjectID
from api.graphql.types import PageInfo
from api.jobs import SYNC
from api.sync.drift import Drift, nines

R = TypeVar("R")
S = TypeVar("S")

NULL_WITHOUT_CACHE = (
    "Only the cache knows: null when PostgreSQL does not answer (`cacheStatus.available` is false)."
)

strawberry.enum(
    Drift,
    name="DriftKind",
    description="How a row of the cache differed from the document at GitHub.",
)
strawberry.enum(Collection, description="The kind of a document.")


@strawberry.type(description="How many documents differed in one way.")
class DriftCount:
    kind: Drift
    documents: int


@strawberry.type(description="What a comparison of the whole cache with GitHub found.")
class HealthCheck:
    checked_at: datetime
    commit: GitObjectID
    documents: int
    drifted: int
    repaired: int
    consistency: float = strawberry.field(description="Share of documents without drift, 0 to 1.")
    bodies: int = strawberry.field(description="Bodies in the cache, each of them hashed.")
    wrong_trees: int = strawberry.field(
        description="Directories whose hash was noted wrong: a later change could be overlooked."
    )
    seconds: float = strawberry.field(description="How long the check took.")
    requests: int = strawberry.field(description="Requests to GitHub that it took.")
    drift: list[DriftCount] = strawberry.field(
        description="What `drifted` is made of: only the kinds that occurred."
    )
    nines: float = strawberry.field(
        description="The consistency as a number of nines: 99.9 % are three. With no drift in n "
        "documents at most log10(n/3) nines may be claimed (n is `documents`), and never more are."
    )

    @classmethod
    def of(cls, row: HealthCheckRow) -> "HealthCheck":
        return cls(
            checked_at=row.checked_at,
            commit=GitObjectID(row.commit),
            documents=row.documents,
            drifted=row.drifted,
            repaired=row.repaired,
            consistency=row.consistency,
            bodies=row.bodies,
            wrong_trees=row.wrong_trees,
            seconds=row.seconds,
            requests=row.requests,
            drift=[DriftCount(kind=k, documents=row.drift[k]) for k in Drift if k in row.drift],
            nines=nines(row.documents, row.drifted),
        )


@strawberry.type(description="A document that is indexed, but whose content cannot be understood.")
class UnreadableDocument:
    path: str
    collection: Collection
    revision: GitObjectID = strawberry.field(description="Blob oid: the hash of the content.")
    bytes: int
    reason: str = strawberry.field(description="Why it cannot be read.")

    @classmethod
    def of(cls, item: Indexed) -> "UnreadableDocument":
        return cls(
            path=item.document.path,
            collection=item.collection,
            revision=GitObjectID(item.document.revision),
            bytes=item.document.bytes,
            reason=item.unreadable or "",
        )


@strawberry.type(description="The sign of life of a worker.")
class WorkerStatus:
    seen_at: datetime
    age_seconds: float = strawberry.field(description="Seconds since `seenAt`.")


@strawberry.type(description="A sync that did or tried something.")
class SyncRun:
    started_at: datetime
    seconds: float
    requests: int = strawberry.field(description="Requests to GitHub.")
    points: int = strawberry.field(description="Of GitHub's hourly quota.")
    added: int
    changed: int
    removed: int
    bytes: float = strawberry.field(description="Received from GitHub; whole, of any size.")
    error: str | None = strawberry.field(description="Why it failed; null if it did not.")

    @classmethod
    def of(cls, row: SyncRow) -> "SyncRun":
        return cls(
            started_at=row.started_at,
            seconds=row.seconds,
            requests=row.requests,
            points=row.points,
            added=row.added,
            changed=row.changed,
            removed=row.removed,
            bytes=row.bytes,
            error=row.error,
        )


@strawberry.type(description="The state of the cache.")
class CacheStatus:
    available: bool
    head: GitObjectID | None = strawberry.field(
        default=None, description="The commit it is true for; null before the first sync."
    )
    synced_at: datetime | None = strawberry.field(
        default=None, description="When that was last seen to be the master's head."
    )
    age_seconds: float | None = None
    documents: int = 0
    hot: int = 0
    unreadable: int = strawberry.field(
        default=0, description="Indexed, but their content could not be understood."
    )
    last_health_check: HealthCheck | None = None
    worker: WorkerStatus | None = strawberry.field(
        default=None, description="The worker seen last; null if none was ever seen."
    )
    last_sync: SyncRun | None = strawberry.field(
        default=None,
        description="The last sync that did or tried something. One that finds nothing to do only "
        "renews `syncedAt`: if that is later, an `error` here is over.",
    )


@strawberry.type(name="Edge", description="An entry of a list, and its place there.")
class Entry(Generic[R]):
    cursor: str
    node: R


@strawberry.type(name="Connection", description="A page of a list that the cache keeps.")
class Records(Generic[R]):
    edges: list[Entry[R]]
    nodes: list[R]
    page_info: PageInfo
    total: Private[int]

    @strawberry.field(description="The true total of the list, whatever its pages.")
    def total_count(self) -> int:
        return self.total


async def status(cache: Cache, snapshot: Snapshot) -> CacheStatus:
    """The state of the cache, also of one without a head: why it has none is told here as well."""
    now = datetime.now(UTC)
    check, worker = await snapshot.last_health_check(), await snapshot.last_worker()
    sync = await snapshot.last_logged(SYNC)
    found = CacheStatus(
        available=True,
        last_health_check=HealthCheck.of(check) if check else None,
        worker=WorkerStatus(seen_at=worker.seen_at, age_seconds=_age(worker.seen_at, now))
        if worker
        else None,
        last_sync=SyncRun.of(sync) if sync else None,
    )
    if snapshot.head:
        totals = await cache.totals(snapshot)
        found.head = GitObjectID(snapshot.head.commit)
        found.synced_at = snapshot.head.seen_at
        found.age_seconds = _age(snapshot.head.seen_at, now)
        found.documents, found.hot = totals.documents, totals.hot
        found.unreadable = totals.unreadable
    return found


async def health_checks(
    snapshot: Snapshot, window: Window, *, counted: bool
) -> Records[HealthCheck]:
    rows = await snapshot.health_checks(window)
    total = await snapshot.health_check_count() if counted else 0
    return _records(
        rows,
        window,
        total,
        HealthCheck.of,
        lambda row: cursor_at(Order.NUMBER_DESC, (row.id or 0, "")),
    )


async def unreadable_documents(
    cache: Cache, snapshot: Snapshot, window: Window, *, counted: bool
) -> Records[UnreadableDocument]:
    # Without a head the rows are no index: they are another origin's, or about to be replaced.
    items = await snapshot.unreadable(window) if snapshot.head else []
    total = (await cache.totals(snapshot)).unreadable if counted and snapshot.head else 0
    return _records(
        items,
        window,
        total,
        UnreadableDocument.of,
        lambda item: cursor(Order.PATH_ASC, item.document),
    )


def is_counted(info: Info) -> bool:
    """Whether `totalCount` is asked for: it is counted in the snapshot that the page is from."""
    return _selects(info.selected_fields, "totalCount")


def _selects(selections: Iterable[Selection], name: str) -> bool:
    return any(
        (isinstance(selection, SelectedField) and selection.name == name)
        or _selects(selection.selections, name)
        for selection in selections
    )


def _records(
    found: Sequence[S],
    window: Window,
    total: int,
    node_of: Callable[[S], R],
    cursor_of: Callable[[S], str],
) -> Records[R]:
    """A page from what was found for it: one too many if there are more."""
    page = found[: window.size]
    edges = [Entry(cursor=cursor_of(one), node=node_of(one)) for one in page]
    return Records(
        edges=edges,
        nodes=[edge.node for edge in edges],
        page_info=PageInfo(
            has_next_page=len(found) > window.size,
            has_previous_page=window.after is not None,
            start_cursor=edges[0].cursor if edges else None,
            end_cursor=edges[-1].cursor if edges else None,
        ),
        total=total,
    )


def _age(at: datetime, now: datetime) -> float:
    return max(0.0, (now - at).total_seconds())
