"""Git objects as GitHub's API shows them: commits, trees, entries, blobs, tags.

Each class is one GraphQL type; an attribute or method is one field, in snake case. A method gets
the `Call` and the field's arguments.
"""

import base64
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from pathlib import PurePosixPath
from typing import ClassVar

from sandbox.github import catalogue, history
from sandbox.github.call import Call
from sandbox.github.connections import Connection, Page, slice_page
from sandbox.github.hosting import Hosting, global_id
from sandbox.github.identity import Identity
from sandbox.github.repository import (
    MODE_LINK,
    MODE_SUBMODULE,
    MODE_TREE,
    CommitData,
    Entry,
    Person,
    TagData,
)

TEXT_LIMIT = 512_000
"""Bytes after which `Blob.text` is cut, silently but for `isTruncated`."""

FILE_LIMIT = 10 * 1024 * 1024
"""Bytes above which `Commit.file` refuses; that it means MiB is assumed."""

GITHUB_EMAIL = "noreply@github.com"


def iso(when: datetime) -> str:
    """DateTime: ISO 8601 in UTC."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def iso_with_offset(when: datetime) -> str:
    """GitTimestamp: ISO 8601 that keeps the offset."""
    text = when.replace(microsecond=0).isoformat()
    return text[:-6] + "Z" if text.endswith("+00:00") else text


class UserNode:
    """A user; also the owner of the repository, as far as this stand-in knows owners."""

    type_name: ClassVar = "User"

    def __init__(self, identity: Identity, url: str) -> None:
        self.id = global_id("user", identity.login)
        self.login = identity.login
        self.name = identity.display_name
        self.email = identity.email
        self.database_id = identity.id
        self.resource_path = f"/{identity.login}"
        self.url = f"{url}/{identity.login}"

    def avatar_url(self, _call: Call, size: int | None = None) -> str:
        return f"{self.url}.png" + (f"?size={size}" if size else "")


class GitActorNode:
    type_name: ClassVar = "GitActor"

    def __init__(self, person: Person) -> None:
        self.name = person.name
        self.email = person.email
        self.date = iso_with_offset(person.when)

    def user(self, call: Call) -> UserNode | None:
        identity = call.hosting.users.get(self.email)
        return UserNode(identity, call.hosting.url) if identity else None

    def avatar_url(self, call: Call, size: int | None = None) -> str:
        return f"{call.hosting.url}/avatars/{self.email}" + (f"?size={size}" if size else "")


class SignatureNode:
    """The signature that GitHub puts on commits made through its API; faked as valid."""

    type_name: ClassVar = "GpgSignature"

    def __init__(self, commit: CommitData) -> None:
        by_github = commit.committer.email == GITHUB_EMAIL
        self.email = commit.committer.email
        self.is_valid = by_github
        self.key_id = "B5690EEEBB952194" if by_github else None
        self.payload = f"tree {commit.tree}\n"
        self.signature = commit.signature or ""
        self.state = "VALID" if by_github else "UNKNOWN_KEY"
        self.verified_at = iso(commit.committer.when) if by_github else None
        self.was_signed_by_git_hub = by_github

    def signer(self, call: Call) -> UserNode | None:
        if call.draw.take("partial"):
            raise catalogue.SIGNER_FORBIDDEN.error()
        if not self.is_valid:
            return None
        return UserNode(Identity("web-flow", id=19864447), call.hosting.url)


class GitObjectNode:
    """The fields that all git objects share."""

    type_name: ClassVar[str]

    def __init__(self, oid: str, hosting: Hosting) -> None:
        self.oid = oid
        self.hosting = hosting

    @property
    def abbreviated_oid(self) -> str:
        return self.oid[:7]

    @property
    def id(self) -> str:
        return global_id(self.type_name.lower(), self.oid)

    @property
    def commit_resource_path(self) -> str:
        return f"/{self.hosting.name}/commit/{self.oid}"

    @property
    def commit_url(self) -> str:
        return self.hosting.url + self.commit_resource_path


class BlobNode(GitObjectNode):
    type_name = "Blob"

    def __init__(self, oid: str, size: int, hosting: Hosting) -> None:
        super().__init__(oid, hosting)
        self.byte_size = size

    @cached_property
    def _data(self) -> bytes:
        return self.hosting.repository.blob(self.oid) or b""

    @property
    def is_binary(self) -> bool:
        return b"\0" in self._data

    @property
    def is_truncated(self) -> bool:
        return self.byte_size > TEXT_LIMIT

    def text(self, call: Call) -> str | None:
        data = self._data
        if b"\0" in data:
            return None
        # The cut is made in bytes and may fall inside a character.
        text = data[:TEXT_LIMIT].decode("utf-8", "replace")
        fault = call.draw.take("corrupted_blob")
        return text if fault is None else corrupted(text, fault.mode)


def corrupted(text: str, mode: str) -> str:
    """Content that is not what the oid promises."""
    if mode == "truncated":
        return text[: len(text) // 2]
    return ("X" if not text.startswith("X") else "Y") + text[1:]


class TreeNode(GitObjectNode):
    type_name = "Tree"

    def __init__(self, oid: str, hosting: Hosting, path: bytes = b"") -> None:
        super().__init__(oid, hosting)
        self._prefix = path + b"/" if path else b""

    @property
    def entries(self) -> Sequence["TreeEntryNode"]:
        return [
            TreeEntryNode(entry, self._prefix + entry.name, self.hosting)
            for entry in self.hosting.repository.tree(self.oid)
        ]


class SubmoduleNode:
    type_name: ClassVar = "Submodule"

    def __init__(self, entry: "TreeEntryNode") -> None:
        self.branch = None
        self.git_url = f"{entry.hosting.url}/{entry.name}.git"
        self.name = entry.name
        self.name_raw = entry.name_raw
        self.path = entry.path
        self.path_raw = entry.path_raw
        self.subproject_commit_oid = entry.oid


class TreeEntryNode:
    type_name: ClassVar = "TreeEntry"
    is_generated = False

    def __init__(self, entry: Entry, path: bytes, hosting: Hosting) -> None:
        self.mode, self._name, self.oid = entry
        self._path = path
        self.hosting = hosting

    @property
    def type(self) -> str:
        if self.mode == MODE_TREE:
            return "tree"
        return "commit" if self.mode == MODE_SUBMODULE else "blob"

    @property
    def name(self) -> str:
        return self._name.decode("utf-8", "replace")

    @property
    def name_raw(self) -> str:
        return base64.b64encode(self._name).decode()

    @property
    def path(self) -> str:
        return self._path.decode("utf-8", "replace")

    @property
    def path_raw(self) -> str:
        return base64.b64encode(self._path).decode()

    @property
    def extension(self) -> str | None:
        if self.type != "blob":
            return None
        return PurePosixPath(self.name).suffix

    @property
    def size(self) -> int:
        """Bytes of a blob; 0 for everything else."""
        header = self.hosting.repository.header(self.oid) if self.type == "blob" else None
        return header[1] if header else 0

    @property
    def line_count(self) -> int | None:
        data = self.hosting.repository.blob(self.oid) if self.type == "blob" else None
        if data is None or b"\0" in data or self.mode == MODE_LINK:
            return None
        return len(data.splitlines())

    @property
    def object(self) -> GitObjectNode | None:
        return git_object(self.oid, self.hosting, self._path)

    @property
    def submodule(self) -> SubmoduleNode | None:
        return SubmoduleNode(self) if self.mode == MODE_SUBMODULE else None


class CommitNode(GitObjectNode):
    type_name = "Commit"
    pushed_date = None
    """Dead on GitHub too: "no longer supported"."""

    def __init__(self, oid: str, hosting: Hosting) -> None:
        super().__init__(oid, hosting)
        self.data = hosting.repository.commit(oid)

    @property
    def message(self) -> str:
        return self.data.message

    @property
    def message_headline(self) -> str:
        return self.data.message.strip("\n").partition("\n")[0]

    @property
    def message_body(self) -> str:
        return self.data.message.strip("\n").partition("\n")[2].strip("\n")

    @property
    def author(self) -> GitActorNode:
        return GitActorNode(self.data.author)

    @property
    def committer(self) -> GitActorNode:
        return GitActorNode(self.data.committer)

    @property
    def authored_date(self) -> str:
        return iso(self.data.author.when)

    @property
    def committed_date(self) -> str:
        return iso(self.data.committer.when)

    @property
    def authored_by_committer(self) -> bool:
        return self.data.author.email == self.data.committer.email

    @property
    def committed_via_web(self) -> bool:
        return self.data.committer.email == GITHUB_EMAIL

    @property
    def signature(self) -> SignatureNode | None:
        return SignatureNode(self.data) if self.data.signature else None

    @property
    def tree(self) -> TreeNode:
        return TreeNode(self.data.tree, self.hosting)

    @property
    def resource_path(self) -> str:
        return self.commit_resource_path

    @property
    def url(self) -> str:
        return self.commit_url

    @property
    def tree_resource_path(self) -> str:
        return f"/{self.hosting.name}/tree/{self.oid}"

    @property
    def tree_url(self) -> str:
        return self.hosting.url + self.tree_resource_path

    @property
    def changed_files_if_available(self) -> int:
        repository = self.hosting.repository
        parents = self.data.parents
        old = repository.commit(parents[0]).tree if parents else None
        return len(repository.changes(old, self.data.tree))

    def file(self, _call: Call, path: str) -> TreeEntryNode:
        entry = self.hosting.repository.entry(self.data.tree, path) if path else None
        if entry is None:
            raise catalogue.FILE_NOT_FOUND.error(path=path)
        node = TreeEntryNode(entry, path.encode(), self.hosting)
        if node.size > FILE_LIMIT:
            raise catalogue.FILE_TOO_LARGE.error()
        return node

    def parents(
        self,
        _call: Call,
        first: int | None = None,
        last: int | None = None,
        after: str | None = None,
        before: str | None = None,
    ) -> Connection["CommitNode"]:
        page = Page("parents", first, last, after, before)
        nodes = [CommitNode(oid, self.hosting) for oid in self.data.parents]
        return slice_page(nodes, page, self.oid)

    async def history(  # noqa: PLR0917 - GitHub's arguments
        self,
        call: Call,
        first: int | None = None,
        last: int | None = None,
        after: str | None = None,
        before: str | None = None,
        path: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        author: Mapping[str, object] | None = None,
    ) -> "HistoryConnection":
        page = Page("history", first, last, after, before)
        logins = {email: user.login for email, user in call.hosting.users.items()}
        wanted = history.Filter.of(path, since, until, author, logins)
        found = await history.read_page(call.repository, self.oid, page, wanted)
        return HistoryConnection(self, found, wanted)


class HistoryConnection(Connection[CommitNode]):
    """A page of history; its total is counted only when asked for."""

    def __init__(self, start: CommitNode, found: history.Slice, wanted: history.Filter) -> None:
        nodes = [CommitNode(oid, start.hosting) for oid in found.oids]
        super().__init__(nodes, found.offset, 0, start.oid, more=found.more)
        self._start = start
        self._wanted = wanted

    async def total_count(self, call: Call) -> int:
        return await history.count(call.repository, self._start.oid, self._wanted)


class TagNode(GitObjectNode):
    type_name = "Tag"

    def __init__(self, oid: str, hosting: Hosting) -> None:
        super().__init__(oid, hosting)
        self.data: TagData = hosting.repository.tag(oid)
        self.name = self.data.name
        self.message = self.data.message

    @property
    def tagger(self) -> GitActorNode | None:
        return GitActorNode(self.data.tagger) if self.data.tagger else None

    @property
    def target(self) -> GitObjectNode | None:
        return git_object(self.data.target, self.hosting)


def git_object(oid: str, hosting: Hosting, path: bytes = b"") -> GitObjectNode | None:
    """The object with this oid; None where the repository has none."""
    header = hosting.repository.header(oid)
    if header is None:
        return None
    kind, size = header
    if kind == "blob":
        return BlobNode(oid, size, hosting)
    if kind == "tree":
        return TreeNode(oid, hosting, path)
    return CommitNode(oid, hosting) if kind == "commit" else TagNode(oid, hosting)
