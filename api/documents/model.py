"""What a document is, once read: the values that parsing yields and the cache stores."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import TypeAlias

Json: TypeAlias = bool | int | float | str | list["Json"] | dict[str, "Json"] | None


class Collection(StrEnum):
    """Which directories hold a document, and which table caches it."""

    SESSIONS = "sessions"
    PROJECTS = "projects"
    PRIORITIES = "priorities"


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One Markdown file without its text: everything that lists, filters and orders need.

    `title` is never empty: without a heading it is the file's stem.
    `metadata` holds front matter and header lines as found, JSON types only.
    """

    path: str
    revision: str  # blob oid, 40 lower-case hex digits
    bytes: int  # length of the file, not of the decoded text
    title: str
    metadata: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Session(Document):
    occurred_at: datetime | None = None  # aware; a time written without a zone is UTC
    status: str | None = None
    project: str | None = None  # as written: a path, a name or a slug
    priority: str | None = None
    agent: str | None = None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Project(Document):
    name: str
    status: str | None = None
    rank: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Priority(Document):
    rank: int | None = None
    status: str | None = None
    project: str | None = None  # as written: a path, a name or a slug
    due_on: date | None = None


AnyDocument: TypeAlias = Session | Project | Priority


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """A document whose content cannot be understood; it stays in the index with the reason."""

    path: str
    revision: str
    bytes: int
    reason: str  # one sentence, for people
