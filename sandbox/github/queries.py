"""The root of queries, the repository and its refs.

As in `objects`: a class is a GraphQL type, an attribute or method one of its fields.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from sandbox.github import catalogue
from sandbox.github.call import Call
from sandbox.github.catalogue import GitHubError
from sandbox.github.connections import Connection, Page, slice_page
from sandbox.github.hosting import Hosting, from_global_id, global_id
from sandbox.github.identity import Identity
from sandbox.github.objects import (
    CommitNode,
    GitObjectNode,
    TagNode,
    UserNode,
    git_object,
    iso,
)

COMPARISON_LIMIT = 250
"""Commits that a comparison lists at most."""


def find_repository(call: Call, name: str, *, follow_renames: bool = True) -> "RepositoryNode":
    """The repository of that name, or GitHub's error: invisible and absent look the same."""
    renamed = call.draw.take("repository_renamed")
    new_name = renamed.name or f"{call.hosting.name}-renamed" if renamed else call.hosting.name
    known = call.hosting.answers_to(name, follow_renames=follow_renames)
    if renamed:
        known = name.lower() == new_name.lower() or (known and follow_renames)
    if not known or not call.identity.may_read or call.draw.take("repository_missing"):
        raise catalogue.REPOSITORY_NOT_FOUND.error(name=name)
    return RepositoryNode(call.hosting, new_name)


class RateLimitNode:
    type_name: ClassVar = "RateLimit"

    def __init__(self, call: Call) -> None:
        self.cost = call.cost
        self.node_count = call.node_count
        self.limit = call.budget.limit
        self.remaining = call.budget.remaining
        self.used = call.budget.used
        self.reset_at = call.budget.reset_at


class ComparisonNode:
    type_name: ClassVar = "Comparison"

    def __init__(self, base: str, head: str, hosting: Hosting) -> None:
        self.id = global_id("comparison", f"{base}...{head}")
        self.ahead_by, self.behind_by = hosting.repository.ahead_behind(base, head)
        self._base, self._head, self._hosting = base, head, hosting

    @property
    def status(self) -> str:
        if self.ahead_by and self.behind_by:
            return "DIVERGED"
        if self.ahead_by:
            return "AHEAD"
        return "BEHIND" if self.behind_by else "IDENTICAL"

    @property
    def base_target(self) -> CommitNode:
        return CommitNode(self._base, self._hosting)

    @property
    def head_target(self) -> CommitNode:
        return CommitNode(self._head, self._hosting)

    def commits(
        self,
        _call: Call,
        first: int | None = None,
        last: int | None = None,
        after: str | None = None,
        before: str | None = None,
    ) -> "ComparisonCommits":
        page = Page("commits", first, last, after, before)
        oids = self._hosting.repository.between(self._base, self._head, COMPARISON_LIMIT)
        nodes = [CommitNode(oid, self._hosting) for oid in oids]
        found = slice_page(nodes, page, self._head)
        return ComparisonCommits(found, len({node.data.author.email for node in nodes}))


class ComparisonCommits(Connection[CommitNode]):
    def __init__(self, found: Connection[CommitNode], authors: int) -> None:
        super().__init__(found.nodes, found.offset, found.total, found.prefix)
        self.author_count = authors


class RefNode:
    type_name: ClassVar = "Ref"

    def __init__(self, name: str, oid: str, hosting: Hosting) -> None:
        self.id = global_id("ref", name)
        self.oid = oid
        self.qualified_name = name
        self.prefix = "/".join(name.split("/")[:2]) + "/"
        self.name = name.removeprefix(self.prefix)
        self.hosting = hosting

    @property
    def target(self) -> GitObjectNode | None:
        return git_object(self.oid, self.hosting)

    def _commit(self, oid: str) -> str | None:
        target = git_object(oid, self.hosting)
        while isinstance(target, TagNode):
            target = target.target
        return target.oid if isinstance(target, CommitNode) else None

    def compare(self, call: Call, head_ref: str) -> ComparisonNode | None:
        name = call.repository.qualify(head_ref)
        there = call.ref(name) if name else call.repository.revision(head_ref, self.qualified_name)
        base, head = self._commit(self.oid), self._commit(there) if there else None
        return ComparisonNode(base, head, self.hosting) if base and head else None


class RepositoryNode:
    type_name: ClassVar = "Repository"
    is_disabled = False
    is_private = True

    def __init__(self, hosting: Hosting, name: str) -> None:
        self.hosting = hosting
        self.id = global_id("repository", hosting.name)
        self.database_id = 4_200_001
        self.name_with_owner = name
        self.name = name.split("/")[1]
        self.resource_path = f"/{name}"
        self.url = f"{hosting.url}/{name}"
        self.created_at = iso(hosting.created_at)
        self.pushed_at = iso(hosting.pushed_at) if hosting.pushed_at else self.created_at
        self.updated_at = self.pushed_at
        self.web_commit_signoff_required = hosting.web_commit_signoff

    def is_archived(self, call: Call) -> bool:
        return self.hosting.archived or call.draw.take("repository_archived") is not None

    def is_empty(self, call: Call) -> bool:
        return not call.repository.refs("refs/heads/")

    def owner(self, call: Call) -> UserNode:
        return UserNode(Identity(self.name_with_owner.split("/")[0], id=77), call.hosting.url)

    def viewer_permission(self, call: Call) -> str | None:
        return call.identity.permission

    def default_branch_ref(self, call: Call) -> RefNode | None:
        return self._ref(call, self.hosting.head_ref)

    def ref(self, call: Call, qualified_name: str) -> RefNode | None:
        name = call.repository.qualify(qualified_name)
        return self._ref(call, name) if name else None

    def _ref(self, call: Call, name: str) -> RefNode | None:
        oid = call.ref(name)
        return RefNode(name, oid, self.hosting) if oid else None

    def refs(  # noqa: PLR0917 - GitHub's arguments
        self,
        call: Call,
        ref_prefix: str,
        first: int | None = None,
        last: int | None = None,
        after: str | None = None,
        before: str | None = None,
        query: str | None = None,
        direction: str | None = None,
        order_by: Mapping[str, str] | None = None,
    ) -> Connection[RefNode]:
        # Ordering by the date of tags is not offered; names are what one looks for here.
        page = Page("refs", first, last, after, before)
        names = [name for name in call.repository.refs(ref_prefix) if not query or query in name]
        if "DESC" in (direction, (order_by or {}).get("direction")):
            names.reverse()
        nodes = [node for name in names if (node := self._ref(call, name))]
        return slice_page(nodes, page, ref_prefix)

    def object(
        self, call: Call, expression: str | None = None, oid: str | None = None
    ) -> GitObjectNode | None:
        """Null, without an error, for whatever does not exist."""
        if oid is not None:
            return git_object(oid, self.hosting) if call.sees(oid) else None
        return self._resolve(call, expression) if expression else None

    def _resolve(self, call: Call, expression: str) -> GitObjectNode | None:
        rev, colon, path = expression.partition(":")
        oid = call.repository.revision(rev, self.hosting.head_ref, call.stale_refs) if rev else None
        if oid is None or not call.sees(oid):
            return None
        if not colon:
            return git_object(oid, self.hosting)
        tree = call.repository.peel(oid)
        if tree is None:
            return None
        if not path:
            return git_object(tree, self.hosting)
        entry = call.repository.entry(tree, path.removesuffix("/"))
        if entry is None or (path.endswith("/") and entry.type != "tree"):
            return None
        return git_object(entry.oid, self.hosting, path.removesuffix("/").encode())


class QueryRoot:
    type_name: ClassVar = "Query"
    id = global_id("query", "root")

    def repository(
        self,
        call: Call,
        owner: str,
        name: str,
        follow_renames: bool | None = True,
    ) -> RepositoryNode:
        return find_repository(call, f"{owner}/{name}", follow_renames=bool(follow_renames))

    def viewer(self, call: Call) -> UserNode:
        return UserNode(call.identity, call.hosting.url)

    def rate_limit(self, call: Call, dry_run: bool | None = False) -> RateLimitNode:  # noqa: ARG002
        return RateLimitNode(call)

    def node(self, call: Call, id: str) -> object:  # noqa: A002 - GitHub's argument
        found = self._node(call, id)
        if found is None:
            raise catalogue.NODE_NOT_FOUND.error(id=id)
        return found

    def nodes(self, call: Call, ids: Sequence[str]) -> list[object]:
        """Unknown ids are errors in their places; the others are answered."""
        if len(ids) > 100:
            raise catalogue.TOO_MANY_IDS.error(count=len(ids))
        return [self._node(call, id_) or _unknown_node(id_) for id_ in ids]

    def _node(self, call: Call, id_: str) -> object | None:
        kind, key = from_global_id(id_) or ("", "")
        if not call.identity.may_read and kind != "user":
            return None
        if kind == "repository" and call.hosting.answers_to(key):
            return find_repository(call, key)
        if kind == "ref" and (oid := call.ref(key)):
            return RefNode(key, oid, call.hosting)
        if kind == "user":
            users = (call.identity, *call.hosting.users.values())
            user = next((user for user in users if user.login == key), None)
            return UserNode(user, call.hosting.url) if user else None
        if kind in ("commit", "tree", "blob", "tag") and call.sees(key):
            return git_object(key, call.hosting)
        return None


def _unknown_node(id_: str) -> GitHubError:
    return catalogue.NODE_NOT_FOUND.error(id=id_)
