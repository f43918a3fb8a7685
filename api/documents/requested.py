"""Values that a caller asks for, checked and in the one type that each field has."""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import TypeAlias

from api.documents.dates import instant
from api.documents.errors import InvalidDocument
from api.documents.fields import (
    FIELDS,
    MAX_RANK,
    MAX_TEXT,
    MAX_TITLE,
    FieldValue,
    read_day,
    read_when,
)
from api.documents.model import Collection

Value: TypeAlias = str | int | datetime | date | tuple[str, ...]

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def requested(collection: Collection, changes: Mapping[str, FieldValue]) -> dict[str, Value | None]:
    """The changes in the order of the collection's fields; no tags at all are None.

    Raises InvalidDocument for an unknown field, a wrong type, or a text that is blank,
    too long or cannot be stored.
    """
    unknown = sorted(set(changes) - set(FIELDS[collection]))
    if unknown:
        raise InvalidDocument(
            f"{collection.title()} have no field `{unknown[0]}`; they have "
            f"{', '.join(FIELDS[collection])}."
        )
    return {
        field: _CHECKS.get(field, _text)(field, value)
        for field in FIELDS[collection]
        if (value := changes.get(field)) is not None or field in changes
    }


def _text(field: str, value: FieldValue) -> Value | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise InvalidDocument(f"The field `{field}` takes a text.")
    if not value.strip():
        raise InvalidDocument(f"The field `{field}` is blank; give it a text, or null to clear it.")
    limit = MAX_TITLE if field in {"title", "name"} else MAX_TEXT
    if len(value) > limit:
        raise InvalidDocument(
            f"The field `{field}` has {len(value):,} characters; the limit is {limit:,}."
        )
    if _UNSTORABLE.search(value):
        raise InvalidDocument(f"The field `{field}` contains NUL or half of a surrogate pair.")
    return value


def _tags(field: str, value: FieldValue) -> Value | None:
    if value is not None and not isinstance(value, tuple | list):
        raise InvalidDocument(f"The field `{field}` takes a list of texts.")
    items: Sequence[str] = value or ()
    for item in items:
        _text(field, item)
    return tuple(items) or None


def _rank(field: str, value: FieldValue) -> Value | None:
    if value is not None and (
        not isinstance(value, int) or isinstance(value, bool) or abs(value) > MAX_RANK
    ):
        raise InvalidDocument(f"The field `{field}` takes an integer of 32 bits.")
    return value


def _moment(field: str, value: FieldValue) -> Value | None:
    moment: datetime | None = None
    if isinstance(value, str) and (read := read_when(value)) and read.day:
        moment = instant(read.day, read.clock)
    elif isinstance(value, datetime):
        moment = instant(value.date(), value.timetz())
    elif isinstance(value, date):
        moment = instant(value, None)
    if value is not None and moment is None:
        raise InvalidDocument(f"The field `{field}` takes a date with time, in ISO 8601.")
    return moment.astimezone(UTC) if moment else None


def _day(field: str, value: FieldValue) -> Value | None:
    if isinstance(value, datetime):
        return value.date()
    day = read_day(value) if isinstance(value, str) else value
    if (day is not None and not isinstance(day, date)) or (day is None and value is not None):
        raise InvalidDocument(f"The field `{field}` takes a date, in ISO 8601.")
    return day


_CHECKS: dict[str, Callable[[str, FieldValue], Value | None]] = {
    "tags": _tags,
    "rank": _rank,
    "occurred_at": _moment,
    "due_on": _day,
}
