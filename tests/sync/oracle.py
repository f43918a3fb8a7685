"""What is true, according to git alone; and another writer who can do all that git can."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from api.cache.cache import Cache
from api.cache.snapshot import Snapshot
from api.documents import Collection, Layout, Unreadable, parse
from api.documents.listing import Indexed, unreadable
from api.sync.proof import trees_of
from api.sync.walk import Listed
from tests.clone import git

REGULAR, EXECUTABLE, SYMLINK, SUBMODULE = "100644", "100755", "120000", "160000"


@dataclass(frozen=True)
class Entry:
    """A line of `git ls-tree`."""

    mode: str
    kind: str
    oid: str
    size: int
    path: bytes


def ls_tree(repository: Path, commit: str, *options: str) -> list[Entry]:
    entries = []
    for line in git(repository, "ls-tree", "-r", "-l", "-z", *options, commit).split(b"\0"):
        if line:
            facts, path = line.split(b"\t", 1)
            mode, kind, oid, size = facts.decode().split()
            entries.append(Entry(mode, kind, oid, 0 if size == "-" else int(size), path))
    return entries


def show(repository: Path, oids: Iterable[str]) -> dict[str, bytes]:
    """The contents of blobs."""
    wanted = list(dict.fromkeys(oids))
    output = git(repository, "cat-file", "--batch", stdin="\n".join(wanted).encode())
    found, at = {}, 0
    for oid in wanted:
        end = output.index(b"\n", at)
        size = int(output[at:end].split()[2])
        found[oid] = output[end + 1 : end + 1 + size]
        at = end + size + 2
    return found


def head_of(repository: Path) -> str:
    return git(repository, "rev-parse", "main").decode().strip()


def documents_at(
    repository: Path, commit: str, layout: Layout, *, max_bytes: int = 2_000_000
) -> dict[str, Indexed]:
    """Every document with its text, as the cache should hold it while it is hot."""
    files: dict[str, tuple[Entry, Collection]] = {}
    for entry in ls_tree(repository, commit):
        if not _is_utf8(entry.path):
            continue
        path = entry.path.decode()
        collection = layout.collection_of(path)
        if collection and entry.mode in {REGULAR, EXECUTABLE}:
            files[path] = entry, collection
    contents = show(repository, [entry.oid for entry, _ in files.values()])
    return {
        path: _document(collection, path, entry, contents[entry.oid], max_bytes)
        for path, (entry, collection) in files.items()
    }


def _document(
    collection: Collection, path: str, entry: Entry, content: bytes, max_bytes: int
) -> Indexed:
    document = parse(collection, path, content, revision=entry.oid, max_bytes=max_bytes)
    if isinstance(document, Unreadable):
        return unreadable(collection, document)
    return Indexed(collection=collection, document=document, hot=True, markdown=content.decode())


def _is_utf8(name: bytes) -> bool:
    return b"\xef\xbf\xbd" not in name.decode(errors="replace").encode()


def directories_at(repository: Path, commit: str, layout: Layout) -> dict[str, str]:
    """The tree of every directory in which, or below which, documents may lie."""
    trees = {"": git(repository, "rev-parse", f"{commit}^{{tree}}").decode().strip()}
    for entry in ls_tree(repository, commit, "-d"):
        if entry.kind == "tree" and _is_utf8(entry.path):
            trees[entry.path.decode()] = entry.oid
    return {
        path: oid
        for path, oid in trees.items()
        if any(
            not path
            or not root
            or f"{path}/".startswith(f"{root}/")
            or f"{root}/".startswith(f"{path}/")
            for root in layout.roots
        )
    }


async def assert_equals_master(
    cache: Cache,
    repository: Path,
    layout: Layout,
    *,
    commit: str | None = None,
    max_bytes: int = 2_000_000,
) -> None:
    """The cache is at the commit, byte for byte: every row, every body, every directory."""
    commit = commit or head_of(repository)
    rows = await rows_of(cache)
    expected = documents_at(repository, commit, layout, max_bytes=max_bytes)
    reasons = {path: item.unreadable is not None for path, item in expected.items()}
    assert {path: item.unreadable is not None for path, item in rows.items()} == reasons
    for path, item in expected.items():  # one by one: a difference should be readable
        assert replace(rows[path], unreadable=item.unreadable) == item
    async with cache.snapshot() as snapshot:
        assert snapshot.head is not None
        assert snapshot.head.commit == commit
        trees = directories_at(repository, commit, layout)
        assert await snapshot.directories() == trees
        assert await trees_by_index(snapshot) == trees


async def trees_by_index(snapshot: Snapshot) -> dict[str, str]:
    """The tree of every directory, as it follows from nothing but the rows of the cache."""
    files = [Listed(path, oid, 0, mode) for path, (oid, mode) in (await snapshot.files()).items()]
    return trees_of(files, await snapshot.others())


async def rows_of(cache: Cache) -> dict[str, Indexed]:
    """Every row by path. A path in two tables is an error."""
    rows: dict[str, Indexed] = {}
    async with cache.snapshot() as snapshot:
        for collection in Collection:
            async for item in snapshot.scan(collection):
                assert item.document.path not in rows
                rows[item.document.path] = item
    return rows


def commit(
    repository: Path,
    files: Mapping[str | bytes, bytes | tuple[str, bytes] | None],
    *,
    parent: str | None = "main",
    at: int | None = None,
) -> str:
    """Commit to the branch of a bare repository, whatever the names and modes; None removes.

    `parent` None starts a history of its own. `at`: seconds since 1970, else now. Returns the oid.
    Upon "main" it fails, and changes nothing, when somebody else was faster.
    """
    when = f"{at} +0000" if at is not None else "now"
    stream = b"commit refs/heads/main\ncommitter Other <other@example.org> %b\n" % when.encode()
    stream += b"data 6\nCommit\n"
    if parent:
        oid = git(repository, "rev-parse", parent).decode().strip()
        stream += b"from %b\n" % oid.encode()
    for name, content in files.items():
        path = _quoted(name.encode() if isinstance(name, str) else name)
        if content is None:
            stream += b"D %b\n" % path
            continue
        mode, data = content if isinstance(content, tuple) else (REGULAR, content)
        if mode == SUBMODULE:
            stream += b"M %b %b %b\n" % (mode.encode(), data, path)
        else:
            stream += b"M %b inline %b\ndata %d\n%b\n" % (mode.encode(), path, len(data), data)
    date_format = "raw" if at is not None else "now"
    git(
        repository,
        "fast-import",
        "--quiet",
        *(["--force"] if parent != "main" else []),
        f"--date-format={date_format}",
        stdin=stream + b"done\n",
    )
    return head_of(repository)


def _quoted(path: bytes) -> bytes:
    plain = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-"
    return b'"' + b"".join(bytes([c]) if c in plain else b"\\%03o" % c for c in path) + b'"'
