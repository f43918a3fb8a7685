"""Markdown as readable text: bodies and excerpts."""

import re

from api.documents.anatomy import split_bom
from api.documents.errors import InvalidDocument
from api.documents.fields import HEADER_KEYS
from api.documents.front_matter import read_front_matter
from api.documents.header_lines import header_lines
from api.documents.headings import first_heading

_RULE = re.compile(r"\s*(?:[*_=]\s*){3,}|\s*[`~]{3,}.*|[|:\s-]*")  # rules, fences, tables
_LINE_MARKERS = re.compile(
    r"\s*(?:(?:>|#{1,6}(?=\s)|[-*+](?=\s)(?:\s\[[ xX]\])?|\d{1,9}[.)](?=\s))\s*)*"
)
_LINK = re.compile(r"!?\[([^\[\]]*)\](?:\([^()\s]*\)|\[[^\[\]]*\])")
_AUTOLINK = re.compile(r"<(https?://[^<>\s]*)>")
_TAG = re.compile(
    r"<!--|-->|</?(?:a|br|center|details|div|hr|img|kbd|p|span|sub|summary|sup)\b[^<>]{0,200}>",
    re.IGNORECASE,
)
_EMPHASIS = re.compile(r"`+|~~|\*+(?=\S)|(?<=\S)\*+|(?<!\w)_+(?=\S)|(?<=\S)_+(?!\w)")


def body_of(markdown: str) -> str:
    """The text behind the front matter, byte for byte; all of it where there is none."""
    text = split_bom(markdown)[1]
    end = _front_matter_end(text)
    return text[end:] if end else markdown


def excerpt(markdown: str, length: int) -> str:
    """The beginning of the body in at most `length` characters of plain text.

    Without the title heading, the header lines of fields that a document has (they are fields
    of the answer too) and Markdown's markers, white space collapsed; cut between two words
    with `…`.
    """
    if length <= 0:
        return ""
    text = split_bom(markdown)[1]
    start = _front_matter_end(text)
    heading = first_heading(text, start)
    if heading is None:
        return _cut(_plain(text, start, len(text), length), length)
    before = _plain(text, start, text.rfind("\n", 0, heading.start) + 1, length)
    after = _plain(text, _behind_fields(text, heading.after), len(text), length)
    return _cut(f"{before} {after}".strip(), length)


def _behind_fields(text: str, position: int) -> int:
    """Behind the header lines that begin at `position`, as far as their keys are known."""
    for line in header_lines(text, position, HEADER_KEYS):
        if line.name not in HEADER_KEYS:
            break
        position = line.end
    return position


def _front_matter_end(text: str) -> int:
    try:
        front_matter = read_front_matter(text)
    except InvalidDocument:
        return 0
    return front_matter.end if front_matter else 0


def _plain(text: str, start: int, stop: int, length: int) -> str:
    """Plain text of `[start, stop)`: all of it, or more than `length` characters."""
    words: list[str] = []
    size = 0
    while start < stop and size <= length:
        end = text.find("\n", start, stop)
        end = stop if end < 0 else end
        line = _plain_line(text[start : min(end, start + 4 * length + 1_000)])
        words += line.split()
        size += len(line)
        start = end + 1
    return " ".join(words)


def _plain_line(line: str) -> str:
    if _RULE.fullmatch(line):
        return ""
    line = line[_LINE_MARKERS.match(line).end() :]  # type: ignore[union-attr]
    line = _LINK.sub(r"\1", line)
    line = _TAG.sub("", _AUTOLINK.sub(r"\1", line))
    if line.startswith("|"):
        line = line.replace("|", " ")
    return _EMPHASIS.sub("", line)


def _cut(text: str, length: int) -> str:
    if len(text) <= length:
        return text
    kept = text[:length]
    whole_words = kept.rpartition(" ")[0] or kept[: length - 1]
    return whole_words[: length - 1].rstrip(" ,;:.-–—") + "…"
