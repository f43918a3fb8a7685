"""Changing single fields of a text, line by line: whatever does not belong to them stays.

A change is made where the value was read: in front matter, in a header line, in the
heading. Only what is written nowhere is added to the front matter. Each change is proved by
reading the result: the field has its new value, every other field and key the one it had.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import chain
from typing import NamedTuple, TypeAlias

from api.documents.anatomy import Anatomy, dissect, split_bom
from api.documents.dates import Moment
from api.documents.errors import InvalidDocument
from api.documents.fields import FIELDS, KEYS, RANK, READERS, FieldValue, read_when
from api.documents.front_matter import Entry, FrontMatter
from api.documents.header_lines import HeaderLine
from api.documents.model import Collection, Json
from api.documents.plain_text import body_of
from api.documents.reading import Reader
from api.documents.requested import Value, requested
from api.documents.yaml_values import flow_list, iso, scalar

Slot: TypeAlias = Entry | HeaderLine

_EMPTY_MAPPING = re.compile(r"^\{[ \t]*\}", re.MULTILINE)
# What may change along: a heading can be title, name and date at once.
_FOLLOWERS = {"title": {"name", "occurred_at"}, "name": {"title"}}


class Splice(NamedTuple):
    """Replace `[start, end)` of a text."""

    start: int
    end: int
    replacement: str


def edit(collection: Collection, markdown: str, changes: Mapping[str, FieldValue]) -> str:
    """The text with fields set, or cleared by None; omitted fields stay.

    Clearing removes what is written in front matter and header lines. A date in a heading
    or a file name, and a heading that is the title, stay and show through.
    Raises InvalidDocument for values that the collection does not have or that cannot be
    written, and for front matter that cannot be changed safely.
    """
    wanted = requested(collection, changes)
    bom, text = split_bom(markdown)
    for field, value in wanted.items():
        if value is None:
            text = _cleared(collection, text, field)
        else:
            text = _set(collection, text, field, value)
    if len(wanted) > 1:
        _check_all(collection, text, wanted)
    return bom + text


def create(collection: Collection, markdown: str, fields: Mapping[str, FieldValue]) -> str:
    """A new document: front matter with the given fields, then the caller's text, byte for byte.

    Front matter that the text brings is kept, and the fields are set in it as `edit` does.
    None means that a field is not given. Raises InvalidDocument as `edit` does.
    """
    given = {field: value for field, value in fields.items() if value is not None}
    bom, text = split_bom(markdown)
    if dissect(text).front_matter is not None:
        return edit(collection, markdown, given)
    wanted = requested(collection, given)
    lines = [_line(field, value) for field, value in wanted.items() if value is not None]
    if not lines:
        return markdown
    text = _with_front_matter(text, lines)
    _check_all(collection, text, wanted)
    return bom + text


def rewrite(markdown: str, text: str) -> str:
    """The document with another text, below the front matter that it has.

    A text that brings front matter of its own replaces everything. Raises InvalidDocument for a
    text whose front matter is broken, and for one that cannot follow what is there.
    """
    new = split_bom(text)[1]
    kept = markdown.removesuffix(body_of(markdown))
    if dissect(new).front_matter is not None or not kept:
        return text
    if not kept.endswith("\n"):
        kept += _line_break(markdown)
    if body_of(kept + new) != new:
        raise InvalidDocument(
            "The text cannot follow the front matter; send it with front matter of its own."
        )
    return kept + new


def _check_all(collection: Collection, text: str, wanted: Mapping[str, Value | None]) -> None:
    reader = Reader(dissect(text), stem="")
    for field, value in wanted.items():
        if value is not None and reader.value(collection, field) != value:
            raise _unsafe(field)


def _set(collection: Collection, text: str, field: str, value: Value) -> str:
    if Reader(dissect(text), stem="").value(collection, field) == value:
        return text
    for candidate in _ways_to_set(text, field, value):
        if _proved(collection, text, candidate, field, value):
            return candidate
    raise _unsafe(field)


def _ways_to_set(text: str, field: str, value: Value) -> Iterator[str]:
    """Results to try, the gentlest first: in place, moved to front matter, overridden there."""
    anatomy = dissect(text)
    in_place = _in_place(text, anatomy, field, value)
    if in_place:
        yield _spliced(text, in_place)
    lines = [slot for slot in _readable(anatomy, field) if isinstance(slot, HeaderLine)]
    if lines:
        moved = _spliced(text, [Splice(line.start, line.end, "") for line in lines])
        yield _added(moved, field, value)
    yield _added(text, field, value)


def _cleared(collection: Collection, text: str, field: str) -> str:
    anatomy = dissect(text)
    slots = _readable(anatomy, field)
    entries = [slot for slot in slots if isinstance(slot, Entry)]
    lines = [slot for slot in slots if isinstance(slot, HeaderLine)]
    if not slots:
        return text
    if entries and anatomy.front_matter and not anatomy.front_matter.in_lines:
        raise _unsafe(field)
    from_entries = _entries_removed(text, anatomy, entries)
    # A line that kept a following block from being read as header lines is only emptied.
    for from_lines in (
        [Splice(line.start, line.end, "") for line in lines],
        [Splice(line.value_start, line.value_end, "") for line in lines],
    ):
        candidate = _spliced(text, from_entries + from_lines)
        if _proved(collection, text, candidate, field, None):
            return candidate
    raise _unsafe(field)


def _entries_removed(text: str, anatomy: Anatomy, entries: Sequence[Entry]) -> list[Splice]:
    """Front matter without these keys; none at all if nothing is left in it."""
    splices = [Splice(entry.start, entry.end, "") for entry in entries]
    front_matter = anatomy.front_matter
    if front_matter is None or len(entries) < len(front_matter.entries) or not entries:
        return splices
    left = _spliced(text[: front_matter.inner_end], splices)[front_matter.inner_start :]
    if not left.strip() and not text.startswith("---", front_matter.end):
        return [Splice(0, front_matter.end, "")]
    # Without a mapping the delimiters would be two rules around the body's first lines.
    first, *others = splices
    return [first._replace(replacement="{}" + _line_break(text)), *others]


def _in_place(text: str, anatomy: Anatomy, field: str, value: Value) -> list[Splice]:
    if isinstance(value, datetime):
        return _moment_in_place(text, anatomy, value)
    slots = _readable(anatomy, field)
    if slots:
        return [_written(text, slots[0], _renumbered(slots[0].value, value))]
    if field == "title" and anatomy.heading and isinstance(value, str):
        return [Splice(anatomy.heading.start, anatomy.heading.end, value)]
    empty = [slot for slot in _slots(anatomy, field) if slot.value is None or slot.value == ""]
    return [_written(text, empty[0], value)] if empty else []


def _moment_in_place(text: str, anatomy: Anatomy, value: datetime) -> list[Splice]:
    """All lines of one source that tell the same moment, each in its kind: day, time or both."""
    for kind in (Entry, HeaderLine):
        slots = [slot for slot in _readable(anatomy, "occurred_at") if isinstance(slot, kind)]
        told = [(slot, read_when(slot.value) or Moment(None, None)) for slot in slots]
        day = next((moment.day for _, moment in told if moment.day), None)
        if day is None:
            continue
        same = [(slot, moment) for slot, moment in told if moment.day in {None, day}]
        timed = any(moment.clock for _, moment in same)
        return [_written(text, slot, _part(value, moment, timed)) for slot, moment in same]
    return []


def _part(value: datetime, old: Moment, timed: bool) -> Value:
    if old.day is None:
        clock = value.time()
        return clock.isoformat("auto" if clock.second or clock.microsecond else "minutes") + " UTC"
    return value if old.clock or not timed else value.date()


def _renumbered(old: Json, value: Value) -> Value:
    """A rank keeps the words around it: `#3 (ПАУЗИРОВАН)` becomes `#1 (ПАУЗИРОВАН)`."""
    match = RANK.match(old) if isinstance(old, str) and isinstance(value, int) else None
    if match is None or not isinstance(old, str):
        return value
    start, end = match.span("marked" if match["marked"] else "bare")
    return f"{old[:start]}{value}{old[end:]}"


def _added(text: str, field: str, value: Value) -> str:
    """The text with the field in its front matter, under the field's own name."""
    front_matter = dissect(text).front_matter
    line = _line(field, value)
    if front_matter is None:
        return _with_front_matter(text, [line])
    for entry in front_matter.entries:
        if entry.name == KEYS[field][0]:
            return _spliced(text, [_written(text, entry, value)])
    return _spliced(text, [_addition(text, front_matter, line, field)])


def _addition(text: str, front_matter: FrontMatter, line: str, field: str) -> Splice:
    if front_matter.in_lines and front_matter.entries:
        first = text[front_matter.entries[0].start : front_matter.entries[0].end]
        indent = first[: len(first) - len(first.lstrip(" "))]
        at = front_matter.inner_end
        return Splice(at, at, f"{indent}{line}{_line_break(text)}")
    empty = _EMPTY_MAPPING.search(text, front_matter.inner_start, front_matter.inner_end)
    if front_matter.entries or empty is None:
        raise _unsafe(field)
    return Splice(empty.start(), empty.end(), line)


def _with_front_matter(text: str, lines: Sequence[str]) -> str:
    return "".join(f"{line}{_line_break(text)}" for line in ["---", *lines, "---"]) + text


def _line(field: str, value: Value) -> str:
    return f"{field}: {flow_list(value) if isinstance(value, tuple) else scalar(value)}"


def _line_break(text: str) -> str:
    end = text.find("\n")
    return "\r\n" if end > 0 and text[end - 1] == "\r" else "\n"


def _written(text: str, slot: Slot, value: Value) -> Splice:
    words = _in_entry(text, slot, value) if isinstance(slot, Entry) else _in_line(value)
    behind_colon = slot.value_start == slot.value_end
    return Splice(slot.value_start, slot.value_end, " " + words if behind_colon else words)


def _in_entry(text: str, entry: Entry, value: Value) -> str:
    if not isinstance(value, tuple):
        words = scalar(value, entry.style if entry.style in {"'", '"'} else "")
        return "  " + words if entry.style == "-" else words
    if entry.style != "-":
        return flow_list(value)
    indent = text[text.rfind("\n", 0, entry.value_start) + 1 : entry.value_start]
    return f"{_line_break(text)}{indent}".join(f"- {scalar(item)}" for item in value)


def _in_line(value: Value) -> str:
    if isinstance(value, tuple):
        return ", ".join(value)
    return value if isinstance(value, str) else str(value) if isinstance(value, int) else iso(value)


def _slots(anatomy: Anatomy, field: str) -> list[Slot]:
    """Everything written under the field's keys, the strongest first."""
    return list(chain(*Reader(anatomy, stem="").written(field)))


def _readable(anatomy: Anatomy, field: str) -> list[Slot]:
    return [slot for slot in _slots(anatomy, field) if READERS[field](slot.value) is not None]


def _spliced(text: str, splices: Sequence[Splice]) -> str:
    for splice in sorted(splices, reverse=True):
        text = text[: splice.start] + splice.replacement + text[splice.end :]
    return text


def _proved(
    collection: Collection, before: str, after: str, field: str, value: Value | None
) -> bool:
    """Whether the field has its new value, or is written nowhere, and nothing else changed."""
    old = dissect(before)
    try:
        new = dissect(after)
    except InvalidDocument:
        return False
    reads, read = Reader(new, stem=""), Reader(old, stem="")
    if value is None and _readable(new, field):
        return False
    if value is not None and reads.value(collection, field) != value:
        return False
    others = set(FIELDS[collection]) - {field} - _FOLLOWERS.get(field, set())
    return _other_keys(old, field) == _other_keys(new, field) and all(
        reads.value(collection, other) == read.value(collection, other) for other in others
    )


def _other_keys(anatomy: Anatomy, field: str) -> list[tuple[str, Json]]:
    slots: chain[Slot] = chain(anatomy.entries, anatomy.header)
    return [(slot.key, slot.value) for slot in slots if slot.name not in KEYS[field]]


def _unsafe(field: str) -> InvalidDocument:
    return InvalidDocument(
        f"The field `{field}` cannot be changed safely in this document; replace its Markdown."
    )
