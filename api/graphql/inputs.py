"""What can be asked for in mutations, and the changes that it means."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime
from typing import ClassVar, TypeAlias, cast

import strawberry
from strawberry import UNSET

from api.documents import Collection, FieldValue
from api.documents.fields import FIELDS
from api.gateway.changes import Change, Create, Delete, Rename, SecretsPolicy, Update
from api.gateway.errors import BadInput
from api.graphql.scalars import GitObjectID

strawberry.enum(
    SecretsPolicy,
    description="What becomes of passwords, keys and tokens in what is to be saved. REFUSE: it is "
    "BAD_INPUT, which names lines and kinds in `secrets`. REDACT: each is replaced by its kind. "
    "ALLOW: they are saved; that needs the scope `admin`.",
)
SECRETS = (
    "What becomes of passwords and tokens in what you send; left out, what the gateway is set to, "
    "most often REFUSE."
)
_KEPT = "Left out, it stays as it is; null clears it."


@strawberry.input
class Said:
    """What every mutation of a document can say besides."""

    message: str | None = strawberry.field(
        default=None, description="The commit message; one is written if left out."
    )
    idempotency_key: str | None = strawberry.field(
        default=None,
        description="Any text of yours. Sent again with the same content within 7 days, the "
        "mutation is not carried out again: you get its first outcome. Use it to retry after "
        "OUTCOME_UNKNOWN or a lost answer. With other content it is BAD_INPUT.",
    )
    secrets: SecretsPolicy | None = strawberry.field(default=None, description=SECRETS)


@strawberry.input
class Guarded(Said):
    """What every mutation of a document that exists can say besides."""

    id: strawberry.ID = strawberry.field(description="The document's path.")
    expected_revision: GitObjectID | None = strawberry.field(
        default=None,
        description="The `revision` that you read. If the document has another one by now, the "
        "answer is CONFLICT with `currentRevision` and `currentTitle`, and nothing is saved. Among "
        "several operations it means the revision before all of them. "
        "Without it the change is applied to whatever the document says now.",
    )


@strawberry.input
class New(Said):
    """What every new document has."""

    collection: ClassVar[Collection]

    markdown: str = strawberry.field(description="The text, with or without front matter.")
    path: str | None = strawberry.field(
        default=None, description="Where to save it; chosen if left out. CONFLICT if it is taken."
    )

    def change(self) -> Create:
        given = {name: value for name, value in _fields(self).items() if value is not None}
        return Create(
            collection=self.collection, markdown=self.markdown, path=self.path, fields=given
        )


@strawberry.input
class Patch(Guarded):
    """What every update has."""

    collection: ClassVar[Collection]

    markdown: str | None = strawberry.field(
        default=UNSET,
        description="A new text. If it has no front matter, that of the document stays above it. "
        "Left out, the text stays, byte for byte.",
    )

    def change(self) -> Update:
        if self.markdown is None:
            raise BadInput(
                "`markdown` cannot be null: a document has a text. Leave it out to keep the text, "
                "or delete the document. Nothing was saved."
            )
        return Update(
            collection=self.collection,
            path=self.id,
            fields=_fields(self),
            markdown=None if self.markdown is UNSET else self.markdown,
            expected=self.expected_revision,
        )


@strawberry.input(description="A session to be saved as a new document.")
class CreateSessionInput(New):
    collection = Collection.SESSIONS

    title: str
    occurred_at: datetime | None = strawberry.field(
        default=None, description="Default: what the text or the path says, else now."
    )
    project: strawberry.ID | None = strawberry.field(
        default=None, description="The id of a project that exists."
    )
    status: str | None = None
    priority: str | None = None
    agent: str | None = None
    tags: list[str] | None = None


@strawberry.input(description="A project to be saved as a new document.")
class CreateProjectInput(New):
    collection = Collection.PROJECTS

    name: str
    title: str | None = strawberry.field(default=None, description="If it is not the name.")
    status: str | None = None
    rank: int | None = None


@strawberry.input(description="A priority to be saved as a new document.")
class CreatePriorityInput(New):
    collection = Collection.PRIORITIES

    title: str
    rank: int | None = None
    status: str | None = None
    project: strawberry.ID | None = strawberry.field(
        default=None, description="The id of a project that exists."
    )
    due_on: date | None = None


@strawberry.input(description=f"A change of a session. For each field: {_KEPT}")
class UpdateSessionInput(Patch):
    collection = Collection.SESSIONS

    title: str | None = UNSET
    occurred_at: datetime | None = UNSET
    project: strawberry.ID | None = UNSET
    status: str | None = UNSET
    priority: str | None = UNSET
    agent: str | None = UNSET
    tags: list[str] | None = UNSET


@strawberry.input(description=f"A change of a project. For each field: {_KEPT}")
class UpdateProjectInput(Patch):
    collection = Collection.PROJECTS

    name: str | None = UNSET
    title: str | None = UNSET
    status: str | None = UNSET
    rank: int | None = UNSET


@strawberry.input(description=f"A change of a priority. For each field: {_KEPT}")
class UpdatePriorityInput(Patch):
    collection = Collection.PRIORITIES

    title: str | None = UNSET
    rank: int | None = UNSET
    status: str | None = UNSET
    project: strawberry.ID | None = UNSET
    due_on: date | None = UNSET


@strawberry.input(description="A document to be deleted. Its history stays at the master.")
class DeleteDocumentInput(Guarded):
    def change(self, collection: Collection | None = None) -> Delete:
        return Delete(collection=collection, path=self.id, expected=self.expected_revision)


@strawberry.input(description="A document to be moved to another path, with every byte it has.")
class RenameDocumentInput(Guarded):
    path: str = strawberry.field(description="The new path. CONFLICT if it is taken.")

    def change(self) -> Rename:
        return Rename(path=self.id, to=self.path, expected=self.expected_revision)


@strawberry.input(
    one_of=True, description="One of the operations of a commit. Each sees what those before did."
)
class DocumentOperation:
    create_session: CreateSessionInput | None = UNSET
    update_session: UpdateSessionInput | None = UNSET
    create_project: CreateProjectInput | None = UNSET
    update_project: UpdateProjectInput | None = UNSET
    create_priority: CreatePriorityInput | None = UNSET
    update_priority: UpdatePriorityInput | None = UNSET
    delete: DeleteDocumentInput | None = UNSET
    rename: RenameDocumentInput | None = UNSET


AnyInput: TypeAlias = New | Patch | DeleteDocumentInput | RenameDocumentInput


def changes_of(operations: Sequence[DocumentOperation]) -> list[Change]:
    """Raises BadInput for what only a whole commit can have."""
    changes: list[Change] = []
    for number, operation in enumerate(operations):
        [asked] = cast(list[AnyInput], [one for one in vars(operation).values() if one])
        if asked.idempotency_key is not None:
            raise BadInput(
                "An operation has no idempotencyKey of its own: give one beside `operations`, for "
                "all of them. Nothing was saved.",
                operation=number,
            )
        try:
            changes.append(replace(asked.change(), message=asked.message, secrets=asked.secrets))
        except BadInput as error:
            error.details["operation"] = number
            raise
    return changes


def _fields(asked: New | Patch) -> dict[str, FieldValue]:
    """What an input says of the fields of its collection, without those that it leaves out."""
    said: dict[str, FieldValue] = {
        name: value for name, value in vars(asked).items() if value is not UNSET
    }
    return {name: said[name] for name in FIELDS[asked.collection] if name in said}
