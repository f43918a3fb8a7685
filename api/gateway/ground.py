"""The ground that a commit is planned on: a head, and what lies at some paths there."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from api.cache.changing import UNKNOWN
from api.cache.database import CacheUnavailable
from api.cache.rows import WITH_BODIES
from api.documents import blob_oid
from api.documents.listing import Indexed
from api.gateway.gateway import Gateway
from api.gateway.planning import MAX_REQUEST_BYTES, File, Lacking, Names
from api.master.errors import HeadMoved
from api.master.fetching import Wanted
from api.master.master import Head
from api.master.trees import TREE_MODE, TreeEntry, entry_of, parse_entries, tree_oid

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Ground:
    """What is known of one commit. `read`: the head itself if it was just read at the master.

    Without it the ground is the cache's, which may be behind, and which only a commit that lands
    on it proves.
    """

    head: str
    read: Head | None = None
    files: dict[str, File | None] = field(default_factory=dict)
    names: dict[str, Names] = field(default_factory=dict)


async def cached_ground(
    gateway: Gateway, paths: Iterable[str], contents: Iterable[str]
) -> Ground | None:
    """What the cache knows; None if it has nothing, or knows itself that it is behind."""
    try:
        async with gateway.cache.snapshot() as snapshot:
            head, found = snapshot.head, {}
            if head is None or gateway.is_outdated(head):
                return None
            wanted = set(paths)
            if wanted:
                found = await snapshot.documents(wanted, WITH_BODIES)
    except CacheUnavailable:
        return None
    ground = Ground(head.commit, files={path: _of_row(found.get(path)) for path in wanted})
    await learn(gateway, ground, Lacking(contents=contents))
    return ground


async def master_ground(gateway: Gateway, paths: Iterable[str], contents: Iterable[str]) -> Ground:
    """What the master has now, in one request as a rule. Raises MasterError."""
    contents = frozenset(contents)
    head, entries = await gateway.master.head_with(paths, contents=contents)
    ground = Ground(head.commit, head, {p: _of_entry(entry) for p, entry in entries.items()})
    await learn(gateway, ground, Lacking(contents=contents))
    return ground


async def learn(gateway: Gateway, ground: Ground, lacking: Lacking) -> None:
    """Get to know more of the same commit.

    Raises MasterError, and HeadMoved when the cache does not know that commit any more.
    """
    if lacking.paths and ground.read:
        for path in lacking.paths:
            ground.files[path] = _of_entry(await gateway.master.entry_at(ground.read.tree, path))
    elif lacking.paths:
        more = await cached_ground(gateway, lacking.paths, ())
        if more is None or more.head != ground.head:
            raise HeadMoved("The cache moved on before the commit.")
        ground.files |= more.files
    if unlisted := lacking.directories - ground.names.keys():
        ground.names |= await _names_in(gateway, ground, unlisted)
    missing = {
        path: file
        for path in lacking.contents
        if (file := ground.files.get(path))
        and file.is_document
        and file.content is None
        and file.size <= MAX_REQUEST_BYTES  # a larger one is refused by its size alone
    }
    blobs = await gateway.master.blobs(Wanted(f.revision, f.size) for f in missing.values())
    for path, file in missing.items():
        ground.files[path] = replace(file, content=blobs[file.revision])


async def _names_in(
    gateway: Gateway, ground: Ground, directories: frozenset[str]
) -> dict[str, Names]:
    """What lies in directories: as the cache says, if it is at that commit, else the master.

    Those above them are among them, or known already. Raises as `learn`.
    """
    if (known := await _cached_names_in(gateway, ground, directories)) is not None:
        return known
    if ground.read is None:
        raise HeadMoved("The cache moved on before the commit.")
    all_the_way = directories | ground.names.keys()
    listings = await gateway.master.listings_at(ground.read.tree, all_the_way)
    return {directory: Names(_names_of(listings.get(directory, ()))) for directory in directories}


async def _cached_names_in(
    gateway: Gateway, ground: Ground, directories: frozenset[str]
) -> dict[str, Names] | None:
    """None where the cache is at another commit, or is damaged: all has to hash to the trees."""
    try:
        async with gateway.cache.snapshot() as snapshot:
            if snapshot.head is None or snapshot.head.commit != ground.head:
                return None
            listed = await snapshot.known_directories(directories)
            documents = await snapshot.files_in(directories)
            below = await snapshot.directories(directories)
            # What became of these was never told: they may be gone.
            unknown = {path for path, tree in below.items() if tree == UNKNOWN}
            there = await snapshot.are_filled(unknown)
            there |= {
                p
                for p, (_, others) in (await snapshot.known_directories(unknown)).items()
                if others
            }
        entries = {d: parse_entries(listed[d][1]) if d in listed else [] for d in directories}
        for path, revision, mode in documents:
            directory, _, name = path.rpartition("/")
            entries[directory].append(entry_of(name.encode(), mode, revision))
        for path, tree in below.items():
            directory, _, name = path.rpartition("/")
            if path not in unknown - there:
                entries[directory].append(entry_of(name.encode(), TREE_MODE, tree))
        doubtful = {path.rpartition("/")[0] for path in unknown}
        for directory, (tree, _) in listed.items():
            if tree != UNKNOWN and directory not in doubtful:
                _check_tree(directory, entries[directory], tree)
    except CacheUnavailable:
        return None
    except (ValueError, KeyError) as error:
        log.warning("what the cache has of directories is damaged: %r", error)
        return None
    return {directory: Names(_names_of(found)) for directory, found in entries.items()}


def _check_tree(directory: str, entries: Iterable[TreeEntry], tree: str) -> None:
    if (found := tree_oid(entries)) != tree:
        raise ValueError(f"{directory!r} has the tree {tree}, and its rows make {found}")


def _names_of(entries: Iterable[TreeEntry]) -> list[str]:
    return [
        f"{entry.name}/" if entry.is_directory else entry.name
        for entry in entries
        if entry.name is not None
    ]


def _of_row(row: Indexed | None) -> File | None:
    if row is None:
        return None
    document = row.document
    content = row.markdown.encode() if row.markdown is not None else None
    if content is not None and blob_oid(content) != document.revision:
        content = None  # damaged: what is built on it would carry the damage to the master
    return File(document.revision, document.bytes, content)


def _of_entry(entry: TreeEntry | None) -> File | None:
    return File(entry.oid, entry.size, is_document=entry.is_file) if entry else None
