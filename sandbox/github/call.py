"""One API request while it is being answered: what every resolver may ask for."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from sandbox.github.catalogue import GitHubError
from sandbox.github.faults import Draw
from sandbox.github.hosting import Hosting
from sandbox.github.identity import Identity
from sandbox.github.limits import Budget
from sandbox.github.repository import Repository


def new_request_id() -> str:
    """In the shape of GitHub's, for instance `C0DE:2F3B:1A2B3C:4D5E6F:65A1B2C3`."""
    return ":".join(secrets.token_hex(size).upper() for size in (2, 2, 3, 3, 4))


@dataclass
class Call:
    """Who asks, about which repository, with which faults; and what it costs."""

    hosting: Hosting
    identity: Identity
    draw: Draw
    request_id: str
    budget: Budget
    cost: int = 1
    node_count: int = 0
    errors_beside: list[GitHubError] = field(default_factory=list)
    """Errors to report although the field that they belong to was answered."""

    @property
    def repository(self) -> Repository:
        return self.hosting.repository

    @cached_property
    def stale_refs(self) -> Mapping[str, str]:
        """Where this request's replica believes refs to be; empty for one that is up to date."""
        fault = self.draw.take("lagging_head")
        if fault is None:
            return {}
        if fault.stale_head is not None:
            return {self.hosting.head_ref: fault.stale_head}
        return self.hosting.refs_ago(fault.ms / 1000)

    def ref(self, name: str) -> str | None:
        """Where a ref points, as far as this request can see."""
        actual = self.repository.ref(name)
        return self.stale_refs.get(name, actual) if actual is not None else None

    def sees(self, oid: str) -> bool:
        """Whether the replica has a commit already. Trees and blobs of it are not hidden."""
        stale = self.stale_refs.get(self.hosting.head_ref)
        if stale is None or not self.repository.is_commit(oid):
            return True
        return self.repository.reaches(stale, oid) or not self._is_news(oid, stale)

    def _is_news(self, oid: str, stale: str) -> bool:
        """Commits that came to the branch after the replica stopped following."""
        head = self.hosting.head()
        return head is not None and head != stale and self.repository.reaches(head, oid)
