"""Reading and writing the bare git repository that stands behind the API.

Objects are parsed from their raw bytes: names of files and authors are bytes in git, and the
stand-in must answer for repositories that hold names which are not UTF-8.
"""

import heapq
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import pygit2
from pygit2.enums import FileMode, ObjectType, SortMode

FULL_OID = re.compile(r"[0-9a-f]{40}")
_TREE_ENTRY = re.compile(rb"(\d+) ([^\0]+)\0(.{20})", re.DOTALL)
_PERSON = re.compile(rb"(.*?) ?<([^>]*)> ?(-?\d+)? ?([+-]\d{4})?", re.DOTALL)

MODE_FILE, MODE_TREE, MODE_LINK, MODE_SUBMODULE = 0o100644, 0o040000, 0o120000, 0o160000


class RefMoved(Exception):
    """The ref no longer points where the caller expected: nothing was changed."""

    def __init__(self, ref: str, actual: str | None, expected: str | None) -> None:
        super().__init__(f"{ref} is at {actual} but expected {expected}")
        self.ref = ref
        self.actual = actual
        self.expected = expected


class RefLocked(Exception):
    """Another process holds the ref's lock file at this moment: ask again."""


class Entry(NamedTuple):
    """One line of a tree object."""

    mode: int
    name: bytes
    oid: str

    @property
    def type(self) -> str:
        if self.mode == MODE_TREE:
            return "tree"
        return "commit" if self.mode == MODE_SUBMODULE else "blob"


@dataclass(frozen=True, slots=True)
class Person:
    name: str
    email: str
    when: datetime
    """Keeps the offset that the commit was made with."""


@dataclass(frozen=True, slots=True)
class CommitData:
    oid: str
    tree: str
    parents: tuple[str, ...]
    author: Person
    committer: Person
    message: str
    signature: str | None


@dataclass(frozen=True, slots=True)
class TagData:
    oid: str
    target: str
    name: str
    tagger: Person | None
    message: str


@dataclass(slots=True)
class Changes:
    """Paths that differ between two trees. A rename is one removed and one added path."""

    added: list[str]
    removed: list[str]
    modified: list[str]

    def __len__(self) -> int:
        return len(self.added) + len(self.removed) + len(self.modified)


class Repository:
    """One bare repository, for one thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._repo = pygit2.Repository(str(path))
        self._odb = self._repo.odb
        # Objects never change, so caches need no invalidation, only a bound.
        self.commit = lru_cache(maxsize=50_000)(self._commit)
        self.tree = lru_cache(maxsize=64)(self._tree)
        self._names = lru_cache(maxsize=256)(self._index)

    def close(self) -> None:
        self.commit.cache_clear()
        self.tree.cache_clear()
        self._names.cache_clear()
        self._repo.free()

    # --- objects ------------------------------------------------------------------------

    def header(self, oid: str) -> tuple[str, int] | None:
        """Type name and size in bytes, without reading the content."""
        try:
            kind, size = self._odb.read_header(pygit2.Oid(hex=oid))
        except KeyError:
            return None
        return kind.name.lower(), size

    def read(self, oid: str) -> tuple[str, bytes] | None:
        try:
            kind, data = self._odb.read(pygit2.Oid(hex=oid))
        except KeyError:
            return None
        return ObjectType(kind).name.lower(), data

    def blob(self, oid: str) -> bytes | None:
        found = self.read(oid)
        return found[1] if found is not None and found[0] == "blob" else None

    def _tree(self, oid: str) -> tuple[Entry, ...]:
        return tuple(
            Entry(int(mode, 8), name, sha.hex()) for mode, name, sha in self._tree_lines(oid)
        )

    def _index(self, oid: str) -> dict[bytes, tuple[bytes, bytes]]:
        return {name: (mode, sha) for mode, name, sha in self._tree_lines(oid)}

    def _tree_lines(self, oid: str) -> list[tuple[bytes, bytes, bytes]]:
        found = self.read(oid)
        if found is None or found[0] != "tree":
            raise KeyError(oid)
        return _TREE_ENTRY.findall(found[1])

    def child(self, tree: str, name: bytes) -> Entry | None:
        """One entry of a tree, without making all the others."""
        found = self._names(tree).get(name)
        return Entry(int(found[0], 8), name, found[1].hex()) if found else None

    def _commit(self, oid: str) -> CommitData:
        found = self.read(oid)
        if found is None or found[0] != "commit":
            raise KeyError(oid)
        headers, message = _parse(found[1])
        return CommitData(
            oid=oid,
            tree=headers[b"tree"][0].decode(),
            parents=tuple(parent.decode() for parent in headers.get(b"parent", ())),
            author=_person(headers[b"author"][0]),
            committer=_person(headers[b"committer"][0]),
            message=message.decode("utf-8", "replace"),
            signature=headers[b"gpgsig"][0].decode("utf-8", "replace")
            if b"gpgsig" in headers
            else None,
        )

    def tag(self, oid: str) -> TagData:
        found = self.read(oid)
        if found is None or found[0] != "tag":
            raise KeyError(oid)
        headers, message = _parse(found[1])
        return TagData(
            oid=oid,
            target=headers[b"object"][0].decode(),
            name=headers[b"tag"][0].decode("utf-8", "replace"),
            tagger=_person(headers[b"tagger"][0]) if b"tagger" in headers else None,
            message=message.decode("utf-8", "replace"),
        )

    def is_commit(self, oid: str) -> bool:
        header = self.header(oid)
        return header is not None and header[0] == "commit"

    def entry(self, tree: str, path: str | bytes) -> Entry | None:
        """The entry at a path below a tree; None when there is none."""
        parts = (path.encode() if isinstance(path, str) else path).split(b"/")
        found: Entry | None = None
        for part in parts:
            if found is not None:
                if found.mode != MODE_TREE:
                    return None
                tree = found.oid
            found = self.child(tree, part)
            if found is None:
                return None
        return found

    def peel(self, oid: str) -> str | None:
        """The tree behind a commit, tag or tree."""
        for _ in range(10):
            header = self.header(oid)
            if header is None:
                return None
            if header[0] == "tree":
                return oid
            if header[0] == "commit":
                return self.commit(oid).tree
            if header[0] == "tag":
                oid = self.tag(oid).target
            else:
                return None
        return None

    def peel_to_commit(self, oid: str) -> str | None:
        """The commit behind a tag, or the commit itself."""
        for _ in range(10):
            header = self.header(oid)
            if header is None or header[0] not in ("commit", "tag"):
                return None
            if header[0] == "commit":
                return oid
            oid = self.tag(oid).target
        return None

    # --- names --------------------------------------------------------------------------

    def ref(self, name: str) -> str | None:
        """Where a fully qualified ref points now; git's own processes may move it at any time."""
        try:
            reference = self._repo.references.get(name)
            return str(reference.resolve().target) if reference is not None else None
        except (KeyError, ValueError, pygit2.GitError):
            return None

    def refs(self, prefix: str = "refs/") -> dict[str, str]:
        found: dict[str, str] = {}
        for name in sorted(self._repo.references):
            if name.startswith(prefix):
                oid = self.ref(name)
                # A ref deleted between listing and reading is simply not there.
                if oid is not None:
                    found[name] = oid
        return found

    def qualify(self, name: str, heads: Mapping[str, str] | None = None) -> str | None:
        """The full name of a ref given fully or shortly, fully qualified names first."""
        for candidate in (name, f"refs/{name}", f"refs/heads/{name}", f"refs/tags/{name}"):
            if candidate.startswith("refs/") and (
                (heads and candidate in heads) or self.ref(candidate) is not None
            ):
                return candidate
        return None

    def revision(
        self, rev: str, default: str, heads: Mapping[str, str] | None = None
    ) -> str | None:
        """What a rev-parse expression without a path names. `heads` overrides where refs point."""
        if FULL_OID.fullmatch(rev):
            return rev if self.header(rev) is not None else None
        name = default if rev in ("HEAD", "@") else self.qualify(rev)
        if name is not None:
            return (heads or {}).get(name) or self.ref(name)
        try:
            return str(self._repo.revparse_single(rev).id)
        except (KeyError, ValueError, pygit2.GitError):
            return None

    # --- history ------------------------------------------------------------------------

    def history(self, start: str, path: str | None = None) -> Iterator[str | None]:
        """Commits in the order of `git log [-- path]`, without following renames.

        Yields None for a commit that was looked at and not shown, so that a caller on an event
        loop gets the chance to let others run.
        """
        counter = 0
        queue = [(-self.commit(start).committer.when.timestamp(), counter, start)]
        seen = {start}
        while queue:
            _, _, oid = heapq.heappop(queue)
            commit = self.commit(oid)
            parents = commit.parents
            shown = True
            if path:
                shown, parents = self._simplify(commit, path)
            yield oid if shown else None
            for parent in parents:
                if parent not in seen:
                    seen.add(parent)
                    counter += 1
                    when = self.commit(parent).committer.when.timestamp()
                    heapq.heappush(queue, (-when, counter, parent))

    def _simplify(self, commit: CommitData, path: str) -> tuple[bool, tuple[str, ...]]:
        """Whether git log shows a commit for a path, and which parents it goes on to."""
        here = self.entry(commit.tree, path)
        for parent in commit.parents:
            there = self.entry(self.commit(parent).tree, path)
            if (here and (here.mode, here.oid)) == (there and (there.mode, there.oid)):
                return False, (parent,)
        return here is not None or bool(commit.parents), commit.parents

    def ahead_behind(self, base: str, head: str) -> tuple[int, int]:
        """How many commits `head` has that `base` has not, and the other way round."""
        ahead, behind = self._repo.ahead_behind(pygit2.Oid(hex=head), pygit2.Oid(hex=base))
        return ahead, behind

    def reachable(self, head: str, hidden: Sequence[str], limit: int) -> Iterator[str]:
        """Commits of `head` that none of the hidden ones has, newest first."""
        walk = self._repo.walk(pygit2.Oid(hex=head), SortMode.TOPOLOGICAL | SortMode.TIME)
        for oid in hidden:
            walk.hide(pygit2.Oid(hex=oid))
        for commit in islice(walk, limit):
            yield str(commit.id)

    def between(self, base: str, head: str, limit: int) -> list[str]:
        """Commits of `head` that `base` has not, oldest first, the newest `limit` of them."""
        return list(self.reachable(head, [base], limit))[::-1]

    def reaches(self, head: str, oid: str) -> bool:
        """Whether a commit is the head or one of its ancestors."""
        return head == oid or bool(
            self._repo.descendant_of(pygit2.Oid(hex=head), pygit2.Oid(hex=oid))
        )

    def changes(self, old: str | None, new: str | None) -> Changes:
        """What differs between two trees; equal subtrees are skipped unread."""
        changes = Changes([], [], [])
        pending = [(b"", old, new)]
        while pending:
            prefix, left, right = pending.pop()
            before = {entry.name: entry for entry in self.tree(left)} if left else {}
            after = {entry.name: entry for entry in self.tree(right)} if right else {}
            for name in before.keys() | after.keys():
                a, b = before.get(name), after.get(name)
                if a == b:
                    continue
                path = prefix + name
                a_tree = a.oid if a and a.mode == MODE_TREE else None
                b_tree = b.oid if b and b.mode == MODE_TREE else None
                if a_tree or b_tree:
                    pending.append((path + b"/", a_tree, b_tree))
                text = path.decode("utf-8", "replace")
                a_file, b_file = a if not a_tree else None, b if not b_tree else None
                if a_file and b_file:
                    changes.modified.append(text)
                elif a_file:
                    changes.removed.append(text)
                elif b_file:
                    changes.added.append(text)
        changes.added.sort()
        changes.removed.sort()
        changes.modified.sort()
        return changes

    # --- writing ------------------------------------------------------------------------

    def write_blob(self, data: bytes) -> str:
        return str(self._repo.create_blob(data))

    def edit_tree(self, tree: str | None, edits: Mapping[str, Entry | None]) -> str | None:
        """A tree with entries replaced (by name) or removed; None when nothing is left."""
        builder = self._repo.TreeBuilder(pygit2.Oid(hex=tree)) if tree else self._repo.TreeBuilder()
        for name, entry in edits.items():
            if entry is not None:
                builder.insert(name, pygit2.Oid(hex=entry.oid), FileMode(entry.mode))
            elif builder.get(name) is not None:
                builder.remove(name)
        return str(builder.write()) if len(builder) else None

    def empty_tree(self) -> str:
        return str(self._repo.TreeBuilder().write())

    def write_commit(self, raw: bytes) -> str:
        return str(self._odb.write(ObjectType.COMMIT, raw))

    def swap(self, ref: str, new: str, expected: str) -> None:
        """Move a ref if, and only if, it still points to `expected`.

        libgit2 takes the same lock file as git does (`<ref>.lock`, created exclusively), reads
        the ref again under the lock and compares it with what was loaded here, so this is a
        compare-and-swap against every git process too.
        """
        reference = self._repo.references.get(ref)
        actual = str(reference.target) if reference is not None else None
        if reference is None or actual != expected:
            raise RefMoved(ref, actual, expected)
        try:
            reference.set_target(pygit2.Oid(hex=new))
        except OSError as error:
            raise RefLocked(ref) from error
        except (pygit2.GitError, ValueError) as error:
            moved_to = self.ref(ref)
            if moved_to == expected:
                # Equal again, or the lock was taken in between: only asking again can tell.
                raise RefLocked(ref) from error
            raise RefMoved(ref, moved_to, expected) from error

    def create_ref(self, ref: str, oid: str) -> None:
        """Raises `RefMoved` where the ref is there already, ValueError for a name git refuses."""
        try:
            self._repo.references.create(ref, pygit2.Oid(hex=oid), force=False)
        except pygit2.AlreadyExistsError as error:
            raise RefMoved(ref, self.ref(ref), None) from error

    def delete_ref(self, ref: str) -> None:
        self._repo.references.delete(ref)


def _parse(raw: bytes) -> tuple[dict[bytes, list[bytes]], bytes]:
    """The headers (with folded lines joined) and the message of a commit or tag."""
    head, _, message = raw.partition(b"\n\n")
    headers: dict[bytes, list[bytes]] = {}
    for line in head.replace(b"\n ", b"\0").split(b"\n"):
        key, _, value = line.partition(b" ")
        headers.setdefault(key, []).append(value.replace(b"\0", b"\n"))
    return headers, message


def _person(raw: bytes) -> Person:
    match = _PERSON.fullmatch(raw)
    if match is None:
        return Person(raw.decode("utf-8", "replace"), "", datetime.fromtimestamp(0, UTC))
    name, email, seconds, offset = match.groups()
    zone: timezone = UTC
    if offset:
        sign = -1 if offset.startswith(b"-") else 1
        minutes = int(offset[1:3]) * 60 + int(offset[3:5])
        zone = timezone(sign * timedelta(minutes=min(minutes, 24 * 60 - 1)))
    try:
        when = datetime.fromtimestamp(int(seconds or 0), zone)
    except (OverflowError, OSError, ValueError):
        when = datetime.fromtimestamp(0, UTC)
    return Person(name.decode("utf-8", "replace"), email.decode("utf-8", "replace"), when)
