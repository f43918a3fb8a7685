"""The fields of each collection: which keys they are written under, and how a value is read."""

import re
from collections.abc import Callable, Sequence
from datetime import date, datetime
from typing import Protocol, TypeAlias

from api.documents.dates import Moment, instant, read_moment
from api.documents.model import Collection, Json

FieldValue: TypeAlias = str | int | datetime | date | tuple[str, ...] | list[str] | None

MAX_TITLE = 1_000  # characters; a longer heading is cut
MAX_TEXT = 500  # characters; a longer value is prose and stays in the metadata alone
MAX_RANK = 2**31 - 1

# In the order in which new front matter is written.
FIELDS: dict[Collection, tuple[str, ...]] = {
    Collection.SESSIONS: (
        "title",
        "occurred_at",
        "project",
        "status",
        "priority",
        "agent",
        "tags",
    ),
    Collection.PROJECTS: ("title", "name", "status", "rank"),
    Collection.PRIORITIES: ("title", "rank", "status", "project", "due_on"),
}

# Plain keys (see keys.py), the strongest first. The first is how the field itself is written.
KEYS: dict[str, tuple[str, ...]] = {
    "title": ("title", "заголовок"),
    "name": ("name", "название"),
    "occurred_at": ("occurredat", "timestamp", "datetime", "date", "дата", "time", "время"),
    "project": ("project", "проект"),
    "status": ("status", "статус"),
    "priority": ("priority", "приоритет"),
    "agent": ("agent", "агент"),
    "tags": ("tags", "теги", "тэги", "метки", "tag", "тег"),
    "rank": ("rank", "ранг", "priority", "приоритет"),
    "due_on": ("dueon", "due", "duedate", "deadline", "срок", "дедлайн"),
}

# A heading is the title of the text below it; only front matter can override it.
FRONT_MATTER_ONLY = frozenset({"title", "name"})
# Known in header lines although no field is read from them.
_OTHER_HEADER_KEYS = ("session", "сессия", "updated", "обновлено")
HEADER_KEYS = frozenset(_OTHER_HEADER_KEYS).union(
    *(keys for field, keys in KEYS.items() if field not in FRONT_MATTER_ONLY)
)

RANK = re.compile(
    r"[#№]\s?(?P<marked>\d{1,10})(?![\w.,/-])"
    r"|[Pp]?(?P<bare>\d{1,10})(?=\.?\s*\Z|\s*[(\[]|\s+[-–—]\s)"
)


class Written(Protocol):
    """A key with its value, from front matter or from a header line."""

    @property
    def name(self) -> str: ...
    @property
    def value(self) -> Json: ...


def read_text(value: Json) -> str | None:
    """A value that is one line of text or a number, as written."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, str) and value.strip() and len(value) <= MAX_TEXT:
        return value
    return None


def read_title(value: Json) -> str | None:
    if isinstance(value, str):
        return value if value.strip() and len(value) <= MAX_TITLE else None
    return read_text(value)


def read_rank(value: Json) -> int | None:
    """3 for `3`, `#3 (ПАУЗИРОВАН)` and `P3`; None for words and for more than 32 bits."""
    if isinstance(value, str):
        match = RANK.match(value.strip())
        value = int(match["marked"] or match["bare"]) if match else None
    if isinstance(value, int) and not isinstance(value, bool) and -MAX_RANK <= value <= MAX_RANK:
        return value
    return None


def read_tags(value: Json) -> tuple[str, ...] | None:
    """The items of a list as written; a text is split at its commas, or at its `#` signs."""
    if isinstance(value, list):
        items = [read_text(item) for item in value]
    elif isinstance(text := read_text(value), str):
        words = text.split()
        hashtags = not re.search(r"[,;]", text) and all(word.startswith("#") for word in words)
        parts = words if hashtags else re.split(r"[,;]", text)
        items = [part.strip().removeprefix("#").strip() for part in parts]
    else:
        return None
    return tuple(item for item in items if item) or None


def read_when(value: Json) -> Moment | None:
    return read_moment(str(value)) if isinstance(value, str | int) else None


def read_day(value: Json) -> date | None:
    moment = read_when(value)
    return moment.day if moment else None


READERS: dict[str, Callable[[Json], object]] = {
    "title": read_title,
    "name": read_title,
    "occurred_at": read_when,
    "project": read_text,
    "status": read_text,
    "priority": read_text,
    "agent": read_text,
    "tags": read_tags,
    "rank": read_rank,
    "due_on": read_day,
}


def occurred_at(sources: Sequence[Sequence[Moment]]) -> datetime | None:
    """One moment out of all that a document tells, the strongest source first.

    The first day counts. Its time is the first one written for that same day; a time
    written alone belongs to the day of its own source, or to any day if that has none.
    """
    told: list[Moment] = []
    for source in sources:
        own_day = next((moment.day for moment in source if moment.day), None)
        told += [Moment(moment.day or own_day, moment.clock) for moment in source]
    day = next((moment.day for moment in told if moment.day), None)
    if day is None:
        return None
    clocks = (moment.clock for moment in told if moment.clock and moment.day in {None, day})
    return instant(day, next(clocks, None)) or instant(day, None)
