"""The health check: every row of the cache proven against the master, and drift repaired."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from api.cache.cache import Snapshot
from api.cache.tables import HealthCheckRow
from api.documents import Collection
from api.sync.drift import Drift, judge
from api.sync.reconcile import Outcome, Progress, Reconciler
from api.sync.walk import Listed, walk

_TRIES = 3  # to find cache and master at the same commit


class CacheMoved(Exception):
    """The cache moved on each time it was to be compared. Try again when fewer writes come in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthReport:
    """`consistency` is the share of documents that had not drifted, 0 to 1."""

    checked_at: datetime
    commit: str
    documents: int
    drift: Mapping[str, Drift] = field(default_factory=dict)
    repaired: int = 0

    @property
    def consistency(self) -> float:
        wrong = min(len(self.drift), self.documents)
        return 1 - wrong / self.documents if self.documents else 1.0


async def check_health(
    reconciler: Reconciler, progress: Progress = lambda done, total: None
) -> HealthReport:
    """Prove the whole cache at the master's head, and repair from the master what has drifted.

    Only compares the two sides at one commit. Raises MasterError or CacheUnavailable, or CacheMoved
    when new commits kept arriving.
    """
    for _ in range(_TRIES):
        head = await reconciler.master.head()
        synced = await reconciler.run(head)
        if synced.outcome not in {Outcome.UNCHANGED, Outcome.APPLIED}:
            continue
        walked = await walk(reconciler.master, head, reconciler.layout, {})
        async with reconciler.cache.snapshot() as snapshot:
            if not snapshot.head or snapshot.head.commit != head.commit:
                continue
            drift = await find_drift(reconciler, snapshot, walked.files, progress)
            directories = await snapshot.directories()
        damaged = {path: walked.files.get(path) for path in drift}
        trees = dict.fromkeys(directories) | walked.directories
        is_right = not drift and trees == directories
        if not is_right and not await reconciler.repair(head, damaged, trees):
            continue
        report = HealthReport(
            checked_at=datetime.now(UTC),
            commit=head.commit,
            documents=len(walked.files),
            drift=drift,
            repaired=len(drift),
        )
        await reconciler.cache.log(_row(report))
        return report
    raise CacheMoved("The cache and the master were never at the same commit. Try again later.")


async def find_drift(
    reconciler: Reconciler,
    snapshot: Snapshot,
    files: Mapping[str, Listed],
    progress: Progress = lambda done, total: None,
) -> dict[str, Drift]:
    """Compare every row with the documents that the master names at the snapshot's commit."""
    drift: dict[str, Drift] = {}
    seen: set[str] = set()
    for collection in Collection:
        async for item in snapshot.scan(collection):
            path = item.document.path
            seen.add(path)
            if wrong := judge(reconciler.content, reconciler.layout, item, files.get(path)):
                drift[path] = wrong
            progress(len(seen), len(files))
    return drift | dict.fromkeys(files.keys() - seen, Drift.MISSING)


def _row(report: HealthReport) -> HealthCheckRow:
    return HealthCheckRow(
        checked_at=report.checked_at,
        commit=report.commit,
        documents=report.documents,
        drifted=len(report.drift),
        repaired=report.repaired,
        consistency=report.consistency,
    )
