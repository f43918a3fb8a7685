"""Walking the master's trees: what lies where, skipping every directory that did not change."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from api.cache.rows import Stored
from api.documents import Layout, path_in
from api.master.master import Head, Master
from api.master.trees import REGULAR, TreeEntry, write_entries

_MAX_PATH = 1_024  # bytes; a longer one does not fit into an index of PostgreSQL


@dataclass(frozen=True, slots=True)
class Listed:
    """A document that the master names: the blob at a path, its size in bytes, and its mode."""

    path: str
    oid: str
    size: int
    mode: int = REGULAR


def listed(row: Stored) -> Listed:
    """A document as the index names it."""
    document = row.item.document
    return Listed(document.path, document.revision, document.bytes, row.mode)


@dataclass(slots=True)
class Walked:
    """What a walk found. Directories that were skipped as unchanged are in none of these.

    `directories`: the tree oid of each visited directory, None for those that are gone.
    `files`: the documents that lie directly in visited directories. `others`: what else does, but
    for directories that may hold documents, as git writes it in a tree.
    """

    directories: dict[str, str | None] = field(default_factory=dict)
    files: dict[str, Listed] = field(default_factory=dict)
    others: dict[str, bytes] = field(default_factory=dict)


async def walk(master: Master, head: Head, layout: Layout, known: Mapping[str, str]) -> Walked:
    """Visit the directories of `layout` whose tree is not the one in `known`, level by level.

    Costs a request for each level that changed (and each 100 directories in it).
    Symbolic links, submodules, names that are not UTF-8 and paths of more than 1,024 bytes are no
    documents and passed over.
    """
    walked = Walked()
    present: set[str] = set()
    level = {"": head.tree} if known.get("") != head.tree else {}
    while level:
        walked.directories |= level
        listings = await master.trees(level.values())
        below: dict[str, str] = {}
        for directory, tree in level.items():
            others: list[TreeEntry] = []
            for entry in listings[tree]:
                path = _path_of(directory, entry)
                if path and entry.is_directory and _may_hold_documents(path, layout):
                    present.add(path)
                    if known.get(path) != entry.oid:
                        below[path] = entry.oid
                elif path and entry.is_file and layout.collection_of(path):
                    walked.files[path] = Listed(path, entry.oid, entry.size, entry.mode)
                else:
                    others.append(entry)
            walked.others[directory] = write_entries(others)
        level = below
    for path in _gone(known, walked.directories, present):
        walked.directories[path] = None
    return walked


def _path_of(directory: str, entry: TreeEntry) -> str | None:
    """Where an entry lies, or None if that has no path in our answers."""
    if entry.name is None:
        return None
    path = path_in(directory, entry.name)
    return path if len(path.encode()) <= _MAX_PATH else None


def _may_hold_documents(directory: str, layout: Layout) -> bool:
    """Whether a directory lies within one of the roots, or on the way to one."""
    return any(
        not root or f"{directory}/".startswith(f"{root}/") or f"{root}/".startswith(f"{directory}/")
        for root in layout.roots
    )


def _gone(
    known: Mapping[str, str], visited: Mapping[str, str | None], present: set[str]
) -> list[str]:
    """Known directories that a visited parent no longer lists, and all below them."""
    gone: set[str] = set()
    for path in sorted(known):  # parents come before what is below them
        parent = path.rpartition("/")[0]
        if path and (parent in gone or (parent in visited and path not in present)):
            gone.add(path)
    return sorted(gone)
