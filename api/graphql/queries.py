"""What can be asked."""

from datetime import datetime
from enum import Enum
from typing import Annotated

import strawberry

from api.cache.database import CacheUnavailable
from api.documents import Collection
from api.documents.listing import UNSTORABLE, Listing, Order, Where
from api.gateway.errors import BadInput
from api.gateway.provenance import Consistency
from api.gateway.views import View
from api.graphql.context import Asked, Info
from api.graphql.health import (
    NULL_WITHOUT_CACHE,
    CacheStatus,
    HealthCheck,
    Records,
    UnreadableDocument,
    health_checks,
    is_counted,
    status,
    unreadable_documents,
)
from api.graphql.scalars import GitObjectID
from api.graphql.selection import columns_under
from api.graphql.types import (
    AnyNode,
    Connection,
    Node,
    Priority,
    Project,
    Seeing,
    Seen,
    Session,
    connection,
    document,
    keys_of_project,
    read_window,
)

AtLeast = Annotated[
    GitObjectID | None,
    strawberry.argument(description="A commit that the answer must include, from a mutation."),
]
MaxStaleness = Annotated[
    int | None,
    strawberry.argument(description="Seconds up to which a CACHE answer counts as fresh."),
]


@strawberry.enum(description="How a list of sessions is ordered. Undated ones count as oldest.")
class SessionOrder(Enum):
    OCCURRED_AT_DESC = "OCCURRED_AT_DESC"
    OCCURRED_AT_ASC = "OCCURRED_AT_ASC"
    PATH_ASC = "PATH_ASC"


@strawberry.input(description="Conditions that all must hold. Texts match exactly.")
class SessionFilter:
    project: strawberry.ID | None = None
    status: str | None = None
    priority: str | None = None
    agent: str | None = None
    tag: str | None = None
    from_: datetime | None = strawberry.field(
        default=None, name="from", description="Occurred then or later."
    )
    to: datetime | None = strawberry.field(default=None, description="Occurred before then.")
    title_contains: str | None = strawberry.field(
        default=None, description="A part of the title, in any case."
    )


@strawberry.type
class Query:
    @strawberry.field(description="Any document by its id.")
    async def node(
        self, info: Info, id: strawberry.ID, consistency: Consistency = Consistency.CACHE
    ) -> Node | None:
        return await _document(info, id, consistency, None, None)

    @strawberry.field(description="A session by its id; null if there is none.")
    async def session(
        self,
        info: Info,
        id: strawberry.ID,
        consistency: Consistency = Consistency.CACHE,
        at_least: AtLeast = None,
        max_staleness: MaxStaleness = None,
    ) -> Session | None:
        found = await _document(info, id, consistency, at_least, max_staleness)
        return found if isinstance(found, Session) else None

    @strawberry.field(description="A project by its id; null if there is none.")
    async def project(
        self,
        info: Info,
        id: strawberry.ID,
        consistency: Consistency = Consistency.CACHE,
        at_least: AtLeast = None,
        max_staleness: MaxStaleness = None,
    ) -> Project | None:
        found = await _document(info, id, consistency, at_least, max_staleness)
        return found if isinstance(found, Project) else None

    @strawberry.field(description="A priority by its id; null if there is none.")
    async def priority(
        self,
        info: Info,
        id: strawberry.ID,
        consistency: Consistency = Consistency.CACHE,
        at_least: AtLeast = None,
        max_staleness: MaxStaleness = None,
    ) -> Priority | None:
        found = await _document(info, id, consistency, at_least, max_staleness)
        return found if isinstance(found, Priority) else None

    @strawberry.field(description="Sessions, newest first unless asked otherwise.")
    async def sessions(
        self,
        info: Info,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
        where: SessionFilter | None = None,
        order_by: SessionOrder = SessionOrder.OCCURRED_AT_DESC,
        consistency: Consistency = Consistency.CACHE,
        at_least: AtLeast = None,
        max_staleness: MaxStaleness = None,
    ) -> Connection[Session]:
        order = Order[order_by.value]
        window = read_window(order, first=first, after=after, last=last, before=before)
        view = await _view(info, consistency, at_least, max_staleness)
        listing = Listing(
            collection=Collection.SESSIONS, where=await _where(info, view, where), order=order
        )
        return await connection(info, view, listing, window)

    @strawberry.field(description="Projects by rank; those without one come last.")
    async def projects(
        self,
        info: Info,
        first: int | None = None,
        after: str | None = None,
        consistency: Consistency = Consistency.CACHE,
        at_least: AtLeast = None,
        max_staleness: MaxStaleness = None,
    ) -> Connection[Project]:
        window = read_window(Order.RANK_ASC, first=first, after=after)
        view = await _view(info, consistency, at_least, max_staleness)
        listing = Listing(collection=Collection.PROJECTS, where=Where(), order=Order.RANK_ASC)
        return await connection(info, view, listing, window)

    @strawberry.field(description="Priorities by rank; those without one come last.")
    async def priorities(
        self,
        info: Info,
        first: int | None = None,
        after: str | None = None,
        consistency: Consistency = Consistency.CACHE,
        at_least: AtLeast = None,
        max_staleness: MaxStaleness = None,
    ) -> Connection[Priority]:
        window = read_window(Order.RANK_ASC, first=first, after=after)
        view = await _view(info, consistency, at_least, max_staleness)
        listing = Listing(collection=Collection.PRIORITIES, where=Where(), order=Order.RANK_ASC)
        return await connection(info, view, listing, window)

    @strawberry.field(description="How the cache is: what it holds and how old it is.")
    async def cache_status(self, info: Info) -> CacheStatus:
        try:
            cache = info.context.gateway.cache
            async with cache.snapshot(hurried=True) as snapshot:
                return await status(cache, snapshot)
        except CacheUnavailable:
            return CacheStatus(available=False)

    @strawberry.field(
        description="What each comparison of the whole cache with GitHub found, newest first. "
        + NULL_WITHOUT_CACHE
    )
    async def health_checks(
        self, info: Info, first: int | None = None, after: str | None = None
    ) -> Records[HealthCheck] | None:
        window = read_window(Order.NUMBER_DESC, first=first, after=after)
        try:
            async with info.context.gateway.cache.snapshot(hurried=True) as snapshot:
                return await health_checks(snapshot, window, counted=is_counted(info))
        except CacheUnavailable:
            return None

    @strawberry.field(
        description="The documents that are indexed and cannot be read, with the reason, ordered "
        "by path. None before the first sync. " + NULL_WITHOUT_CACHE
    )
    async def unreadable_documents(
        self, info: Info, first: int | None = None, after: str | None = None
    ) -> Records[UnreadableDocument] | None:
        window = read_window(Order.PATH_ASC, first=first, after=after)
        try:
            cache = info.context.gateway.cache
            async with cache.snapshot(hurried=True) as snapshot:
                return await unreadable_documents(cache, snapshot, window, counted=is_counted(info))
        except CacheUnavailable:
            return None


async def _view(
    info: Info,
    consistency: Consistency,
    at_least: str | None,
    max_staleness: int | None,
    path: str | None = None,
) -> View:
    if max_staleness is not None and max_staleness < 0:
        raise BadInput("`maxStaleness` is a number of seconds, 0 or more.")
    return await info.context.operation.view(
        consistency, at_least=at_least, max_staleness=max_staleness, path=path
    )


async def _document(
    info: Info,
    path: str,
    consistency: Consistency,
    at_least: str | None,
    max_staleness: int | None,
) -> AnyNode | None:
    if info.context.gateway.layout.collection_of(path) is None or UNSTORABLE.search(path):
        return None
    view = await _view(info, consistency, at_least, max_staleness, path)
    item = await info.context.documents.load(Asked(view, (path, columns_under(info))))
    return document(Seen(item, Seeing.through(view))) if item else None


async def _where(info: Info, view: View, where: SessionFilter | None) -> Where:
    if where is None:
        return Where()
    texts = (where.status, where.priority, where.agent, where.tag, where.title_contains)
    if any(UNSTORABLE.search(text) for text in (*texts, where.project) if text):
        raise BadInput(
            "No document contains NUL or half of a surrogate pair; remove it from the filter."
        )
    keys = None
    if where.project is not None:
        keys = await keys_of_project(info.context, view, where.project)
    return Where(
        project_keys=keys,
        status=where.status,
        priority=where.priority,
        agent=where.agent,
        tag=where.tag,
        since=where.from_,
        until=where.to,
        title_contains=where.title_contains,
    )
