"""The health check: every row of the cache proven against the master, and drift repaired.

The index is proven by git's own hashes: from its rows the tree of every directory is computed, up
to the root's, which the master names in one request. Only directories that differ are asked for.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from api.cache.changing import UNKNOWN
from api.cache.rows import Stored
from api.cache.snapshot import Snapshot
from api.cache.tables import HealthCheckRow
from api.documents import Collection, directories_above
from api.master.master import Head
from api.sync.content import steps
from api.sync.drift import Drift, judge_alone, nines
from api.sync.proof import trees_of
from api.sync.reconcile import Outcome, Progress, Reconciler
from api.sync.walk import Listed, listed, walk

_TRIES = 3  # to find cache and master at the same commit
_BODIES_AT_ONCE = 50


class CacheMoved(Exception):
    """The cache was being changed each time it was to be compared. Try again later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthReport:
    """What a check found.

    `bodies`: how many there were to hash. `directories`: how many documents each holds in the
    cache. `wrong_trees`: directories that were noted wrong, so that a change could be overlooked
    later. `seconds`: how long it took.
    """

    checked_at: datetime
    seconds: float
    commit: str
    requests: int
    documents: int
    bodies: int
    directories: Mapping[str, int]
    wrong_trees: int
    drift: Mapping[str, Drift] = field(default_factory=dict)
    repaired: int = 0

    @property
    def consistency(self) -> float:
        """The share of documents that had not drifted, 0 to 1."""
        wrong = min(len(self.drift), self.documents)
        return 1 - wrong / self.documents if self.documents else float(not self.drift)

    @property
    def nines(self) -> float:
        return nines(self.documents, len(self.drift))

    @property
    def kinds(self) -> Mapping[str, int]:
        """How many documents had drifted in which way."""
        return dict(Counter(str(kind) for kind in self.drift.values()))


@dataclass(slots=True)
class _Look:
    """What the cache holds at one commit, and what is wrong with rows whatever the master says.

    `cold`: documents without a body that an older parser read. `trees`: of the directories, as
    they are noted.
    """

    files: dict[str, Listed] = field(default_factory=dict)
    ages: dict[str, datetime] = field(default_factory=dict)
    drift: dict[str, Drift] = field(default_factory=dict)
    cold: list[Stored] = field(default_factory=list)
    bodies: int = 0
    twice: list[Listed] = field(default_factory=list)
    trees: Mapping[str, str] = field(default_factory=dict)
    others: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mend:
    """What would put the index right: `damaged` paths with what lies there at the master.

    `documents`: how many there are at the master.
    """

    documents: int
    wrong_trees: int
    damaged: Mapping[str, Listed | None]
    directories: Mapping[str, str | None]
    others: Mapping[str, bytes]


async def check_health(
    reconciler: Reconciler,
    *,
    repair: bool = True,
    progress: Progress = lambda done, total: None,
) -> HealthReport:
    """Prove the whole cache at the master's head, and repair from the master what has drifted.

    Only compares the two sides at one commit: a cache that is behind is brought along first.
    Raises MasterError or CacheUnavailable, or CacheMoved when new commits kept arriving.
    """
    start = time.perf_counter()
    with reconciler.master.github.metered() as meter:
        reason = "The cache and the master were never at the same commit."
        for _ in range(_TRIES):
            head = await reconciler.master.head()
            synced = await reconciler.run(head)
            if synced.outcome is Outcome.BUSY:
                reason = "Another sync is under way."
            if synced.outcome not in {Outcome.UNCHANGED, Outcome.APPLIED}:
                continue
            async with reconciler.cache.snapshot() as snapshot:
                if not snapshot.head or snapshot.head.commit != head.commit:
                    continue
                look = await _look(reconciler, snapshot, progress)
            await _reread(reconciler, look)
            mend = await _compare(reconciler, head, look)
            if repair and not await _repair(reconciler, head, look, mend):
                continue
            report = HealthReport(
                checked_at=datetime.now(UTC),
                seconds=time.perf_counter() - start,
                commit=head.commit,
                requests=meter.requests,
                documents=mend.documents,
                bodies=look.bodies,
                directories=dict(Counter(path.rpartition("/")[0] for path in look.files)),
                wrong_trees=mend.wrong_trees,
                drift=look.drift,
                repaired=len(look.drift) if repair else 0,
            )
            await reconciler.cache.log(_row(report))
            return report
    raise CacheMoved(f"{reason} Try again later.")


async def _look(reconciler: Reconciler, snapshot: Snapshot, progress: Progress) -> _Look:
    """Read every row, hash every body, and see whether each agrees with itself."""
    look = _Look(trees=await snapshot.directories(), others=await snapshot.others())
    totals = await snapshot.totals()
    for collection in Collection:
        async for page in snapshot.stored(collection):
            for start in range(0, len(page), _BODIES_AT_ONCE):
                rows = page[start : start + _BODIES_AT_ONCE]
                hot = [row.item.document.path for row in rows if row.item.hot]
                bodies = await snapshot.texts(collection, hot)
                for row in rows:
                    _take(look, reconciler, collection, row, bodies)
                progress(len(look.files), totals.documents)
                await asyncio.sleep(0)  # hashing is work, and others wait
    return look


def _take(
    look: _Look,
    reconciler: Reconciler,
    collection: Collection,
    row: Stored,
    bodies: Mapping[str, str],
) -> None:
    path = row.item.document.path
    markdown = bodies.get(path)
    look.bodies += markdown is not None
    if path in look.files:
        look.twice.append(listed(row))
    else:
        look.files[path] = listed(row)
    look.ages[path] = row.changed_at
    if reconciler.layout.collection_of(path) is not collection:
        look.drift[path] = Drift.EXTRA
    elif wrong := judge_alone(
        reconciler.content, reconciler.layout, row, markdown, reconciler.cache.parser
    ):
        look.drift.setdefault(path, wrong)
    elif markdown is None and row.parser < reconciler.cache.parser:
        look.cold.append(row)


async def _reread(reconciler: Reconciler, look: _Look) -> None:
    """See whether this parser reads the cold documents as an older one did."""
    rows = iter(look.cold)
    for step in steps(map(listed, look.cold)):
        read = await reconciler.content.summaries(step, reconciler.cached_bodies)
        for file, row in zip(step, rows, strict=False):
            if read[file.path].document != row.item.document:
                look.drift.setdefault(file.path, Drift.WRONG_METADATA)


async def _compare(reconciler: Reconciler, head: Head, look: _Look) -> _Mend:
    """Find where index and master differ. What is wrong with itself is looked up there as well."""
    # A second of work for 100,000 documents, during which others shall be answered.
    files = [*look.files.values(), *look.twice]
    trees = await asyncio.to_thread(trees_of, files, look.others)
    doubtful = directories_above(look.drift)
    known = {path: UNKNOWN if path in doubtful else tree for path, tree in trees.items()}
    walked = await walk(reconciler.master, head, reconciler.layout, known)
    proven = 0
    for path, file in look.files.items():
        directory = path.rpartition("/")[0]
        if directory not in walked.directories and directory in trees:
            proven += 1
        elif wrong := _wrong(file, walked.files.get(path)):
            # What is in the wrong place does not count as a document, whatever else it is.
            look.drift[path] = Drift.EXTRA if look.drift.get(path) is Drift.EXTRA else wrong
    look.drift |= dict.fromkeys(walked.files.keys() - look.files.keys(), Drift.MISSING)
    right = {path: tree for path, tree in trees.items() if path not in walked.directories}
    right |= {path: tree for path, tree in walked.directories.items() if tree is not None}
    amiss = {
        path: right.get(path)
        for path in look.trees.keys() | right.keys()
        if look.trees.get(path) != right.get(path)
    }
    noted_wrong = {path for path in amiss if look.trees.get(path) != UNKNOWN} | {
        path for path, others in walked.others.items() if look.others.get(path, b"") != others
    }
    return _Mend(
        documents=len(walked.files) + proven,
        wrong_trees=len(noted_wrong),
        damaged={path: walked.files.get(path) for path in look.drift}
        | {row.item.document.path: listed(row) for row in look.cold},
        directories=amiss | {path: right.get(path) for path in walked.others},
        others=walked.others,
    )


def _wrong(file: Listed, there: Listed | None) -> Drift | None:
    if there is None:
        return Drift.EXTRA
    if file.oid != there.oid:
        return Drift.WRONG_REVISION
    return Drift.WRONG_METADATA if file.mode != there.mode else None


async def _repair(reconciler: Reconciler, head: Head, look: _Look, mend: _Mend) -> bool:
    """Put right what is wrong. False if the cache has moved on meanwhile."""
    if not mend.damaged and not mend.directories:
        return True
    # A time that was damaged makes a body stay longer or shorter than it should, and no more.
    ages = {path: min(at, head.committed_at) for path, at in look.ages.items()}
    return await reconciler.repair(head, mend.damaged, mend.directories, mend.others, ages)


def _row(report: HealthReport) -> HealthCheckRow:
    return HealthCheckRow(
        checked_at=report.checked_at,
        seconds=report.seconds,
        commit=report.commit,
        requests=report.requests,
        documents=report.documents,
        bodies=report.bodies,
        wrong_trees=report.wrong_trees,
        drift=dict(report.kinds),
        drifted=len(report.drift),
        repaired=report.repaired,
        consistency=report.consistency,
    )
