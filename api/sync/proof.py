"""What tree each directory would have, if the index were true: a chain of hashes up to the root.

If the root's is the one that the master names, so is every path, mode and revision in the index.
Pure.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping

from api.master.trees import (
    TREE_MODE,
    TreeEntry,
    entry_of,
    parse_entries,
    tree_oid,
    write_entries,
)
from api.sync.walk import Listed

_DAMAGED = entry_of(b"damaged", 0, "0" * 40)


def trees_of(files: Iterable[Listed], others: Mapping[str, bytes]) -> dict[str, str]:
    """The tree of each directory, from its documents, what else it holds, and those below it.

    `others` has the directories that are known. One whose parent is not, hangs from nothing, and
    is not told of; nor is one with nothing in it, but for the root: git has no empty directories.
    """
    documents: dict[str, bytearray] = defaultdict(bytearray)
    for file in files:
        documents[file.path.rpartition("/")[0]] += entry_in_tree(file.path, file.mode, file.oid)
    return trees_above(documents, others, {})


def trees_above(
    documents: Mapping[str, bytes | bytearray], others: Mapping[str, bytes], same: Mapping[str, str]
) -> dict[str, str]:
    """As `trees_of`. `documents`: the entries of each directory, but for those whose tree is
    known to be the `same` as before.
    """
    known: set[str] = set()
    for directory in sorted(others):  # those above come before those below
        if not directory or directory.rpartition("/")[0] in known:
            known.add(directory)
    trees: dict[str, str] = {}
    below: dict[str, list[TreeEntry]] = defaultdict(list)
    for directory in sorted(known, key=lambda path: (-path.count("/"), path == "")):
        tree = same.get(directory)
        if tree is None:
            listed = [*_read(documents.get(directory, b"")), *_read(others[directory])]
            within = listed + below[directory]
            if not within and directory:
                continue
            tree = tree_oid(within)
        trees[directory] = tree
        if directory:
            above, _, name = directory.rpartition("/")
            below[above].append(_entry(name.encode(), TREE_MODE, tree))
    return trees


def entry_in_tree(path: str, mode: int, oid: str) -> bytes:
    """A document's entry in its directory, as git writes it."""
    return write_entries([_entry(path.rpartition("/")[2].encode(), mode, oid)])


def _entry(name: bytes, mode: int, oid: str) -> TreeEntry:
    """An entry; of a row that is damaged, one that will not give the right tree."""
    is_sound = re.fullmatch("[0-9a-f]{40}", oid) and mode >= 0
    return entry_of(name, mode, oid) if is_sound else _DAMAGED


def _read(entries: bytes | bytearray) -> list[TreeEntry]:
    """What was written there; if it is damaged, what will not give the right tree."""
    try:
        return parse_entries(bytes(entries))
    except ValueError:
        return [_DAMAGED]
