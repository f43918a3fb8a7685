"""Paths that are safe to write on every machine that clones the repository."""

import re
import unicodedata
from collections.abc import Iterable
from pathlib import PurePosixPath

from api.documents.errors import InvalidPath

MAX_PATH_BYTES = 1_024
MAX_SEGMENT_BYTES = 255

_UNSEEN = {
    "Cc": "a control character",
    "Cf": "an invisible format character",
    "Cs": "half of a surrogate pair",
    "Zl": "a line separator",
    "Zp": "a paragraph separator",
}
# Drawn as nothing although Unicode does not class them as format characters.
_BLANK_LETTERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
_DRIVE = re.compile(r"[A-Za-z]?:")
_RESERVED = re.compile(r"\.git|\.github|git~\d+")


def check_path(path: str) -> str:
    """The path of a document in Unicode NFC. Raises InvalidPath with the rule that it breaks."""
    path = unicodedata.normalize("NFC", path)
    check_directory(path)
    if not path.endswith(".md"):
        raise InvalidPath("A document's path ends in `.md`.")
    if path.rsplit("/", 1)[-1] == ".md":
        raise InvalidPath("A document needs a name before `.md`.")
    return path


def check_directory(path: str) -> str:
    """Any safe relative path in NFC, a document's or a directory's. Raises InvalidPath."""
    path = unicodedata.normalize("NFC", path)
    _check_characters(path)
    if len(path.encode()) > MAX_PATH_BYTES:
        raise InvalidPath(f"A path has at most {MAX_PATH_BYTES:,} bytes in UTF-8.")
    if path.startswith("/") or path.endswith("/"):
        raise InvalidPath("A path is relative: it neither begins nor ends with a slash.")
    for segment in path.split("/"):
        _check_segment(segment)
    return path


def directories_above(paths: Iterable[str]) -> set[str]:
    """The directories above these paths, and the root, whose path is the empty string."""
    above = {str(parent) for path in paths for parent in PurePosixPath(path).parents}
    return {"" if directory == "." else directory for directory in above}


def path_in(directory: str, name: str) -> str:
    return f"{directory}/{name}" if directory else name


def folded(name: str) -> str:
    """The same for all names that some computer takes for one.

    macOS and Windows know neither case nor the form of an accent, Windows no dots at the end.
    """
    decomposed = unicodedata.normalize("NFD", name)
    return unicodedata.normalize("NFD", decomposed.casefold()).rstrip(". ")


def is_in_the_way(path: str, other: str) -> bool:
    """Whether not both can be on every computer: `other` is the same, or would be a directory.

    A directory has a slash at its end.
    """
    for mine, theirs in zip(path.split("/"), other.split("/"), strict=False):
        if mine != theirs:
            return folded(mine) == folded(theirs)
    return True


def _check_characters(path: str) -> None:
    if "\\" in path:
        raise InvalidPath("A path separates its parts by `/`, never by a backslash.")
    for character in path:
        unseen = _UNSEEN.get(unicodedata.category(character))
        if character in _BLANK_LETTERS:
            unseen = "an invisible character"
        if unseen:
            raise InvalidPath(f"A path must not contain {unseen} (U+{ord(character):04X}).")


def _check_segment(segment: str) -> None:
    if not segment:
        raise InvalidPath("A path has no empty part: one slash between two names.")
    if segment != segment.strip():
        raise InvalidPath(f"No part of a path begins or ends with a space: `{segment}`.")
    # What Windows makes of a name: it drops dots and spaces at the end, and a stream after `:`.
    plain = segment.split(":", maxsplit=1)[0].rstrip(". ").casefold()
    if not plain and not _DRIVE.match(segment):
        raise InvalidPath(f"No part of a path consists of dots: `{segment}`.")
    if _RESERVED.fullmatch(plain):
        raise InvalidPath(f"`{segment}` belongs to Git or GitHub; documents live elsewhere.")
    if _DRIVE.match(segment):
        raise InvalidPath(f"No part of a path begins with a drive letter or a colon: `{segment}`.")
    if len(segment.encode()) > MAX_SEGMENT_BYTES:
        raise InvalidPath(f"Each part of a path has at most {MAX_SEGMENT_BYTES} bytes in UTF-8.")
