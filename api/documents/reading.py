"""Bytes to documents."""

from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime
from typing import TypeVar

from api.documents.anatomy import Anatomy, dissect, split_bom, without_front_matter
from api.documents.dates import Moment, find_moment, moment_in_name
from api.documents.errors import InvalidDocument
from api.documents.fields import (
    FRONT_MATTER_ONLY,
    KEYS,
    MAX_TITLE,
    FieldValue,
    Written,
    occurred_at,
    read_day,
    read_rank,
    read_tags,
    read_text,
    read_title,
    read_when,
)
from api.documents.front_matter import Entry
from api.documents.header_lines import HeaderLine
from api.documents.model import Collection, Json, Priority, Project, Session, Unreadable
from api.documents.oid import blob_oid
from api.documents.projects import project_name

PARSER_VERSION = 1  # raised whenever `parse` would give other values for the same bytes

T = TypeVar("T")
W = TypeVar("W", bound=Written)


def parse(
    collection: Collection,
    path: str,
    content: bytes,
    *,
    revision: str | None = None,
    max_bytes: int = 2_000_000,
) -> Session | Project | Priority | Unreadable:
    """What a document says about itself. Never raises.

    `revision` spares the hashing where the blob oid is known. Unreadable with a reason:
    more than `max_bytes`, NUL bytes, not UTF-8.
    """
    revision = revision or blob_oid(content)
    size = len(content)
    reason = _why_unreadable(content, max_bytes)
    if reason:
        return Unreadable(path=path, revision=revision, bytes=size, reason=reason)
    anatomy = _dissect_any(split_bom(content.decode("utf-8"))[1])
    reader = Reader(anatomy, stem=_stem(path))
    title = reader.title(collection)
    metadata = anatomy.metadata
    match collection:
        case Collection.SESSIONS:
            return Session(
                path=path,
                revision=revision,
                bytes=size,
                title=title,
                metadata=metadata,
                occurred_at=reader.occurred_at(),
                status=reader.text("status"),
                project=reader.text("project"),
                priority=reader.text("priority"),
                agent=reader.text("agent"),
                tags=reader.tags(),
            )
        case Collection.PROJECTS:
            return Project(
                path=path,
                revision=revision,
                bytes=size,
                title=title,
                metadata=metadata,
                name=reader.name(),
                status=reader.text("status"),
                rank=reader.rank(),
            )
        case Collection.PRIORITIES:
            return Priority(
                path=path,
                revision=revision,
                bytes=size,
                title=title,
                metadata=metadata,
                rank=reader.rank(),
                status=reader.text("status"),
                project=reader.text("project"),
                due_on=reader.due_on(),
            )


def _dissect_any(text: str) -> Anatomy:
    try:
        return dissect(text)
    except InvalidDocument:
        return without_front_matter(text)


class Reader:
    """Reads fields out of a dissected text: front matter first, header lines next."""

    def __init__(self, anatomy: Anatomy, stem: str) -> None:
        self._anatomy = anatomy
        self._stem = stem

    def written(self, field: str) -> tuple[list[Entry], list[HeaderLine]]:
        """All that is written under a field's keys in front matter and in header lines."""
        header = () if field in FRONT_MATTER_ONLY else self._anatomy.header
        return _under(KEYS[field], self._anatomy.entries), _under(KEYS[field], header)

    def text(self, field: str) -> str | None:
        return self._first(field, read_text)

    def rank(self) -> int | None:
        return self._first("rank", read_rank)

    def tags(self) -> tuple[str, ...]:
        return self._first("tags", read_tags) or ()

    def due_on(self) -> date | None:
        return self._first("due_on", read_day)

    def occurred_at(self) -> datetime | None:
        heading = self._anatomy.heading
        sources = [
            *(_present(read_when(it.value) for it in part) for part in self.written("occurred_at")),
            _present([find_moment(heading.text) if heading else None]),
            _present([moment_in_name(self._stem)]),
        ]
        return occurred_at(sources)

    def value(self, collection: Collection, field: str) -> FieldValue:
        """Any field by its name; of what is absent, None or an empty tuple."""
        match field:
            case "title":
                return self.title(collection)
            case "name":
                return self.name()
            case "occurred_at":
                return self.occurred_at()
            case "due_on":
                return self.due_on()
            case "rank":
                return self.rank()
            case "tags":
                return self.tags()
            case _:
                return self.text(field)

    def title(self, collection: Collection) -> str:
        """Front matter, else the first heading, else a project's name, else the file's stem."""
        heading = self._anatomy.heading
        return (
            self._first("title", read_title)
            or (_cut(heading.text) if heading else None)
            or (self._first("name", read_title) if collection is Collection.PROJECTS else None)
            or self._stem
        )

    def name(self) -> str:
        written = self._first("name", read_title) or self._first("title", read_title)
        return written or project_name(self.title(Collection.PROJECTS))

    def _first(self, field: str, read: Callable[[Json], T | None]) -> T | None:
        for part in self.written(field):
            for item in part:
                value = read(item.value)
                if value is not None:
                    return value
        return None


def _cut(title: str) -> str:
    return title if len(title) <= MAX_TITLE else title[: MAX_TITLE - 1] + "…"


def _under(keys: tuple[str, ...], written: Sequence[W]) -> list[W]:
    return [item for key in keys for item in written if item.name == key]


def _present(moments: Iterable[Moment | None]) -> list[Moment]:
    return [moment for moment in moments if moment]


def _why_unreadable(content: bytes, max_bytes: int) -> str | None:
    if len(content) > max_bytes:
        return f"The file has {len(content):,} bytes; at most {max_bytes:,} are read."
    if b"\0" in content:
        return "The file contains NUL bytes, so it is not text."
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        return f"The file is not UTF-8: byte {error.start:,} cannot be decoded."
    return None


def _stem(path: str) -> str:
    """The file's name without extension, in characters that every store accepts; never empty."""
    name = path.rsplit("/", 1)[-1]
    stem = name.removesuffix(".md") or name or path or "untitled"
    return stem.encode("utf-8", "replace").decode("utf-8").replace("\0", "?")[:MAX_TITLE]
