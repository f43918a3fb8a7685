"""`**Key:** value` lines under the first heading: metadata as people write it by hand.

The block begins under the heading and ends at the first line that is something else: a
paragraph, a rule, a list, the next heading. Blank lines do not end it. Two shapes that the
older documents have are read too, for known keys alone, so that prose is never taken for
metadata: a block that comes after one more heading directly below the first, and a line
that is itself a heading (`## Date: 2025-10-30 14:05`).
"""

import re
from collections.abc import Container
from dataclasses import dataclass

from api.documents.headings import line_end, next_line
from api.documents.keys import plain_key

MAX_LINE = 500  # characters; a longer line is prose
MAX_LINES = 100  # blank ones included

_BOLD = re.compile(r"\s{0,3}(?:[-*+]\s)?\*\*(?P<key>[^*:]{1,60})(?::\s?\*\*|\*\*\s?:)")
_HEADING = re.compile(r" {0,3}#{1,6}\s")
_TITLED = re.compile(r" {0,3}#{2,6}\s+(?P<key>[^*:#]{1,60}):(?=\s)")


@dataclass(frozen=True, slots=True)
class HeaderLine:
    """One header line; the positions count characters of the whole text."""

    key: str  # as written
    name: str  # see keys.plain_key
    value: str  # as written, trimmed; may be empty for a known key
    start: int
    end: int  # behind the line break
    value_start: int
    value_end: int


def header_lines(text: str, position: int, known: Container[str]) -> tuple[HeaderLine, ...]:
    """The header lines below a heading that ends at `position`. `known` holds plain keys."""
    found: list[HeaderLine] = []
    below_subtitle = False
    for _ in range(MAX_LINES):
        end = line_end(text, position)
        raw = text[position:end] if end - position <= MAX_LINE else "prose"
        line = _read(text, position, raw, known)
        if line and (line.name in known or (line.value and not below_subtitle)):
            found.append(line)
        elif raw.strip():
            if found or below_subtitle or not _HEADING.match(raw):
                break
            below_subtitle = True
        position = next_line(text, position)
    return tuple(found)


def _read(text: str, position: int, raw: str, known: Container[str]) -> HeaderLine | None:
    match = _BOLD.match(raw) or _TITLED.match(raw)
    if match is None:
        return None
    name = plain_key(match["key"])
    if not name or (match.re is _TITLED and name not in known):
        return None
    rest = raw[match.end() :]
    value = rest.strip()
    value_start = position + match.end() + len(rest) - len(rest.lstrip() if value else "")
    if not value:
        value_start = position + match.end()
    return HeaderLine(
        key=match["key"].strip(),
        name=name,
        value=value,
        start=position,
        end=next_line(text, position),
        value_start=value_start,
        value_end=value_start + len(value),
    )
