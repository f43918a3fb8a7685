"""What a commit's message says: for people first, and in its last paragraph for us. Pure.

Each write is known by a trailer with its id. A write with an idempotency key has a second one, so
that the history is the record of what was carried out, and nothing else is needed to find it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

RESERVED = "Annoris-"  # begins the names of our trailers
WRITE, KEY, PATH = f"{RESERVED}Write", f"{RESERVED}Key", f"{RESERVED}Path"
_CALLER = f"{RESERVED}Caller"
_CO_AUTHOR = "Co-authored-by"
_MAX_HEADLINE = 72  # characters; what lists of commits show
_TRAILER = re.compile(rf"(?!{RESERVED})[A-Z0-9][A-Z0-9-]*: \S.*", re.IGNORECASE)
_DIGESTS = re.compile(r"([0-9a-f]{32}) ([0-9a-f]{32})")


@dataclass(frozen=True, slots=True)
class Key:
    """Digests of an idempotency key and of what was asked for under it: 32 hex digits each."""

    key: str
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What a commit says of one write. The first line of `message` is its headline.

    `chosen`: the paths that we chose. `co_authors`: as `Name <address>`. `caller`: the name of the
    API key that it came with, in one word.
    """

    write_id: str
    message: str
    key: Key | None = None
    chosen: tuple[str, ...] = ()
    co_authors: tuple[str, ...] = ()
    caller: str | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """One write, as a commit tells of it."""

    write_id: str
    key: Key | None
    chosen: tuple[str, ...]


def compose(notes: Sequence[Note]) -> tuple[str, str]:
    """The headline and the body of a commit. Raises ValueError for a message that says nothing."""
    messages = [_parts(note.message) for note in notes]
    if not messages or not all(headline for headline, _ in messages):
        raise ValueError("a commit needs a headline for each of its writes")
    if len(messages) == 1:
        [(headline, text)] = messages
    else:
        headline = f"Save {len(messages)} changes: " + ", ".join(line for line, _ in messages)
        if len(headline) > _MAX_HEADLINE:
            headline = headline[: _MAX_HEADLINE - 1].rstrip(" ,") + "…"
        text = "\n".join(_item(line, rest) for line, rest in messages)
    trailers = "\n".join([*_trailers(notes), *_co_authors(notes)])
    return headline, f"{text}{_gap(text)}{trailers}"


def records(message: str) -> list[Record]:
    """The writes that a commit tells of. Anybody may write anything.

    They are in its last paragraph, or above trailers that were added later, like a sign-off.
    """
    found: list[Record] = []
    paragraphs = re.split(r"\n[ \t]*\n", message.replace("\r\n", "\n").strip())
    while len(paragraphs) > 2 and _is_trailers(paragraphs[-1]):
        paragraphs.pop()
    if len(paragraphs) < 2:
        return []
    for line in paragraphs[-1].split("\n"):
        name, _, value = line.partition(": ")
        value = value.strip()
        if name == WRITE and value:
            found.append(Record(value, None, ()))
        elif name == KEY and found and (digests := _DIGESTS.fullmatch(value)):
            found[-1] = Record(found[-1].write_id, Key(*digests.groups()), found[-1].chosen)
        elif name == PATH and found and value:
            found[-1] = Record(found[-1].write_id, found[-1].key, (*found[-1].chosen, value))
    return found


def _parts(message: str) -> tuple[str, str]:
    headline, _, body = message.strip().partition("\n")
    return headline.strip(), body.strip()


def _item(headline: str, text: str) -> str:
    lines = [f"* {headline}", *(f"  {line}".rstrip() for line in text.split("\n") if text)]
    return "\n".join(lines)


def _gap(text: str) -> str:
    """Trailers of the caller's own are in one paragraph with ours, or git would not see them.

    Not if they look like ours: they must not be taken for them.
    """
    if not text:
        return ""
    return "\n" if _is_trailers(text.rsplit("\n\n", 1)[-1]) else "\n\n"


def _is_trailers(paragraph: str) -> bool:
    """Whether these are trailers, and none of ours."""
    return all(_TRAILER.fullmatch(line) for line in paragraph.split("\n"))


def _trailers(notes: Sequence[Note]) -> list[str]:
    lines: list[str] = []
    for note in notes:
        lines.append(f"{WRITE}: {note.write_id}")
        if note.key:
            lines.append(f"{KEY}: {note.key.key} {note.key.content}")
            lines += [f"{PATH}: {path}" for path in note.chosen]
        if note.caller:
            lines.append(f"{_CALLER}: {note.caller}")
    return lines


def _co_authors(notes: Sequence[Note]) -> list[str]:
    named = dict.fromkeys(author for note in notes for author in note.co_authors)
    return [f"{_CO_AUTHOR}: {author}" for author in named]
