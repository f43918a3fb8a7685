"""Git trees as GitHub lists them, and the hash that proves a listing complete. Pure."""

import hashlib
from base64 import b64decode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from api.documents import Json

EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
REGULAR_MODES = frozenset({0o100644, 0o100755, 0o100664})
TREE_MODE = 0o40000


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """One name in a directory.

    `name` is None where the bytes are not UTF-8: such a file can have no path in our answers.
    `size` is the blob's length in bytes, 0 for directories.
    """

    raw_name: bytes
    name: str | None
    mode: int
    oid: str
    size: int

    @property
    def is_directory(self) -> bool:
        return self.mode == TREE_MODE

    @property
    def is_file(self) -> bool:
        """A regular file: neither a directory, a symbolic link nor a submodule."""
        return self.mode in REGULAR_MODES


def tree_oid(entries: Iterable[TreeEntry]) -> str:
    """The oid of the tree object that holds exactly these entries."""
    ordered = sorted(entries, key=lambda e: e.raw_name + b"/" if e.is_directory else e.raw_name)
    content = b"".join(b"%o %s\0%s" % (e.mode, e.raw_name, bytes.fromhex(e.oid)) for e in ordered)
    header = b"tree %d\0" % len(content)
    return hashlib.sha1(header + content, usedforsecurity=False).hexdigest()


def read_entries(entries: Sequence[Json]) -> list[TreeEntry]:
    """Entries from GitHub's JSON. Raises KeyError or TypeError where it is not of that form."""
    return [_read_entry(entry) for entry in entries if isinstance(entry, dict)]


def _read_entry(entry: dict[str, Json]) -> TreeEntry:
    raw_name = b64decode(str(entry["nameRaw"]))
    try:
        name = raw_name.decode()
    except UnicodeDecodeError:
        name = None
    mode, size = entry["mode"], entry.get("size", 0)
    if not isinstance(mode, int) or not isinstance(size, int):
        raise TypeError("a tree entry's mode and size are integers")
    return TreeEntry(raw_name, name, mode, str(entry["oid"]), size)
