"""Deciding what one commit is to hold. Pure: writes and what lies at their paths in, a plan out.

Writes are folded one after the other, so that each sees what those before it did. What one asks
for in vain leaves the others as they are.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import TypeAlias

from api.documents import (
    InvalidDocument,
    Layout,
    Unreadable,
    blob_oid,
    check_markdown,
    directories_above,
    edit,
    folded,
    is_in_the_way,
    parse,
    path_in,
    rewrite,
)
from api.gateway.changes import Delete, Rename, Update
from api.gateway.errors import BadInput, Conflict, GatewayError, LimitExceeded, NotFound
from api.master.messages import Key

# GitHub names no limits; these are known to be taken well within its ten seconds.
MAX_FILES = 50
MAX_BYTES = 4_000_000
MAX_WRITES = 100
MAX_REQUEST_BYTES = 8_000_000  # of one write, which goes alone if it has more than MAX_BYTES
_CANDIDATES = 20  # free names looked for at once


@dataclass(frozen=True, slots=True)
class File:
    """What lies at a path. `content` is None where the bytes are not known (yet)."""

    revision: str
    size: int
    content: bytes | None = None
    is_document: bool = True  # and no symbolic link, directory or submodule


Files: TypeAlias = Mapping[str, File | None]


class Names:
    """What lies directly in a directory, whatever it is. Directories have a slash at their ends."""

    def __init__(self, names: Iterable[str]) -> None:
        self.all = list(names)
        # Of 10,000 names, lists of one each would be as many objects for the garbage collector.
        self._first: dict[str, str] = {}
        self._others: dict[str, list[str]] = {}
        for name in self.all:
            key = folded(name.removesuffix("/"))
            if self._first.setdefault(key, name) is not name:
                self._others.setdefault(key, []).append(name)

    def alike(self, name: str) -> list[str]:
        """Those that some computer takes for this name."""
        key = folded(name)
        first = self._first.get(key)
        return [] if first is None else [first, *self._others.get(key, ())]


@dataclass(frozen=True, slots=True, kw_only=True)
class Addition:
    """A new document, ready to be saved. A `chosen` path makes way for one that is taken.

    `named`: the caller named the path; else it was made of the title. `project`: the path of the
    project that it says it belongs to.
    """

    path: str
    content: bytes
    chosen: bool
    named: bool = False
    project: str | None = None


Step: TypeAlias = Addition | Update | Delete | Rename


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """A request that has been checked as far as it can be without knowing what is saved."""

    id: str
    steps: Sequence[Step]
    key: Key | None = None
    message: str | None = None
    messages: Sequence[str | None] = ()  # of the single steps
    co_authors: Sequence[str] = ()
    caller: str | None = None

    @property
    def paths(self) -> frozenset[str]:
        """All paths that it names."""
        projects = (_project(step) for step in self.steps)
        return frozenset(path for step in self.steps for path in _named(step)) | {
            project for project in projects if project
        }

    @property
    def sources(self) -> frozenset[str]:
        """The paths whose bytes are needed."""
        return frozenset(s.path for s in self.steps if isinstance(s, Update | Rename))

    @property
    def sole(self) -> frozenset[str]:
        """Paths that no other write of the commit may have changed before.

        What was asked of them is to be answered from what was really saved, and not from a state
        between two writes that nobody will ever see.
        """
        return frozenset(
            path
            for step in self.steps
            if not isinstance(step, Update) or step.expected
            for path in _named(step)
        )

    @property
    def claims(self) -> frozenset[str]:
        """Paths that the caller named for a document that is not there yet."""
        steps = self.steps
        return frozenset(s.path for s in steps if isinstance(s, Addition) and s.named) | frozenset(
            s.to for s in steps if isinstance(s, Rename)
        )

    @property
    def closed(self) -> frozenset[str]:
        """Paths at which nothing is left, and that no later write of the commit may name."""
        return frozenset(s.path for s in self.steps if isinstance(s, Delete | Rename))


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What becomes of each write, by id, and the commit that makes it so.

    `made` and `unchanged`: the path of each step's document, None where it was deleted. `later`:
    writes that have to wait for the next commit, in their order. `files`: what lies at the paths
    that `made` touches, after the commit.
    """

    additions: Mapping[str, bytes]
    deletions: Sequence[str]
    files: Files
    made: Mapping[str, Sequence[str | None]]
    unchanged: Mapping[str, Sequence[str | None]]
    refused: Mapping[str, GatewayError]
    later: Sequence[Write]


class Lacking(Exception):
    """Something has to be known before a plan can be made."""

    def __init__(
        self,
        paths: Iterable[str] = (),
        contents: Iterable[str] = (),
        directories: Iterable[str] = (),
    ) -> None:
        super().__init__("not known yet")
        self.paths = frozenset(paths)  # what lies there
        self.contents = frozenset(contents)  # which bytes lie there
        self.directories = frozenset(directories)  # what lies directly in them


@dataclass(slots=True)
class _Fold:
    """The state between two writes."""

    base: Files
    names: Mapping[str, Names]
    layout: Layout
    max_bytes: int
    changed: dict[str, File | None] = field(default_factory=dict)
    closed: set[str] = field(default_factory=set)
    keys: set[str] = field(default_factory=set)

    def at(self, path: str) -> File | None:
        """Raises Lacking where it is not known what lies at the path."""
        if path in self.changed:
            return self.changed[path]
        if path not in self.base:
            raise Lacking(paths=[path])
        return self.base[path]

    def obstacle(self, path: str) -> str | None:
        """What keeps a document from a path where there is none. Raises Lacking if not known."""
        return self.added_in_the_way(path) or next(
            (
                other
                for other in self._named_alike(path)
                if not self._is_gone(other) and is_in_the_way(path, other)
            ),
            None,
        )

    def added_in_the_way(self, path: str) -> str | None:
        added = (
            o for o, file in self.changed.items() if file and o != path and not self.base.get(o)
        )
        return next((other for other in added if is_in_the_way(path, other)), None)

    def lacking_around(self, paths: Iterable[str]) -> set[str]:
        """The directories of which it would have to be known what lies in them."""
        return directories_above(paths) - self.names.keys()

    def _named_alike(self, path: str) -> Iterator[str]:
        """What some computer takes for the path, or for one of the directories above it.

        A directory that is there already may have a double, whatever is saved below; but not two
        documents of one name, one in each. Doubles outside of the collections are not looked into:
        nobody but the master knows what is there.
        """
        if lacking := self.lacking_around([path]):
            raise Lacking(directories=lacking)
        *parents, leaf = path.split("/")
        own, level = "", [""]
        for name in parents:
            is_there = f"{name}/" in self._names_in(own).alike(name)
            own, above, level = path_in(own, name), level, [path_in(own, name)]
            for directory in above:
                for other in self._names_in(directory).alike(name):
                    found = path_in(directory, other)
                    if not is_there:
                        yield found
                    if found != f"{own}/" and self._may_hold_documents(found):
                        level.append(found.removesuffix("/"))
        for directory in level:
            yield from (
                path_in(directory, other) for other in self._names_in(directory).alike(leaf)
            )

    def _may_hold_documents(self, path: str) -> bool:
        """Whether it is a directory within a collection's."""
        roots = (f"{root}/" if root else "" for root in self.layout.roots)
        return path.endswith("/") and any(path.startswith(root) for root in roots)

    def _names_in(self, directory: str) -> Names:
        if directory not in self.names:
            raise Lacking(directories=[directory])
        return self.names[directory]

    def _is_gone(self, path: str) -> bool:
        """Whether nothing is left there after this commit."""
        if not path.endswith("/"):
            return path in self.changed and self.changed[path] is None
        if not any(file is None and gone.startswith(path) for gone, file in self.changed.items()):
            return False
        directory = path.removesuffix("/")
        within = self._names_in(directory).all
        return all(self._is_gone(path_in(directory, name)) for name in within)

    def branched(self) -> "_Fold":
        return replace(self, changed=dict(self.changed))

    def bulk(self) -> tuple[int, int]:
        """How many files change, and the bytes to be sent."""
        return len(self.changed), sum(len(f.content or b"") for f in self.changed.values() if f)


def plan(
    writes: Sequence[Write],
    files: Files,
    names: Mapping[str, Names],
    *,
    layout: Layout,
    max_bytes: int,
) -> Plan:
    """Fold writes into one commit. `files`: what lies at the master at the paths in question.

    `names`: by directory, what lies around them. Raises Lacking, for all writes together, when
    that is not enough to tell.
    """
    fold = _Fold(files, names, layout, max_bytes)
    made: dict[str, Sequence[str | None]] = {}
    unchanged: dict[str, Sequence[str | None]] = {}
    refused: dict[str, GatewayError] = {}
    later: list[Write] = []
    waiting: set[str] = set()  # paths of writes that wait: nobody may overtake them there
    lacking: list[Lacking] = []
    is_full = False
    for write in writes:
        if is_full or _must_wait(write, fold, waiting):
            later.append(write)
            waiting |= write.paths
            continue
        try:
            after, paths = _applied(write, fold.branched())
        except Lacking as error:
            lacking.append(error)
            continue
        except GatewayError as error:
            refused[write.id] = error
            continue
        if not _differs(fold, after):
            unchanged[write.id] = paths
            continue
        count, size = after.bulk()
        if not made and size > MAX_REQUEST_BYTES:
            refused[write.id] = LimitExceeded(
                f"The documents have {size:,} bytes together; one mutation may write "
                f"{MAX_REQUEST_BYTES:,}. Write fewer at once. Nothing was saved."
            )
            continue
        is_full = bool(made) and (count > MAX_FILES or size > MAX_BYTES or len(made) >= MAX_WRITES)
        if is_full:
            later.append(write)
            continue
        fold = after
        fold.closed |= write.closed
        fold.keys |= {write.key.key} if write.key else set()
        made[write.id] = paths
    if lacking:
        raise Lacking(
            frozenset().union(*(error.paths for error in lacking)),
            frozenset().union(*(error.contents for error in lacking)),
            frozenset().union(*(error.directories for error in lacking)),
        )
    old, new = fold.base, fold.changed
    return Plan(
        additions={
            path: file.content
            for path, file in new.items()
            if file and file.content is not None and _revision(old.get(path)) != file.revision
        },
        deletions=[path for path, file in new.items() if file is None and old.get(path)],
        files=new,
        made=made,
        unchanged=unchanged,
        refused=refused,
        later=later,
    )


def _must_wait(write: Write, fold: _Fold, waiting: set[str]) -> bool:
    paths = write.paths
    return bool(
        paths & waiting
        or paths & fold.closed
        or write.sole & fold.changed.keys()
        or any(fold.added_in_the_way(path) for path in write.sole)
        or (write.key and write.key.key in fold.keys)
    )


def _applied(write: Write, fold: _Fold) -> tuple[_Fold, Sequence[str | None]]:
    """The state after a write, and the path of each step's document."""
    before = dict(fold.changed)
    paths: list[str | None] = []
    for number, step in enumerate(write.steps):
        with _named_if_many(write, number):
            match step:
                case Addition():
                    paths.append(_add(step, fold))
                case Update():
                    paths.append(_update(step, fold, before))
                case Delete():
                    _existing(step, fold, before)
                    fold.changed[step.path] = None
                    paths.append(None)
                case Rename():
                    paths.append(_rename(step, fold, before))
    # What is wanted may come to be, and what is in the way be gone, by a later step.
    for number, step in reversed(list(enumerate(write.steps))):
        with _named_if_many(write, number):
            _check_project(step, fold)
            _check_obstacle(step, fold)
    return fold, [path if path and fold.at(path) else None for path in paths]


@contextmanager
def _named_if_many(write: Write, number: int) -> Iterator[None]:
    """An error of a write with many steps says which of them failed."""
    try:
        yield
    except GatewayError as error:
        if len(write.steps) > 1:
            error.details["operation"] = number
        raise


def _check_project(step: Step, fold: _Fold) -> None:
    project = _project(step)
    if project and ((found := fold.at(project)) is None or not found.is_document):
        raise no_project(project)


def _check_obstacle(step: Step, fold: _Fold) -> None:
    match step:
        case Addition(path=path, chosen=False) | Rename(to=path):
            is_new = fold.at(path) and not fold.base.get(path)
            if is_new and (other := fold.obstacle(path)) is not None:
                raise _beside(path, other)


def no_project(path: str) -> BadInput:
    """What to say when there is no project at the path that a document is to belong to."""
    return BadInput(
        f"There is no project {path!r}. `project` is the id of a project, as `projects` lists "
        "them. Nothing was saved."
    )


def _add(step: Addition, fold: _Fold) -> str:
    path = step.path
    if step.chosen:
        path = _free(path, fold)
    else:
        _check_free(path, fold)
    fold.changed[path] = File(blob_oid(step.content), len(step.content), step.content)
    return path


def _free(path: str, fold: _Fold) -> str:
    """The path, or the first of its numbered neighbours where nothing lies."""
    names = _neighbours(path)
    looked_at: list[str] = []
    for name in names:
        if name in fold.closed:
            continue
        if name not in fold.changed and name not in fold.base:
            raise Lacking(
                paths=[name, *(next(names) for _ in range(_CANDIDATES) if looked_at)],
                directories=fold.lacking_around([name]),
            )
        if fold.at(name) is None:
            other = fold.obstacle(name)
            if other is None:
                return name
            if other.removesuffix("/").count("/") < name.count("/"):  # and so of all neighbours
                raise _beside(name, other)
        looked_at.append(name)
    raise AssertionError("there is no end to numbers")


def _neighbours(path: str) -> Iterator[str]:
    yield path
    number = 1
    while True:
        number += 1
        yield f"{path.removesuffix('.md')}-{number}.md"


def _update(step: Update, fold: _Fold, before: Files) -> str:
    found = _existing(step, fold, before)
    content = _content(step.path, found)
    document = parse(
        step.collection, step.path, content, revision=found.revision, max_bytes=fold.max_bytes
    )
    if isinstance(document, Unreadable):
        raise BadInput(
            f"{step.path} cannot be changed by its fields: {document.reason} Delete it and create "
            "it anew. Nothing was saved.",
            path=step.path,
        )
    old = content.decode()
    try:
        new = old if step.markdown is None else rewrite(old, step.markdown)
        new = edit(step.collection, new, step.fields)
        if new != old:
            check_markdown(new, max_bytes=fold.max_bytes)
    except InvalidDocument as error:
        raise BadInput(f"{error} Nothing was saved.", path=step.path) from error
    if new != old:
        encoded = new.encode()
        fold.changed[step.path] = File(blob_oid(encoded), len(encoded), encoded)
    return step.path


def _rename(step: Rename, fold: _Fold, before: Files) -> str:
    found = _existing(step, fold, before)
    content = _content(step.path, found)
    if step.to == step.path:
        return step.path
    _check_free(step.to, fold)
    fold.changed[step.path] = None
    fold.changed[step.to] = File(found.revision, found.size, content)
    return step.to


def _existing(step: Update | Delete | Rename, fold: _Fold, before: Files) -> File:
    """What lies at a step's path, if it is the document that the caller expects there."""
    found = fold.at(step.path)
    # A caller knows what was saved, and not what the steps of this write make of it.
    saved = before[step.path] if step.path in before else fold.base.get(step.path)
    minded = saved if step.expected else found
    if minded is None and found and found.revision == step.expected:
        minded = found  # renamed by a step before, with the bytes that the caller knows
    if found is None or minded is None or not found.is_document:
        raise NotFound(
            f"There is no document {step.path!r}. Nothing was saved.",
            path=step.path,
        )
    if step.expected and minded.revision != step.expected:
        title = _title(step.path, minded, fold)
        raise Conflict(
            f"{step.path} ({title}) is at revision {minded.revision} by now, not at "
            f"{step.expected}. Read it again, then repeat your change on what it says. Nothing was "
            "saved.",
            path=step.path,
            currentRevision=minded.revision,
            currentTitle=title,
        )
    return found


def _check_free(path: str, fold: _Fold) -> None:
    """Raises Conflict if something lies there."""
    found = fold.at(path)
    if found is None:
        return
    if not found.is_document:
        raise Conflict(
            f"There is something at {path} that is no document. Choose another path. Nothing was "
            "saved.",
            path=path,
        )
    title = _title(path, found, fold)
    raise Conflict(
        f"There is a document at {path} already ({title}). Choose another path, or update that "
        "one. Nothing was saved.",
        path=path,
        currentRevision=found.revision,
        currentTitle=title,
    )


def _beside(path: str, other: str) -> Conflict:
    return Conflict(
        f"{path} cannot be saved beside {other}: some computers take them for the same, or would "
        "need a directory where there is none. Choose another path. Nothing was saved.",
        path=path,
    )


def _content(path: str, found: File) -> bytes:
    if found.size > MAX_REQUEST_BYTES:
        raise LimitExceeded(
            f"{path} has {found.size:,} bytes, too many to be written again ("
            f"{MAX_REQUEST_BYTES:,}). Nothing was saved.",
            path=path,
        )
    if found.content is None:
        raise Lacking(contents=[path])
    return found.content


def _title(path: str, found: File, fold: _Fold) -> str:
    collection = fold.layout.collection_of(path)
    if collection and found.size <= fold.max_bytes:
        document = parse(
            collection,
            path,
            _content(path, found),
            revision=found.revision,
            max_bytes=fold.max_bytes,
        )
        if not isinstance(document, Unreadable):
            return document.title
    return PurePosixPath(path).stem


def _named(step: Step) -> tuple[str, ...]:
    match step:
        case Rename():
            return (step.path, step.to)
        case Addition(chosen=True):
            return ()
        case _:
            return (step.path,)


def _project(step: Step) -> str | None:
    """The path of the project that a document is to belong to."""
    if isinstance(step, Addition):
        return step.project
    project = step.fields.get("project") if isinstance(step, Update) else None
    return project if isinstance(project, str) else None


def _differs(before: _Fold, after: _Fold) -> bool:
    return any(
        _revision(file) != _revision(before.changed.get(path, before.base.get(path)))
        for path, file in after.changed.items()
    )


def _revision(file: File | None) -> str | None:
    return file.revision if file else None
