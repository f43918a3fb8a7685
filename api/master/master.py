"""Reading the master: its head, and trees and blobs by oid, each proven by its hash."""

import asyncio
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TypeAlias, TypeVar

from cachetools import LRUCache, TTLCache
from graphql import DocumentNode

from api.documents import Json, blob_oid, directories_above, path_in
from api.master import operations
from api.master.answers import Answer, read_failure
from api.master.errors import Corrupt, Missing, TooMuchAsked, Unreachable
from api.master.fetching import Fetch, Fetching, Portion, Wanted
from api.master.transport import AnswerLost, GitHub
from api.master.trees import EMPTY_TREE, TreeEntry, read_entries, tree_oid

TREES_A_REQUEST = 100
BLOBS_A_REQUEST = 100
_REMEMBERED_ENTRIES = 300_000  # tree entries kept in memory, about 250 bytes each
_REMEMBERED_BYTES = 4_000_000  # of blobs
_REPLICA_LAG = 10.0  # seconds for which GitHub may not yet show a commit that it just made
PAUSES = (0.25, 0.5, 1.0)  # seconds to wait for a replica that lags, before each further look
_TARGET = ("repository", "ref", "target")

V = TypeVar("V")

# What a request is sent within. It may refuse or end the request, with a MasterError.
Gate: TypeAlias = Callable[[], AbstractAsyncContextManager[None]]


@dataclass(frozen=True, slots=True)
class Head:
    """The commit that the branch points at.

    `seen_at` is when the request that told it was sent: the head was this then or later.
    """

    commit: str
    tree: str
    committed_at: datetime
    seen_at: datetime


class Master:
    """One branch of one repository.

    Trees and blobs never change under their oid, so those read before are kept in memory, and who
    wants one that is on its way waits for it. Every method raises MasterError and nothing else.
    """

    def __init__(
        self,
        github: GitHub,
        repository: str,
        branch: str,
        *,
        gate: Gate = nullcontext,
        patience: float | None = None,
    ) -> None:
        self.github = github
        self.repository = repository
        self.branch = branch
        self._owner, self._name = repository.split("/")
        self._gate = gate
        self._trees: LRUCache[str, list[TreeEntry]] = LRUCache(
            _REMEMBERED_ENTRIES, getsizeof=lambda entries: 1 + len(entries)
        )
        self._blobs: LRUCache[str, bytes] = LRUCache(
            _REMEMBERED_BYTES, getsizeof=lambda content: 100 + len(content)
        )
        self._successors: TTLCache[str, Head] = TTLCache(maxsize=1000, ttl=_REPLICA_LAG)
        self._fetching_trees = Fetching(
            _patient(self._fetch_trees), Portion(TREES_A_REQUEST), patience
        )
        self._fetching_blobs = Fetching(
            _patient(self._fetch_blobs), Portion(BLOBS_A_REQUEST), patience
        )

    def behind(self, gate: Gate, *, patience: float) -> "Master":
        """The same master and what it remembers, for those whose requests go through a gate.

        They share requests with each other alone: what the gate ends is not to fail for others.
        `patience`: for how many seconds they wait for the next part of the content they ask for.
        """
        other = Master(self.github, self.repository, self.branch, gate=gate, patience=patience)
        other._trees, other._blobs = self._trees, self._blobs
        other._successors = self._successors
        return other

    # Heads

    async def head(self) -> Head:
        """The branch's head now. One request. Raises Missing without repository or branch."""
        seen_at = datetime.now(UTC)
        repository = await self.read(operations.HEAD, {"ref": self.ref})
        return self._newest(read_head(self.target_of(repository), seen_at))

    def remember(self, parent: str, head: Head) -> None:
        """Note a commit of our own: a replica that still answers with its parent lags behind."""
        self._successors[parent] = head

    def _newest(self, head: Head) -> Head:
        return replace(self._line(head)[-1], seen_at=head.seen_at)

    def _line(self, head: Head) -> list[Head]:
        """A head and the commits of our own that are known to have followed it."""
        line = [head]
        while successor := self._successors.get(line[-1].commit):
            line.append(successor)
        return line

    async def head_with(
        self, paths: Iterable[str], *, contents: Container[str] = ()
    ) -> tuple[Head, dict[str, TreeEntry | None]]:
        """The head now, and what lies at each path as of that very commit. One request.

        The text of ordinary files in `contents` comes along, so that `blobs` has it in memory.
        """
        asked = list(dict.fromkeys(paths))
        seen_at = datetime.now(UTC)
        variables: dict[str, Json] = {f"p{i}": path for i, path in enumerate(asked)}
        try:
            repository = await self.read(
                operations.head_with(tuple(path in contents for path in asked)),
                {"ref": self.ref, **variables},
                absent={(*_TARGET, f"f{i}") for i in range(len(asked))},
            )
        except TooMuchAsked:  # so GitHub answers for any file over 10 MB, too
            head = await self.head()
        else:
            target = self.target_of(repository)
            head = self._newest(read_head(target, seen_at))
            if head.commit == target["oid"]:
                files = {path: target.get(f"f{i}") for i, path in enumerate(asked)}
                return head, {path: self._entry(file) for path, file in files.items()}
        return head, await self.entries_at(head.tree, asked)

    async def files_at(self, commit: str, paths: Iterable[str]) -> dict[str, TreeEntry | None]:
        """What lies at each path as of a commit. One request, as `head_with`. Raises Missing."""
        asked = list(dict.fromkeys(paths))
        variables: dict[str, Json] = {f"p{i}": path for i, path in enumerate(asked)}
        try:
            repository = await self.read(
                operations.commit_with(len(asked)),
                {"oid": commit, **variables},
                absent={("repository", "object", f"f{i}") for i in range(len(asked))},
            )
        except TooMuchAsked:  # so GitHub answers for any file over 10 MB, too
            return await self.entries_at((await self.head_at(commit)).tree, asked)
        found = repository.get("object")
        if not isinstance(found, dict) or "tree" not in found:
            raise Missing(f"GitHub does not have the commit {commit} (yet).")
        return {path: self._entry(found.get(f"f{i}")) for i, path in enumerate(asked)}

    def _entry(self, file: Json) -> TreeEntry | None:
        if not isinstance(file, dict):
            return None
        [entry] = read_entries([file])
        if (content := _proven(file.get("object"), entry.oid)) is not None:
            self._remember_blob(entry.oid, content)
        return entry

    async def head_at(self, commit: str) -> Head:
        """A commit by its oid, whether or not the branch is still there. Raises Missing."""
        seen_at = datetime.now(UTC)
        repository = await self.read(operations.COMMIT, {"oid": commit})
        found = repository.get("object")
        if not isinstance(found, dict) or "tree" not in found:
            raise Missing(f"GitHub does not have the commit {commit} (yet).")
        return read_head(found, seen_at)

    async def contains(self, commit: str) -> Head | None:
        """A head whose history contains `commit`, or None if the branch's does not.

        GitHub is asked again for a little while: a replica that lags does not know the commit yet.
        Raises Unreachable when it stays ahead of the branch: it may still come to be part of it.
        """
        for pause in (*PAUSES, None):
            seen_at = datetime.now(UTC)
            repository = await self.read(
                operations.COMPARE,
                {"ref": self.ref, "commit": commit},
                absent={("repository", "ref", "compare")},
            )
            line = self._line(read_head(self.target_of(repository), seen_at))
            ref = repository["ref"]
            comparison = ref.get("compare") if isinstance(ref, dict) else None
            status = comparison.get("status") if isinstance(comparison, dict) else None
            if status in {"BEHIND", "IDENTICAL"} or any(head.commit == commit for head in line):
                return replace(line[-1], seen_at=seen_at)
            if status == "DIVERGED" or pause is None:
                break
            await asyncio.sleep(pause)
        if status == "AHEAD":
            raise Unreachable(
                f"The commit {commit} is ahead of the branch that GitHub shows. If the branch was "
                "set back, that is believed after a minute. Try again then."
            )
        return None

    async def commit_before(self, head: Head, until: datetime) -> Head | None:
        """The newest commit of `head`'s history that is not younger than `until`, or None."""
        repository = await self.read(
            operations.COMMIT_BEFORE, {"oid": head.commit, "until": until.isoformat()}
        )
        found = repository.get("object")
        if not isinstance(found, dict):
            raise Missing(f"GitHub does not have the commit {head.commit} (yet).")
        history = found.get("history")
        nodes = history.get("nodes") if isinstance(history, dict) else None
        if not isinstance(nodes, list) or not nodes or not isinstance(nodes[0], dict):
            return None
        return read_head(nodes[0], head.seen_at)

    # Content by oid

    async def trees(self, oids: Iterable[str]) -> dict[str, list[TreeEntry]]:
        """The entries of each tree, complete: the listing must hash to the tree's oid."""
        asked = dict.fromkeys(oids)
        known: dict[str, list[TreeEntry]] = {EMPTY_TREE: []}
        known |= {oid: self._trees[oid] for oid in asked if oid in self._trees}
        missing = [Wanted(oid, 0) for oid in asked if oid not in known]
        known |= await self._fetching_trees.all(missing)
        return {oid: known[oid] for oid in asked}

    async def blobs(self, wanted: Iterable[Wanted]) -> dict[str, bytes]:
        """The bytes of each blob, each hashed. In bounded batches; by REST where text is lossy."""
        asked = {want.oid: want for want in wanted}
        known = {oid: self._blobs[oid] for oid in asked if oid in self._blobs}
        missing = [want for oid, want in asked.items() if oid not in known]
        return known | await self._fetching_blobs.all(missing)

    async def entry_at(self, tree: str, path: str) -> TreeEntry | None:
        """What lies at a path below a root tree. Cheap where the trees on the way are known."""
        return (await self.entries_at(tree, [path]))[path]

    async def entries_at(self, tree: str, paths: Iterable[str]) -> dict[str, TreeEntry | None]:
        """What lies at each path below a root tree: a request for each level, where not known."""
        asked = list(paths)
        listings = await self.listings_at(tree, directories_above(asked)) if asked else {}
        found: dict[str, TreeEntry | None] = {}
        for path in asked:
            directory, _, name = path.rpartition("/")
            found[path] = next((e for e in listings.get(directory, ()) if e.name == name), None)
        return found

    async def listings_at(
        self, tree: str, directories: Iterable[str]
    ) -> dict[str, list[TreeEntry]]:
        """The entries of the root and of those directories below it that are there.

        Those above them must be among them. A request for each level, where not known.
        """
        wanted = set(directories)
        found: dict[str, list[TreeEntry]] = {}
        level = {"": tree}
        while level:
            listings = await self.trees(level.values())
            found |= {directory: listings[oid] for directory, oid in level.items()}
            level = {
                path: entry.oid
                for directory in level
                for entry in found[directory]
                if entry.is_directory and entry.name is not None
                if (path := path_in(directory, entry.name)) in wanted
            }
        return found

    # Requests

    def commit_url(self, oid: str) -> str | None:
        """The page of a commit, where the web address is known from the API's."""
        return f"https://github.com/{self.repository}/commit/{oid}" if self.github.is_com else None

    @property
    def ref(self) -> str:
        return f"refs/heads/{self.branch}"

    async def read(
        self,
        document: DocumentNode,
        variables: Mapping[str, Json],
        *,
        absent: Container[tuple[str | int, ...]] = (),
    ) -> Mapping[str, Json]:
        """Send a read and return its `repository`.

        `absent`: the paths of fields that may be null because what they name does not exist.
        """
        async with self._gate():
            answer = await self._ask(document, variables)
            if failure := read_failure(answer, absent=absent):
                raise failure
        repository = (answer.data or {}).get("repository")
        if not isinstance(repository, dict):
            raise Unreachable("GitHub's answer has no repository in it.")
        return repository

    async def _ask(self, document: DocumentNode, variables: Mapping[str, Json]) -> Answer:
        variables = {"owner": self._owner, "name": self._name, **variables}
        try:
            try:
                return await self.github.graphql(document, variables)
            except AnswerLost as error:
                if error.timed_out:
                    raise
                # GitHub closes idle connections, at times just when one is used again.
                return await self.github.graphql(document, variables)
        except AnswerLost as error:
            raise (TooMuchAsked if error.timed_out else Unreachable)(str(error)) from error

    def target_of(self, repository: Mapping[str, Json]) -> Mapping[str, Json]:
        ref = repository.get("ref")
        target = ref.get("target") if isinstance(ref, dict) else None
        if not isinstance(target, dict) or "tree" not in target:
            raise Missing(
                f"The branch {self.branch} does not exist in {self.repository}. "
                "Create it with a first commit, or correct GITHUB_BRANCH."
            )
        return target

    async def _fetch_trees(self, wanted: Sequence[Wanted]) -> dict[str, list[TreeEntry]]:
        oids = [want.oid for want in wanted]
        repository = await self.read(operations.trees(len(oids)), _oid_variables(oids))
        fetched = {}
        for i, oid in enumerate(oids):
            tree = repository.get(f"t{i}")
            listed = tree.get("entries") if isinstance(tree, dict) else None
            entries = read_entries(listed) if isinstance(listed, list) else []
            if tree_oid(entries) != oid:
                raise Corrupt(f"GitHub does not list the tree {oid} completely. Try again.")
            fetched[oid] = entries
            if len(entries) < self._trees.maxsize:
                self._trees[oid] = entries
        return fetched

    async def _fetch_blobs(self, wanted: Sequence[Wanted]) -> dict[str, bytes]:
        oids = [want.oid for want in wanted]
        repository = await self.read(operations.blobs(len(oids)), _oid_variables(oids))
        fetched = {oid: _proven(repository.get(f"b{i}"), oid) for i, oid in enumerate(oids)}
        known = {oid: content for oid, content in fetched.items() if content is not None}
        for oid in fetched.keys() - known.keys():
            known[oid] = await self._fetch_raw_blob(oid)
        for oid, content in known.items():
            self._remember_blob(oid, content)
        return known

    def _remember_blob(self, oid: str, content: bytes) -> None:
        if len(content) < self._blobs.maxsize // 4:
            self._blobs[oid] = content

    async def _fetch_raw_blob(self, oid: str) -> bytes:
        async with self._gate():
            content = await self.github.raw_blob(self.repository, oid)
            if isinstance(content, Answer):
                unseen = Corrupt(f"GitHub does not have the blob {oid} (yet).")
                raise unseen if content.status == 404 else read_failure(content) or unseen
        if blob_oid(content) != oid:
            raise Corrupt(f"GitHub's content of the blob {oid} has another hash. Try again.")
        return content


def _patient(fetch: Fetch[V]) -> Fetch[V]:
    """Fetch, again where GitHub does not have it right yet: replicas lag by seconds."""

    async def patiently(batch: Sequence[Wanted]) -> dict[str, V]:
        for pause in PAUSES:
            try:
                return await fetch(batch)
            except Corrupt:
                await asyncio.sleep(pause)
        return await fetch(batch)

    return patiently


def _oid_variables(oids: Sequence[str]) -> dict[str, Json]:
    return {f"o{i}": oid for i, oid in enumerate(oids)}


def _proven(blob: Json, oid: str) -> bytes | None:
    """The bytes of a blob's text if they hash to `oid`; None if it must come another way."""
    if not isinstance(blob, dict) or blob.get("isTruncated") or blob.get("isBinary"):
        return None
    text = blob.get("text")
    if not isinstance(text, str):
        return None
    content = text.encode(errors="surrogatepass")
    return content if blob_oid(content) == oid else None


def read_head(commit: Mapping[str, Json], seen_at: datetime) -> Head:
    """A head from the JSON of a commit: `oid committedDate tree { oid }`."""
    tree = commit.get("tree")
    if not isinstance(tree, dict):
        raise Unreachable("GitHub's answer names a commit without its tree.")
    return Head(str(commit["oid"]), str(tree["oid"]), read_time(commit["committedDate"]), seen_at)


def read_time(value: Json) -> datetime:
    """A DateTime of GitHub's."""
    return datetime.fromisoformat(str(value))
