"""The first heading of a Markdown text, and where exactly its words stand."""

import re
from typing import NamedTuple

_MARKERS = re.compile(
    r"^ {0,3}(?:(?P<hashes>\#{1,6})(?=[ \t\r\n]|\Z)|(?P<fence>`{3,}|~{3,})"
    r"|(?P<underline>=+|-+)[ \t\r]*$)",
    re.MULTILINE,
)
# A line that an underline below does not turn into a heading.
_NO_PARAGRAPH = re.compile(r" {0,3}(?:[-*+>|#]|\d+[.)]\s)|\s{4}|\s*\Z")


class Heading(NamedTuple):
    """`start` and `end` enclose the words without markers; the next line begins at `after`."""

    text: str
    start: int
    end: int
    after: int


def first_heading(text: str, start: int = 0) -> Heading | None:
    """The first heading that has words; `#` lines inside fenced code are none."""
    fence = ""
    for match in _MARKERS.finditer(text, start):
        if fence:
            if match["fence"] and _closes(text, match, fence):
                fence = ""
        elif match["fence"]:
            fence = match["fence"] if _opens(text, match) else ""
        elif match["hashes"]:
            heading = _hashed(text, match.end())
            if heading.text:
                return heading
        elif underlined := _underlined(text, match.start(), start):
            return underlined
    return None


def line_end(text: str, position: int) -> int:
    """Where the words of the line at `position` end: before its line break."""
    end = text.find("\n", position)
    end = len(text) if end < 0 else end
    return end - 1 if end > position and text[end - 1] == "\r" else end


def next_line(text: str, position: int) -> int:
    end = text.find("\n", position)
    return len(text) if end < 0 else end + 1


def _hashed(text: str, position: int) -> Heading:
    end = line_end(text, position)
    line = text[position:end]
    words = line.strip()
    unclosed = words.rstrip("#")
    if unclosed != words and (not unclosed or unclosed[-1].isspace()):
        words = unclosed.rstrip()
    start = position + len(line) - len(line.lstrip())
    return Heading(words, start, start + len(words), next_line(text, position))


def _underlined(text: str, underline: int, first: int) -> Heading | None:
    """The paragraph of one line above an underline, if there is one."""
    if underline <= first:
        return None
    begin = max(first, text.rfind("\n", first, underline - 1) + 1)
    line = text[begin : line_end(text, begin)]
    if _NO_PARAGRAPH.match(line):
        return None
    above = max(first, text.rfind("\n", first, max(first, begin - 1)) + 1)
    if text[above:begin].strip():
        return None
    start = begin + len(line) - len(line.lstrip())
    words = line.strip()
    return Heading(words, start, start + len(words), next_line(text, underline))


def _opens(text: str, match: re.Match[str]) -> bool:
    return match["fence"][0] == "~" or "`" not in text[match.end() : line_end(text, match.end())]


def _closes(text: str, match: re.Match[str], fence: str) -> bool:
    return (
        match["fence"].startswith(fence)
        and not text[match.end() : line_end(text, match.end())].strip()
    )
