"""Git trees as GitHub lists them, and the hash that proves a listing complete. Pure."""

import hashlib
from base64 import b64decode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from api.documents import Json

EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
REGULAR = 0o100644
REGULAR_MODES = frozenset({REGULAR, 0o100755, 0o100664})
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
    content = write_entries(entries)
    header = b"tree %d\0" % len(content)
    return hashlib.sha1(header + content, usedforsecurity=False).hexdigest()


def write_entries(entries: Iterable[TreeEntry]) -> bytes:
    """Entries in the form and order of a tree object."""
    ordered = sorted(entries, key=lambda e: e.raw_name + b"/" if e.is_directory else e.raw_name)
    return b"".join(b"%o %s\0%s" % (e.mode, e.raw_name, bytes.fromhex(e.oid)) for e in ordered)


def parse_entries(content: bytes) -> list[TreeEntry]:
    """What `write_entries` wrote; sizes are not in it. Raises ValueError for anything else."""
    entries, at = [], 0
    while at < len(content):
        space = content.index(b" ", at)
        end = content.index(b"\0", space)
        oid = content[end + 1 : end + 21]
        if len(oid) != 20:
            raise ValueError("a tree entry ends in the oid")
        entries.append(entry_of(content[space + 1 : end], int(content[at:space], 8), oid.hex()))
        at = end + 21
    return entries


def entry_of(raw_name: bytes, mode: int, oid: str, size: int = 0) -> TreeEntry:
    try:
        name = raw_name.decode()
    except UnicodeDecodeError:
        name = None
    return TreeEntry(raw_name, name, mode, oid, size)


def read_entries(entries: Sequence[Json]) -> list[TreeEntry]:
    """Entries from GitHub's JSON. Raises KeyError or TypeError where it is not of that form."""
    return [_read_entry(entry) for entry in entries if isinstance(entry, dict)]


def _read_entry(entry: dict[str, Json]) -> TreeEntry:
    mode, size = entry["mode"], entry.get("size", 0)
    if not isinstance(mode, int) or not isinstance(size, int):
        raise TypeError("a tree entry's mode and size are integers")
    return entry_of(b64decode(str(entry["nameRaw"])), mode, str(entry["oid"]), size)
