"""What can be changed. GitHub first, then the cache."""

from datetime import UTC, datetime
from typing import Annotated

import strawberry

from api.documents import Collection, FieldValue
from api.gateway.provenance import Consistency
from api.gateway.views import View
from api.gateway.writes import CacheOutcome, NewDocument, Written
from api.graphql.context import Info
from api.graphql.scalars import GitObjectID
from api.graphql.types import Seen, Session, document

strawberry.enum(
    CacheOutcome,
    description="Whether the cache has the commit already. DEFERRED: the next sync brings it.",
)


@strawberry.type(description="A commit that landed at the master.")
class Commit:
    oid: GitObjectID
    url: str | None = strawberry.field(description="The commit's page; null off github.com.")
    committed_at: datetime


@strawberry.type(description="A session as it was saved.")
class SessionPayload:
    session: Session
    commit: Commit
    cache: CacheOutcome


@strawberry.input(description="A session to be saved as a new document.")
class CreateSessionInput:
    title: str
    markdown: str = strawberry.field(description="The text, with or without front matter.")
    path: str | None = strawberry.field(
        default=None, description="Where to save it; chosen from date and title if left out."
    )
    occurred_at: datetime | None = strawberry.field(default=None, description="Default: now.")
    project: strawberry.ID | None = None
    status: str | None = None
    priority: str | None = None
    agent: str | None = None
    tags: list[str] | None = None
    message: str | None = strawberry.field(
        default=None, description="The commit message; one is written if left out."
    )


@strawberry.type
class Mutation:
    @strawberry.mutation(description="Save a new session: a commit at GitHub, then the cache.")
    async def create_session(
        self, info: Info, input: Annotated[CreateSessionInput, strawberry.argument()]
    ) -> SessionPayload:
        occurred_at = input.occurred_at or datetime.now(UTC).replace(microsecond=0)
        fields: dict[str, FieldValue] = {
            "occurred_at": occurred_at,
            "project": input.project,
            "status": input.status,
            "priority": input.priority,
            "agent": input.agent,
            "tags": tuple(input.tags) if input.tags else None,
        }
        written = await info.context.writer.create(
            NewDocument(
                collection=Collection.SESSIONS,
                title=input.title,
                markdown=input.markdown,
                path=input.path,
                on=occurred_at.date(),
                fields={name: value for name, value in fields.items() if value is not None},
                message=input.message,
            )
        )
        node = document(_seen(info, written))
        assert isinstance(node, Session)  # noqa: S101  # a path of sessions holds one
        return SessionPayload(session=node, commit=_commit(info, written), cache=written.cache)


def _seen(info: Info, written: Written) -> Seen:
    """The document as saved. What hangs on it is read only if asked for, at its commit or later."""

    async def view() -> View:
        return await info.context.operation.view(Consistency.CACHE, at_least=written.commit.oid)

    return Seen(written.item, written.provenance, view, written.item.markdown)


def _commit(info: Info, written: Written) -> Commit:
    oid = written.commit.oid
    return Commit(
        oid=GitObjectID(oid),
        url=info.context.gateway.master.commit_url(oid),
        committed_at=written.commit.committed_at,
    )
