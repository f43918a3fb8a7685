"""What callers want written, and what they are told of it.

A `Request` is all or nothing, and lands in one commit, alone or beside others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import TypeAlias

from api.documents import Collection, FieldValue
from api.documents.listing import Indexed
from api.gateway.provenance import Provenance


class SecretsPolicy(Enum):
    """What becomes of secrets in what is to be written."""

    REFUSE = "REFUSE"
    REDACT = "REDACT"
    ALLOW = "ALLOW"


@dataclass(frozen=True, slots=True, kw_only=True)
class Create:
    """A new document. `fields` are its collection's, `title` among them, without those left out.

    `path`: where it goes; chosen from date and title if None. A session without `occurred_at`
    happens now.
    """

    collection: Collection
    markdown: str
    path: str | None = None
    fields: Mapping[str, FieldValue]
    message: str | None = None
    secrets: SecretsPolicy | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """A change of single fields, where None clears one, of the text, or of both.

    A new `markdown` without front matter goes below the front matter that the document has.
    `expected`: the revision that the document must have, if the caller minds.
    """

    collection: Collection
    path: str
    fields: Mapping[str, FieldValue]
    markdown: str | None = None
    expected: str | None = None
    message: str | None = None
    secrets: SecretsPolicy | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete:
    """`collection`: the one that the document must belong to; any if None."""

    collection: Collection | None
    path: str
    expected: str | None = None
    message: str | None = None
    secrets: SecretsPolicy | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rename:
    """The same bytes at another path, in the same commit as the deletion."""

    path: str
    to: str
    expected: str | None = None
    message: str | None = None
    secrets: SecretsPolicy | None = None


Change: TypeAlias = Create | Update | Delete | Rename


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What one mutation asks for. `message` is that of the whole; each change may have its own.

    `idempotency_key`: the same key of the same caller with the same content is carried out once.
    `caller`: the name of the API key that it came with. `secrets`: what becomes of them where a
    change does not say.
    """

    changes: Sequence[Change]
    message: str | None = None
    idempotency_key: str | None = None
    caller: str | None = None
    secrets: SecretsPolicy | None = None
    received_at: datetime


class CacheOutcome(Enum):
    """Whether the cache has a commit already. DEFERRED: the next sync brings it."""

    UPDATED = "UPDATED"
    DEFERRED = "DEFERRED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What came of a request: the documents as of the commit, one for each change.

    None stands for a document that is not there any more. A request that changed nothing made no
    commit: then it is the head at which that was found.
    """

    items: Sequence[Indexed | None]
    commit: str
    committed_at: datetime
    cache: CacheOutcome
    provenance: Provenance
