"""What can be changed. GitHub first, then the cache."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Self, TypeVar

import strawberry

from api.access import Scope
from api.documents import Collection
from api.documents.listing import Indexed
from api.gateway.changes import CacheOutcome, Change, Request, SecretsPolicy, Written
from api.gateway.errors import Forbidden, NotFound
from api.gateway.provenance import Consistency
from api.gateway.views import View
from api.graphql.context import Info
from api.graphql.inputs import (
    SECRETS,
    CreatePriorityInput,
    CreateProjectInput,
    CreateSessionInput,
    DeleteDocumentInput,
    DocumentOperation,
    New,
    Patch,
    Said,
    UpdatePriorityInput,
    UpdateProjectInput,
    UpdateSessionInput,
    changes_of,
)
from api.graphql.scalars import GitObjectID
from api.graphql.types import AnyNode, Document, Priority, Project, Seeing, Seen, Session, document

strawberry.enum(
    CacheOutcome,
    description="Whether the cache has the commit already. DEFERRED: it is safe at GitHub, and "
    "the next sync brings it. Read it with `atLeast` and you get it in any case.",
)


@strawberry.type(description="A commit at the master. Give its `oid` as `atLeast` to later reads.")
class Commit:
    oid: GitObjectID
    url: str | None = strawberry.field(description="The commit's page; null off github.com.")
    committed_at: datetime

    @classmethod
    def of(cls, info: Info, written: Written) -> Self:
        return cls(
            oid=GitObjectID(written.commit),
            url=info.context.gateway.master.commit_url(written.commit),
            committed_at=written.committed_at,
        )


@strawberry.type(description="A session as of the commit. Without a change, that is the head.")
class SessionPayload:
    session: Session
    commit: Commit
    cache: CacheOutcome


@strawberry.type(description="A project as of the commit. Without a change, that is the head.")
class ProjectPayload:
    project: Project
    commit: Commit
    cache: CacheOutcome


@strawberry.type(description="A priority as of the commit. Without a change, that is the head.")
class PriorityPayload:
    priority: Priority
    commit: Commit
    cache: CacheOutcome


@strawberry.type(description="The document that is not there any more as of the commit.")
class DeletePayload:
    id: strawberry.ID
    commit: Commit
    cache: CacheOutcome


@strawberry.type(description="Many documents as of the one commit that changed them.")
class CommitDocumentsPayload:
    documents: list[Document | None] = strawberry.field(
        description="One for each operation, in their order; null where it is not there any more."
    )
    commit: Commit
    cache: CacheOutcome


@strawberry.type(
    description="Every mutation is a commit at GitHub first: what fails there is saved nowhere. "
    "Only OUTCOME_UNKNOWN leaves open whether it was saved; then send it again with the same "
    "idempotencyKey. Mutations of one request are carried out one by one; one that fails is null "
    "and keeps none of the others from being saved. An error with a `commit` in its extensions "
    "concerns what was asked besides: that mutation was saved."
)
class Mutation:
    @strawberry.mutation(description="Save a new session.")
    async def create_session(
        self, info: Info, input: Annotated[CreateSessionInput, strawberry.argument()]
    ) -> SessionPayload | None:
        node, commit, cache = await _saved(info, input, Session)
        return SessionPayload(session=node, commit=commit, cache=cache)

    @strawberry.mutation(description="Save a new project.")
    async def create_project(
        self, info: Info, input: Annotated[CreateProjectInput, strawberry.argument()]
    ) -> ProjectPayload | None:
        node, commit, cache = await _saved(info, input, Project)
        return ProjectPayload(project=node, commit=commit, cache=cache)

    @strawberry.mutation(description="Save a new priority.")
    async def create_priority(
        self, info: Info, input: Annotated[CreatePriorityInput, strawberry.argument()]
    ) -> PriorityPayload | None:
        node, commit, cache = await _saved(info, input, Priority)
        return PriorityPayload(priority=node, commit=commit, cache=cache)

    @strawberry.mutation(description="Change a session. What would change nothing makes no commit.")
    async def update_session(
        self, info: Info, input: Annotated[UpdateSessionInput, strawberry.argument()]
    ) -> SessionPayload | None:
        node, commit, cache = await _saved(info, input, Session)
        return SessionPayload(session=node, commit=commit, cache=cache)

    @strawberry.mutation(description="Change a project. What would change nothing makes no commit.")
    async def update_project(
        self, info: Info, input: Annotated[UpdateProjectInput, strawberry.argument()]
    ) -> ProjectPayload | None:
        node, commit, cache = await _saved(info, input, Project)
        return ProjectPayload(project=node, commit=commit, cache=cache)

    @strawberry.mutation(
        description="Change a priority. What would change nothing makes no commit."
    )
    async def update_priority(
        self, info: Info, input: Annotated[UpdatePriorityInput, strawberry.argument()]
    ) -> PriorityPayload | None:
        node, commit, cache = await _saved(info, input, Priority)
        return PriorityPayload(priority=node, commit=commit, cache=cache)

    @strawberry.mutation(description="Delete a session.")
    async def delete_session(
        self, info: Info, input: Annotated[DeleteDocumentInput, strawberry.argument()]
    ) -> DeletePayload | None:
        return await _delete(info, input, Collection.SESSIONS)

    @strawberry.mutation(description="Delete a project. Sessions that name it stay.")
    async def delete_project(
        self, info: Info, input: Annotated[DeleteDocumentInput, strawberry.argument()]
    ) -> DeletePayload | None:
        return await _delete(info, input, Collection.PROJECTS)

    @strawberry.mutation(description="Delete a priority.")
    async def delete_priority(
        self, info: Info, input: Annotated[DeleteDocumentInput, strawberry.argument()]
    ) -> DeletePayload | None:
        return await _delete(info, input, Collection.PRIORITIES)

    @strawberry.mutation(
        description="Create, update, delete and rename up to 100 documents of any collection in "
        "one commit: all of it or nothing. An error names the `operation` that failed, counted "
        "from 0."
    )
    async def commit_documents(
        self,
        info: Info,
        operations: list[DocumentOperation],
        message: str | None = None,
        idempotency_key: str | None = None,
        secrets: Annotated[SecretsPolicy | None, strawberry.argument(description=SECRETS)] = None,
    ) -> CommitDocumentsPayload | None:
        said = Said(message=message, idempotency_key=idempotency_key, secrets=secrets)
        written = await _write(info, said, *changes_of(operations))
        documents: Sequence[AnyNode | None] = [
            document(_seen(info, written, item)) if item else None for item in written.items
        ]
        return CommitDocumentsPayload(
            documents=list(documents), commit=Commit.of(info, written), cache=written.cache
        )


N = TypeVar("N", Session, Project, Priority)


async def _write(info: Info, said: Said, *changes: Change) -> Written:
    _check_secrets(info, {said.secrets, *(change.secrets for change in changes)})
    written = await info.context.writer.write(
        Request(
            changes=changes,
            message=said.message,
            idempotency_key=said.idempotency_key,
            caller=info.context.caller.name,
            secrets=said.secrets,
            received_at=datetime.now(UTC),
        )
    )
    info.context.saved[info.path.key] = written.commit
    return written


def _check_secrets(info: Info, policies: set[SecretsPolicy | None]) -> None:
    """Raises Forbidden where somebody may not decide that secrets are saved."""
    caller, usual = info.context.caller, info.context.writer.secrets
    is_asked = SecretsPolicy.ALLOW in policies and usual is not SecretsPolicy.ALLOW
    if is_asked and not caller.may(Scope.ADMIN):
        raise Forbidden(
            f"The API key {caller.name} may not have secrets saved: `secrets: ALLOW` needs the "
            f"scope {Scope.ADMIN}. Leave the secrets out, or send `secrets: REDACT`. Nothing was "
            "saved."
        )


async def _delete(info: Info, input: DeleteDocumentInput, collection: Collection) -> DeletePayload:
    written = await _write(info, input, input.change(collection))
    return DeletePayload(id=input.id, commit=Commit.of(info, written), cache=written.cache)


async def _saved(info: Info, input: New | Patch, kind: type[N]) -> tuple[N, Commit, CacheOutcome]:
    written = await _write(info, input, input.change())
    [item] = written.items
    node = document(_seen(info, written, item)) if item else None
    if not isinstance(node, kind):
        raise NotFound(
            f"It was saved in the commit {written.commit}, but the document is not there any more."
        )
    return node, Commit.of(info, written), written.cache


def _seen(info: Info, written: Written, item: Indexed) -> Seen:
    """A document as saved. What hangs on it is read only if asked for, at its commit or later."""

    async def view() -> View:
        return await info.context.operation.view(Consistency.CACHE, at_least=written.commit)

    return Seen(item, Seeing(written.provenance, view))
