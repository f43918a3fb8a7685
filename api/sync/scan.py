"""What secrets the master's documents hold. Nothing is written, and PostgreSQL is not asked."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from api.documents.secrets import find_secrets
from api.sync.content import steps
from api.sync.reconcile import Reconciler
from api.sync.walk import walk


@dataclass(frozen=True, slots=True)
class Leak:
    """A secret by its place in a document. The value is told nowhere."""

    path: str
    line: int
    kind: str


@dataclass(frozen=True, slots=True)
class ScanReport:
    """`unread`: the paths of documents that cannot be read, and were not looked through."""

    commit: str
    documents: int
    found: Sequence[Leak]
    unread: Sequence[str]


async def scan(
    reconciler: Reconciler, progress: Callable[[int, int], None] = lambda done, total: None
) -> ScanReport:
    """Look through every document as of the head. Raises MasterError."""
    master, content = reconciler.master, reconciler.content
    head = await master.head()
    files = (await walk(master, head, reconciler.layout, {})).files
    found: list[Leak] = []
    unread: list[str] = []
    done = 0
    for step in steps(files[path] for path in sorted(files)):
        read = await content.read(step)
        for path in sorted(read):
            text = read[path].markdown
            if text is None:
                unread.append(path)
            else:
                found += [Leak(path, one.line, one.kind) for one in find_secrets(text)]
        done += len(step)
        progress(done, len(files))
    return ScanReport(head.commit, len(files), found, unread)
