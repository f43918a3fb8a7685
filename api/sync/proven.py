"""How far the cache's index is the master's, as far as this process has proven it.

PostgreSQL gives a directory a new stamp whenever somebody touches its rows. They are judged once
for each stamp: a row must say what was written into it. From the rows the trees are computed, up to
the root's, as the health check does. So whether the index is that of a commit is known by the
root's tree, without reading a row, for as long as nobody touches one.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import TypeAlias, TypeVar
from uuid import UUID

from cachetools import LRUCache

from api.cache.changing import UNKNOWN
from api.cache.database import CacheUnavailable
from api.cache.rows import Entry
from api.cache.snapshot import CacheMoved, Snapshot, Touches, Untouched, touches_now
from api.documents import Collection, directories_above
from api.master.master import Head
from api.sync.proof import entry_in_tree, trees_above
from api.sync.reconcile import Reconciler
from api.sync.walk import Listed, walk

log = logging.getLogger(__name__)

_COMMITS = 16  # of which it is remembered how the index differs from them
_TRIES = 5  # at an answer, while others write
_PATIENCE = 2  # time-outs: one may be that of a busy event loop

T = TypeVar("T")
Start: TypeAlias = Callable[[Coroutine[object, object, None]], asyncio.Task[None]]


@dataclass(frozen=True, slots=True)
class Difference:
    """A path where the index is not as the master. `file`: what the master has there, if anything.

    `collections`: those whose lists would be wrong.
    """

    file: Listed | None
    collections: AbstractSet[Collection]


@dataclass(frozen=True, slots=True)
class Proof:
    """How the index differs from the commit with this tree. It is true of what `index` answers."""

    tree: str
    index: Untouched
    differences: Mapping[str, Difference]

    def within(self, collections: AbstractSet[Collection]) -> dict[str, Listed | None]:
        """The paths where lists of these collections would be wrong, and what is there instead."""
        return {
            path: difference.file
            for path, difference in self.differences.items()
            if difference.collections & collections
        }


@dataclass(frozen=True, slots=True)
class _Rows:
    """What rows were found to say. `filled`: the directories that have any.

    `entries`: those that git's trees would have for them. `amiss`: by directory, the paths of rows
    that do not agree with themselves, and where they were.
    """

    filled: set[str] = field(default_factory=set)
    entries: dict[str, bytearray] = field(default_factory=lambda: defaultdict(bytearray))
    amiss: dict[str, dict[str, set[Collection]]] = field(default_factory=lambda: defaultdict(dict))


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    """The index as of `touches`. `trees`: of the directories, as they follow from the rows."""

    touches: Touches | None = None
    stamps: Mapping[str, UUID] = field(default_factory=dict)
    filled: AbstractSet[str] = frozenset()
    amiss: Mapping[str, Mapping[str, AbstractSet[Collection]]] = field(default_factory=dict)
    others: Mapping[str, bytes] = field(default_factory=dict)
    trees: Mapping[str, str] = field(default_factory=dict)

    @property
    def stray(self) -> AbstractSet[str]:
        """The directories of rows that the trees do not lead to."""
        return self.filled - self.trees.keys()

    @property
    def known(self) -> Mapping[str, str]:
        """The trees, but for those with rows that are amiss in or below them."""
        doubtful = self.amiss.keys() | {path for paths in self.amiss.values() for path in paths}
        doubtful = doubtful | directories_above(doubtful)
        return {path: UNKNOWN if path in doubtful else tree for path, tree in self.trees.items()}


class ProvenIndex:
    """Once for a process. `start` runs what shall go on when the reader who wanted it has gone."""

    def __init__(self, reconciler: Reconciler, start: Start) -> None:
        self._master = reconciler.master
        self._cache = reconciler.cache
        self._layout = reconciler.layout
        self._start = start
        self._reading: asyncio.Task[None] | None = None
        self._is_asking = False
        self._answers = 0  # that those who wait have seen PostgreSQL give
        self._turn = asyncio.Lock()
        self._state = _State()
        self._proofs: LRUCache[str, Proof] = LRUCache(_COMMITS)

    def knows(self, head: Head) -> bool:
        """Whether this head was asked about lately."""
        return head.tree in self._proofs

    async def ask(
        self,
        head: Head,
        collections: AbstractSet[Collection],
        question: Callable[[Untouched, Mapping[str, Listed | None]], Awaitable[T]],
    ) -> tuple[T, Mapping[str, Listed | None]] | None:
        """What the index answers, and where it is wrong at this head, with what the master has.

        Lists are without what is there. None where the cache is of no use, or is being changed all
        the time. Raises MasterError and CacheUnavailable.
        """
        for _ in range(_TRIES):
            proof = self._proofs.get(head.tree)
            try:
                proof = proof or await self.prove(head)
                if proof is None:
                    break
                wrong = proof.within(collections)
                return await question(proof.index.without(wrong), wrong), wrong
            except CacheMoved:
                if proof and self._proofs.get(head.tree) is proof:
                    del self._proofs[head.tree]
        return None

    async def prove(self, head: Head) -> Proof | None:
        """Read what was touched, whoever else is waiting for that, and compare it with this head.

        Asks the master for directories that differ. None where the cache is of no use. Raises
        MasterError and CacheUnavailable, and CacheMoved if it was touched meanwhile.
        """
        # A reader's question, which PostgreSQL answers in time or is known by all to be silent.
        if await touches_now(self._cache.database, self._cache.origin) is None:
            return None
        await self._catch_up()
        if head.tree not in self._proofs:
            async with self._turn:  # whoever comes next finds what the first has found
                if head.tree not in self._proofs:
                    return await self._compare(head)
        return self._proofs[head.tree]

    async def _catch_up(self) -> None:
        """Wait until what was touched is read, for as long as PostgreSQL goes on answering."""
        if self._reading is None or self._reading.done():
            self._reading = self._start(self._read())
        silence = 0
        while silence < _PATIENCE and not self._reading.done():
            answers = self._answers
            await asyncio.wait({self._reading}, timeout=self._cache.database.read_timeout)
            silence = silence + 1 if answers == self._answers and self._is_asking else 0
        if not self._reading.done():
            raise CacheUnavailable("PostgreSQL is slow.")

    async def _read(self) -> None:
        """Read what was touched since the last time. If that fails, all is as it was."""
        self._is_asking = True
        try:
            async with self._cache.snapshot() as snapshot:
                state, entries, same = await self._found(snapshot)
        except CacheUnavailable as error:
            log.info("what was touched in the cache could not be read: %s", error)
            return
        self._is_asking = False
        # A second of work for 100,000 documents, during which others shall be answered.
        trees = await asyncio.to_thread(trees_above, entries, state.others, same)
        state = replace(state, trees=trees)
        if state.touches != self._state.touches:
            self._proofs.clear()
        self._state = state
        if state.touches and "" in trees and not state.amiss and not state.stray:
            self._prove(state.touches, trees[""], {})

    async def _found(
        self, snapshot: Snapshot
    ) -> tuple[_State, Mapping[str, bytearray], Mapping[str, str]]:
        """The state but for its trees, with the entries for these, and the trees that stay."""
        touches = await snapshot.touches(self._cache.origin) if snapshot.head else None
        if touches is None:
            return _State(), {}, {}
        before = self._state
        is_new = before.touches is None or before.touches.tables != touches.tables
        if is_new:
            before = _State()
        stamps, others = await snapshot.stamps(), await snapshot.others()
        doubted = _changed(before.stamps, stamps)
        rows = await self._rows(snapshot, None if is_new else doubted)
        moved = doubted | _changed(before.others, others)
        moved |= directories_above(moved)
        amiss = {p: paths for p, paths in before.amiss.items() if p not in doubted} | rows.amiss
        await _add(snapshot, rows.entries, (before.filled & moved) - doubted, amiss)
        state = _State(
            touches=touches,
            stamps=stamps,
            filled=(before.filled - doubted) | rows.filled,
            amiss=amiss,
            others=others,
        )
        same = {path: tree for path, tree in before.trees.items() if path not in moved}
        return state, rows.entries, same

    async def _rows(self, snapshot: Snapshot, directories: AbstractSet[str] | None) -> _Rows:
        """Judge the rows of these directories, or all."""
        rows = _Rows()
        if directories is not None and not directories:
            return rows
        for collection in Collection:
            async for page in snapshot.entries(collection, directories):
                self._answers += 1
                for entry in page:
                    rows.filled.add(entry.directory)
                    if self._is_sound(entry, collection):
                        rows.entries[entry.directory] += entry_in_tree(
                            entry.path, entry.mode, entry.revision
                        )
                    else:
                        places = rows.amiss[entry.directory].setdefault(entry.path, set())
                        places.add(collection)
                await asyncio.sleep(0)  # judging is work, and others wait
        return rows

    def _is_sound(self, entry: Entry, collection: Collection) -> bool:
        """Whether a row agrees with itself, is in its place, and would be read so today.

        Not by today's parser is what an older one read of a body that is gone, until the health
        check reads it again: all levels answer with that.
        """
        return (
            entry.is_sealed
            and entry.path.rpartition("/")[0] == entry.directory
            and self._layout.collection_of(entry.path) is collection
            and not (entry.has_body and entry.parser < self._cache.parser)
        )

    async def _compare(self, head: Head) -> Proof | None:
        """Look up at the master what differs from the trees that were computed."""
        state = self._state
        if state.touches is None:
            return None
        walked = await walk(self._master, head, self._layout, state.known)
        places = walked.directories.keys() | state.stray | state.amiss.keys()
        async with self._cache.snapshot(hurried=True) as snapshot:
            if await snapshot.touches(self._cache.origin) != state.touches:
                raise CacheMoved
            rows = await snapshot.files(places)
        amiss: dict[str, set[Collection]] = defaultdict(set)
        for paths in state.amiss.values():
            for path, collections in paths.items():
                amiss[path] |= collections
        differences = {}
        for path in rows.keys() | walked.files.keys() | amiss.keys():
            file = walked.files.get(path)
            if path in amiss or file is None or rows.get(path) != (file.oid, file.mode):
                ours = self._layout.collection_of(path)
                differences[path] = Difference(file, amiss[path] | ({ours} if ours else set()))
        return self._prove(state.touches, head.tree, differences)

    def _prove(self, touches: Touches, tree: str, differences: Mapping[str, Difference]) -> Proof:
        index = Untouched(self._cache.database, self._cache.origin, touches)
        self._proofs[tree] = proof = Proof(tree, index, differences)
        return proof


async def _add(
    snapshot: Snapshot,
    entries: dict[str, bytearray],
    directories: AbstractSet[str],
    amiss: Mapping[str, Mapping[str, object]],
) -> None:
    """Add the entries of directories that were judged before, and whose tree is another now."""
    if not directories:
        return
    for path, (oid, mode) in (await snapshot.files(directories)).items():
        directory = path.rpartition("/")[0]
        if path not in amiss.get(directory, {}):
            entries[directory] += entry_in_tree(path, mode, oid)


def _changed(before: Mapping[str, object], after: Mapping[str, object]) -> set[str]:
    return {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
