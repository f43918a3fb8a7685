"""What a project is called, and how a session's word for it is matched with the project itself."""

import re
import unicodedata

from api.documents.model import Project
from api.documents.slugs import slug

_STATUS = re.compile(r"(?:project\s+)?status\Z|статус(?:\s+проекта)?\Z", re.IGNORECASE)
_DECORATION = frozenset({"So", "Sk", "Cf", "Mn", "Me", "Zs"})  # Unicode categories


def project_name(heading: str) -> str:
    """The name in a heading such as `🤖 AIEX PROJECT STATUS`: `AIEX`.

    Emoji around it and the words that only say that this is a status page go; if nothing
    else is left, the heading is the name.
    """
    bare = _undecorated(heading)
    return _undecorated(_STATUS.sub("", bare).rstrip(" \t:-–—")) or heading


def _undecorated(text: str) -> str:
    start, end = 0, len(text)
    while start < end and unicodedata.category(text[start]) in _DECORATION:
        start += 1
    while start < end and unicodedata.category(text[end - 1]) in _DECORATION:
        end -= 1
    return text[start:end]


def project_key(text: str) -> str:
    """A name, a file name or a path as one comparable key; `""` for a blank text.

    A path (with a slash, ending in `.md`) stays a path; all else becomes a transliterated
    slug: `Annoris`, `ANNORIS` and `annoris` are one key, `annoris-status.md` is
    `annoris-status`. Case never counts.
    """
    folded = unicodedata.normalize("NFC", text).strip().casefold().removeprefix("./")
    if "/" in folded and folded.endswith(".md"):
        return folded
    name = folded.removesuffix(".md")
    return slug(name) or name


def project_keys(project: Project) -> tuple[str, ...]:
    """Every key that a project answers to: path, file stem, stem without `-status`, name."""
    stem = project.path.rsplit("/", 1)[-1].removesuffix(".md")
    spellings = (project.path, stem, stem.removesuffix("-status"), project.name)
    return tuple(dict.fromkeys(key for key in map(project_key, spellings) if key))
