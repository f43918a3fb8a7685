"""createCommitOnBranch: one commit on top of an expected head, by compare-and-swap, or nothing.

The order of the checks below is assumed; nobody has published GitHub's. What is certain: nothing
is visible before the swap, and the swap happens only if the branch still is where the caller
believes it to be.
"""

import asyncio
import base64
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, TypedDict

from sandbox.github import catalogue
from sandbox.github.breath import Breath
from sandbox.github.call import Call
from sandbox.github.hosting import from_global_id
from sandbox.github.identity import Identity
from sandbox.github.objects import GITHUB_EMAIL, CommitNode
from sandbox.github.queries import RefNode, find_repository
from sandbox.github.repository import (
    MODE_FILE,
    MODE_SUBMODULE,
    MODE_TREE,
    Entry,
    RefLocked,
    RefMoved,
    Repository,
)

LOCK_PATIENCE = 5.0
"""Seconds to wait for a git process that holds the branch's lock; git itself gives up earlier."""


class Addition(TypedDict):
    path: str
    contents: bytes


class Deletion(TypedDict):
    path: str


class FileChanges(TypedDict, total=False):
    additions: Sequence[Addition] | None
    deletions: Sequence[Deletion] | None


class CommitMessage(TypedDict, total=False):
    headline: str
    body: str | None


class Branch(TypedDict, total=False):
    id: str | None
    repository_name_with_owner: str | None
    branch_name: str | None


class Input(TypedDict, total=False):
    branch: Branch
    expected_head_oid: str
    message: CommitMessage
    file_changes: FileChanges | None
    client_mutation_id: str | None


@dataclass
class CommitPayload:
    type_name: ClassVar = "CreateCommitOnBranchPayload"
    commit: CommitNode
    ref: RefNode
    client_mutation_id: str | None


@dataclass
class _Folder:
    """Edits of one directory: files to write (None: to delete) and edits further down."""

    files: dict[str, str | None] = field(default_factory=dict)
    folders: dict[str, "_Folder"] = field(default_factory=dict)


async def create_commit_on_branch(call: Call, input: Input) -> CommitPayload:  # noqa: A002
    """Resolve the mutation. Cancelled before the swap, it leaves only unreachable objects."""
    ref = _branch_ref(call, input["branch"])
    check_may_write(call)
    head = call.ref(ref) if ref else None
    if ref is None or head is None:
        raise catalogue.BRANCH_NOT_FOUND.error()
    expected = input["expected_head_oid"]
    repository = call.repository
    if not repository.is_commit(expected) or not call.sees(expected):
        raise catalogue.EXPECTED_HEAD_UNKNOWN.error(oid=expected)
    if repository.ref(ref) != expected:
        raise catalogue.STALE_DATA.error(expected=expected)
    message = _message(input["message"])
    changes = input.get("file_changes") or {}
    additions, deletions = changes.get("additions") or (), changes.get("deletions") or ()
    _check_paths(additions, deletions, call)
    _check_protection(call, additions)
    base = repository.commit(expected).tree
    _check_deletions(repository, base, expected, deletions, call)
    edits = await _write_blobs(repository, additions, deletions)
    tree = _apply(repository, base, edits, "") or repository.empty_tree()
    oid = repository.write_commit(_raw_commit(tree, expected, call.identity, message))
    await swap(call, ref, oid, expected)
    return CommitPayload(
        CommitNode(oid, call.hosting),
        RefNode(ref, oid, call.hosting),
        input.get("client_mutation_id"),
    )


async def swap(call: Call, ref: str, new: str, expected: str) -> None:
    """Move the branch and announce it, or raise GitHub's error for a branch that moved."""
    moved = call.draw.take("ref_moved")
    if moved:
        land_other_commit(call, ref, moved.files)
    deadline = time.monotonic() + LOCK_PATIENCE
    while True:
        try:
            call.repository.swap(ref, new, expected)
        except RefMoved as error:
            raise catalogue.REF_MOVED.error(
                ref=ref, actual=error.actual, expected=expected
            ) from error
        except RefLocked as error:
            if time.monotonic() > deadline:
                raise catalogue.SOMETHING_WENT_WRONG_OLD.error(id=call.request_id) from error
            await asyncio.sleep(0.002)
            continue
        # No await between the swap and the news of it, so both happen or neither does.
        call.hosting.moved(ref, new, call.identity)
        return


def land_other_commit(call: Call, ref: str, files: Mapping[str, str]) -> str:
    """Another writer's commit, made on the spot: what a race looks like from the loser's side."""
    repository = call.repository
    head = repository.ref(ref)
    if head is None:
        raise catalogue.BRANCH_NOT_FOUND.error()
    edits = _Folder()
    for path, text in files.items():
        _place(edits, path, repository.write_blob(text.encode()))
    other = Identity("someone-else", name="Someone Else", id=1002)
    tree = _apply(repository, repository.commit(head).tree, edits, "") or repository.empty_tree()
    oid = repository.write_commit(_raw_commit(tree, head, other, "Another writer was faster"))
    repository.swap(ref, oid, head)
    call.hosting.moved(ref, oid, other)
    return oid


def check_may_write(call: Call) -> None:
    """What stops every write to the repository, whatever it contains."""
    if call.draw.take("saml"):
        raise catalogue.SAML.error()
    fault = call.draw.take("forbidden")
    if fault is not None or not call.identity.may_write:
        is_app = call.identity.credential == "integration"
        refusal = catalogue.FORBIDDEN_INTEGRATION if is_app else catalogue.FORBIDDEN_PAT
        error = refusal.error()
        error.message = (fault.message if fault else None) or error.message
        raise error
    if call.hosting.archived or call.draw.take("repository_archived"):
        raise catalogue.ARCHIVED.error()


def _check_protection(call: Call, additions: Sequence[Addition]) -> None:
    if fault := call.draw.take("branch_protection"):
        error = catalogue.BRANCH_PROTECTION.error()
        error.message = fault.message or error.message
        raise error
    fault = call.draw.take("ruleset")
    words = (fault.containing or "").encode() if fault else b""
    if fault and (not words or any(words in addition["contents"] for addition in additions)):
        rule = fault.message or "Changes must be made through a pull request."
        raise catalogue.RULESET.error(rule=rule)


def _branch_ref(call: Call, branch: Branch) -> str | None:
    """The full ref that the input means; None when that branch cannot exist."""
    id_ = branch.get("id")
    name, branch_name = branch.get("repository_name_with_owner"), branch.get("branch_name")
    if (id_ is None) == (name is None and branch_name is None):
        raise catalogue.BRANCH_AMBIGUOUS.error()
    if id_ is not None:
        kind, key = from_global_id(id_) or ("", "")
        if kind != "ref":
            raise catalogue.NODE_NOT_FOUND.error(id=id_)
        find_repository(call, call.hosting.name)
        return key if key.startswith("refs/heads/") else None
    if not name or not branch_name:
        raise catalogue.BRANCH_AMBIGUOUS.error()
    find_repository(call, name)
    return "refs/heads/" + branch_name.removeprefix("refs/heads/")


def _message(message: CommitMessage) -> str:
    headline, body = message["headline"], message.get("body")
    if not headline.strip():
        raise catalogue.HEADLINE_EMPTY.error()
    return f"{headline}\n\n{body}" if body else headline


def _check_paths(additions: Sequence[Addition], deletions: Sequence[Deletion], call: Call) -> None:
    seen: set[str] = set()
    for path in (change["path"] for change in (*additions, *deletions)):
        if path in seen:
            raise catalogue.PATH_DUPLICATE.error(path=path)
        seen.add(path)
    for addition in additions:
        path = addition["path"]
        segments = path.split("/")
        if "\0" in path or any(
            segment in ("", ".", "..") or segment.lower() == ".git" for segment in segments
        ):
            raise catalogue.PATH_MALFORMED.error(path=path)
    for deletion in deletions:
        if not deletion["path"] or deletion["path"].endswith("/"):
            raise catalogue.SOMETHING_WENT_WRONG_OLD.error(id=call.request_id)


def _check_deletions(
    repository: Repository, base: str, head: str, deletions: Sequence[Deletion], call: Call
) -> None:
    for deletion in deletions:
        entry = repository.entry(base, deletion["path"])
        if entry is None:
            raise catalogue.DELETION_MISSING.error(head=head)
        if entry.type == "tree":
            # GitHub says "try again" here, although it will never succeed.
            raise catalogue.SOMETHING_WENT_WRONG_OLD.error(id=call.request_id)


async def _write_blobs(
    repository: Repository, additions: Sequence[Addition], deletions: Sequence[Deletion]
) -> _Folder:
    edits = _Folder()
    for deletion in deletions:
        _place(edits, deletion["path"], None)
    breath = Breath()
    for addition in additions:
        _place(edits, addition["path"], repository.write_blob(addition["contents"]))
        await breath.take()
    return edits


def _place(edits: _Folder, path: str, oid: str | None) -> None:
    *parents, name = path.split("/")
    for parent in parents:
        edits = edits.folders.setdefault(parent, _Folder())
    edits.files[name] = oid


def _apply(repository: Repository, tree: str | None, edits: _Folder, at: str) -> str | None:
    """The tree after the edits; None when nothing is left in it, for git has no empty folders."""
    touched = [name.encode() for name in (*edits.folders, *edits.files)]
    before = {name: entry for name in touched if tree and (entry := repository.child(tree, name))}
    after: dict[str, Entry | None] = {}
    for name, folder in edits.folders.items():
        old = before.get(name.encode())
        if old is not None and old.mode != MODE_TREE and name not in edits.files:
            raise catalogue.PATH_COLLISION.error(path=at + name)
        below = old.oid if old is not None and old.mode == MODE_TREE else None
        oid = _apply(repository, below, folder, f"{at}{name}/")
        if oid and edits.files.get(name) is not None:
            raise catalogue.PATH_COLLISION.error(path=at + name)
        after[name] = Entry(MODE_TREE, name.encode(), oid) if oid else None
    for name, blob in edits.files.items():
        old = before.get(name.encode())
        if blob is None:
            after.setdefault(name, None)
            continue
        if old is not None and old.mode == MODE_TREE and not _emptied(after, name):
            raise catalogue.PATH_COLLISION.error(path=at + name)
        # An overwritten file keeps its mode; a new one is never executable.
        keeps = old is not None and old.mode not in (MODE_TREE, MODE_SUBMODULE)
        after[name] = Entry(old.mode if old and keeps else MODE_FILE, name.encode(), blob)
    return repository.edit_tree(tree, after)


def _emptied(after: Mapping[str, Entry | None], name: str) -> bool:
    """Whether this very commit deletes everything in the folder that a file is to replace."""
    return name in after and after[name] is None


def _raw_commit(tree: str, parent: str, author: Identity, message: str) -> bytes:
    """The commit object. Its signature is made up, which makes each commit's oid unforeseeable."""
    now = f"{int(time.time())} +0000"
    signature = base64.b64encode(secrets.token_bytes(48)).decode()
    return (
        f"tree {tree}\n"
        f"parent {parent}\n"
        f"author {_plain(author.display_name)} <{_plain(author.commit_email)}> {now}\n"
        f"committer GitHub <{GITHUB_EMAIL}> {now}\n"
        f"gpgsig -----BEGIN PGP SIGNATURE-----\n \n {signature}\n -----END PGP SIGNATURE-----\n"
        f"\n{message}"
    ).encode()


def _plain(text: str) -> str:
    """Names without the characters that would end them in a commit object."""
    return "".join(char for char in text if char not in "<>\n\0")
