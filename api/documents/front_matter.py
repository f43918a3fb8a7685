"""YAML front matter: what it says, and on which lines it says it.

Only plain data is read: no anchors, aliases, tags or duplicate keys, and bounded depth,
nodes and size, so that a small file cannot become a large value. Scalars become JSON:
`null`, booleans, integers of 64 bits and finite decimals; everything else, dates included,
stays the text that was written.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import (
    CollectionStartEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
    StreamStartEvent,
)

from api.documents.errors import InvalidDocument
from api.documents.keys import plain_key
from api.documents.model import Json

MAX_BYTES = 64 * 1024
MAX_DEPTH = 20
MAX_NODES = 2_000

_OPENING = re.compile(r"---[ \t]*\r?\n")
_CLOSING = re.compile(r"^(?:---|\.\.\.)[ \t\r]*$", re.MULTILINE)
_INTENDED = re.compile(r"(?:[ \t\r]*(?:#[^\n]*)?\n)*[ \t]*[\w\"'{?][^\n:]*:(?:\s|\Z)")
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,18})")
_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]{0,30})(?:\.[0-9]{1,30})?(?:[eE][-+]?[0-9]{1,3})?")
_WORDS: dict[str, Json] = {"": None, "~": None, "null": None, "true": True, "false": False}
_COMMENT_OR_BLANK = re.compile(r"\s*(?:#.*)?")
_SURROGATE_OR_NUL = re.compile("[\0\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Entry:
    """One key at the top level; the positions count characters of the whole text.

    `start` and `end` enclose whole lines. `style` is the YAML indicator of the value: `"`,
    `'`, `|` and `>` for scalars, `-` for a block list, `[` for all other collections,
    and `""` for a plain scalar.
    """

    key: str
    name: str  # see keys.plain_key
    value: Json
    style: str
    start: int
    end: int
    value_start: int
    value_end: int


@dataclass(frozen=True, slots=True)
class FrontMatter:
    """A mapping between two delimiters. `[start, end)` holds the delimiter lines too."""

    entries: tuple[Entry, ...]
    inner_start: int
    inner_end: int
    end: int
    in_lines: bool  # one key a line, as people write it, so that a line can be changed alone


def read_front_matter(text: str) -> FrontMatter | None:
    """The front matter at the very beginning of a text without BOM, or None.

    Raises InvalidDocument where front matter was clearly meant and cannot be used: the
    first line is `---`, the next one that says something has a key, but the rest is broken,
    unclosed, or no plain data.
    """
    opening = _OPENING.match(text)
    if opening is None:
        return None
    intended = _INTENDED.match(text, opening.end()) is not None
    closing = _CLOSING.search(text, opening.end())
    if closing is None:
        if intended:
            raise InvalidDocument("The front matter has no end: close it with a line `---`.")
        return None
    try:
        return _read(text, opening.end(), closing)
    except InvalidDocument:
        if intended:
            raise
        return None


def _read(text: str, start: int, closing: re.Match[str]) -> FrontMatter | None:
    end = closing.start()
    inner = text[start:end]
    if len(inner) > MAX_BYTES or len(inner.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise InvalidDocument(
            f"The front matter is larger than {MAX_BYTES // 1024} KiB; shorten it."
        )
    entries, in_lines = _Reader(inner, start).mapping()
    if entries is None:
        return None
    after = min(len(text), closing.end() + 1)
    return FrontMatter(tuple(entries), start, end, after, in_lines)


class _Pair(NamedTuple):
    """A key and its value inside the front matter; positions count from its first line."""

    key: str
    key_start: int
    key_end: int
    value: Json
    style: str
    start: int
    end: int  # of the last visible character
    absent: bool  # nothing is written behind the colon


class _Reader:
    """Builds JSON from YAML events, counting what it sees; stops at the first excess."""

    def __init__(self, inner: str, offset: int) -> None:
        self._inner = inner
        self._offset = offset
        self._nodes = 0
        self._mapping_end = 0
        self._events = self._safe_events()

    def mapping(self) -> tuple[list[Entry] | None, bool]:
        """The top level's entries, None unless it is a mapping; whether it is one key a line."""
        self._expect(StreamStartEvent)
        document = next(self._events)
        if not isinstance(document, DocumentStartEvent):
            return None, False
        if document.version or document.tags:
            raise InvalidDocument("The front matter must not contain YAML directives; remove them.")
        top = next(self._events)
        if not isinstance(top, MappingStartEvent):
            return None, False
        self._count(top, 0)
        pairs = list(self._pairs(1))
        self._expect(DocumentEndEvent)
        self._expect(StreamEndEvent)
        marks = [pair.key_start for pair in pairs]
        begins = [self._inner.rfind("\n", 0, mark) + 1 for mark in marks]
        limits = [*begins[1:], len(self._inner)]
        in_lines = not top.flow_style and all(
            not self._inner[begin:mark].strip(" ")
            for begin, mark in zip(begins, marks, strict=True)
        )
        return list(map(self._entry, pairs, begins, limits)), in_lines

    def _pairs(self, depth: int) -> Iterator[_Pair]:
        """The keys and values of a mapping that has begun, up to its end."""
        seen: set[str] = set()
        while not isinstance(event := next(self._events), MappingEndEvent):
            key = self._key(event, seen)
            first = next(self._events)
            value, end = self._value(first, depth)
            yield _Pair(
                key=key,
                key_start=event.start_mark.index,
                key_end=event.end_mark.index,
                value=value,
                style=_style(first),
                start=first.start_mark.index,
                end=max(end, event.end_mark.index),
                absent=first.start_mark.index == first.end_mark.index and value is None,
            )
        self._mapping_end = _closed_at(event)

    def _entry(self, pair: _Pair, begin: int, limit: int) -> Entry:
        start, end = pair.start, pair.end
        if pair.absent:
            start = end = self._inner.index(":", pair.key_end) + 1
        elif pair.style in {"|", ">", "-"}:
            end = self._trimmed(self._last_line(end, limit))
        return Entry(
            key=pair.key,
            name=plain_key(pair.key),
            value=pair.value,
            style=pair.style,
            start=self._offset + begin,
            end=self._offset + self._last_line(end, limit),
            value_start=self._offset + start,
            value_end=self._offset + end,
        )

    def _last_line(self, end: int, limit: int) -> int:
        """Where the value's last line ends: comments and blank lines before the next key stay."""
        stop = self._inner.find("\n", end) + 1 or len(self._inner)
        if self._inner[end - 1 : end] == "\n":
            stop = end
        while limit > stop:
            begin = self._inner.rfind("\n", 0, limit - 1) + 1
            if not _COMMENT_OR_BLANK.fullmatch(self._inner[begin:limit].rstrip("\r\n")):
                break
            limit = begin
        return max(limit, stop)

    def _trimmed(self, end: int) -> int:
        while end and self._inner[end - 1].isspace():
            end -= 1
        return end

    def _value(self, event: Event, depth: int) -> tuple[Json, int]:
        """A value, and where its last visible character ends (0 for an empty one)."""
        self._count(event, depth)
        if isinstance(event, ScalarEvent):
            empty = event.start_mark.index == event.end_mark.index
            return _scalar(event), 0 if empty else self._trimmed(event.end_mark.index)
        if isinstance(event, SequenceStartEvent):
            return self._sequence(depth)
        pairs = list(self._pairs(depth + 1))
        last = max([self._mapping_end, *(pair.end for pair in pairs)])
        return {pair.key: pair.value for pair in pairs}, last

    def _sequence(self, depth: int) -> tuple[list[Json], int]:
        items: list[Json] = []
        last = 0
        while not isinstance(event := next(self._events), SequenceEndEvent):
            value, end = self._value(event, depth + 1)
            items.append(value)
            last = max(last, end)
        return items, max(last, _closed_at(event))

    def _key(self, event: Event, seen: set[str]) -> str:
        self._count(event, 1)
        if not isinstance(event, ScalarEvent):
            raise InvalidDocument("A key in the front matter must be a text; rename it.")
        key = _checked(str(event.value))
        if key in seen:
            raise InvalidDocument(f"The front matter has the key `{key[:60]}` twice; keep one.")
        seen.add(key)
        return key

    def _count(self, event: Event, depth: int) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise InvalidDocument(
                f"The front matter has more than {MAX_NODES:,} values; shorten it."
            )
        if depth > MAX_DEPTH:
            raise InvalidDocument(
                f"The front matter is nested deeper than {MAX_DEPTH} levels; flatten it."
            )
        if not isinstance(event, ScalarEvent | CollectionStartEvent) or event.anchor is not None:
            raise InvalidDocument(
                "The front matter must not contain YAML anchors or aliases; write the values out."
            )
        if event.tag is not None:
            raise InvalidDocument("The front matter must not contain YAML tags; remove them.")

    def _expect(self, kind: type[Event]) -> None:
        if not isinstance(next(self._events), kind):
            raise InvalidDocument("The front matter must be one YAML mapping.")

    def _safe_events(self) -> Iterator[Event]:
        try:
            yield from YAML(typ="safe", pure=True).parse(self._inner)
        except YAMLError as error:
            raise InvalidDocument(
                f"The front matter is not valid YAML{_place(error)}; correct it."
            ) from None
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            # What the library raises for some broken escapes and indicators.
            raise InvalidDocument("The front matter is not valid YAML; correct it.") from None


def _place(error: YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    return f" (line {mark.line + 2})" if mark is not None else ""


def _style(event: Event) -> str:
    if isinstance(event, ScalarEvent):
        return event.style or ""
    return "-" if isinstance(event, SequenceStartEvent) and not event.flow_style else "["


def _closed_at(event: Event) -> int:
    """The end of `]` or `}`; a block collection ends with its last value instead."""
    return event.end_mark.index if event.end_mark.index > event.start_mark.index else 0


def _scalar(event: ScalarEvent) -> Json:
    text = _checked(str(event.value))
    if event.style:
        return text
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _INTEGER.fullmatch(text) and -(2**63) <= int(text) < 2**63:
        return int(text)
    if _DECIMAL.fullmatch(text) and math.isfinite(number := float(text)):
        return number if not _INTEGER.fullmatch(text) else text
    return text


def _checked(text: str) -> str:
    if _SURROGATE_OR_NUL.search(text):
        raise InvalidDocument(
            "The front matter must not contain NUL or surrogate halves; remove them."
        )
    return text
