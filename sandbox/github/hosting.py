"""The repository as GitHub hosts it: its name, its users, and the news of its refs."""

import base64
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sandbox.github.identity import Identity
from sandbox.github.repository import Repository

NO_OID = "0" * 40


@dataclass(frozen=True)
class Push:
    """A ref that moved, was created or deleted, whoever did it."""

    ref: str
    before: str
    after: str
    pusher: Identity


@dataclass
class Hosting:
    """One hosted repository.

    A ledger of refs says what was already announced, so that a move is announced once, whether
    it was made through the API (which reports it at once) or by a git process (which is noticed
    by comparing).
    """

    repository: Repository
    name: str
    """`owner/name`, the one it is known by."""
    branch: str
    url: str = ""
    """Where this server is reached; filled in when it has a port."""
    archived: bool = False
    web_commit_signoff: bool = False
    former_names: tuple[str, ...] = ()
    users: Mapping[str, Identity] = field(default_factory=dict)
    """Known users by the email of their commits."""
    pusher: Identity = field(default_factory=lambda: Identity("git-user", name="Git User"))
    """Pushes over git carry no token here, so all are this user's."""
    on_push: Callable[[Push], None] | None = None
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))
    pushed_at: datetime | None = None
    _refs: dict[str, str] = field(default_factory=dict)
    _moves: deque[tuple[float, str, str | None]] = field(default_factory=lambda: deque(maxlen=4096))

    def __post_init__(self) -> None:
        self._refs = self.repository.refs()

    @property
    def owner(self) -> str:
        return self.name.split("/")[0]

    @property
    def short_name(self) -> str:
        return self.name.split("/")[1]

    @property
    def head_ref(self) -> str:
        return f"refs/heads/{self.branch}"

    def head(self) -> str | None:
        return self.repository.ref(self.head_ref)

    def answers_to(self, name: str, *, follow_renames: bool = True) -> bool:
        """GitHub compares names without regard to case and remembers former ones."""
        names = (self.name, *self.former_names) if follow_renames else (self.name,)
        return name.lower() in (known.lower() for known in names)

    def moved(self, ref: str, after: str, pusher: Identity) -> None:
        """Announce a move that the API just made; call it with no await after the move."""
        before = self._refs.get(ref, NO_OID)
        self._announce(ref, before, after, pusher)

    def observe(self) -> None:
        """Announce whatever moved without the API: a `git push`, however it came."""
        now = self.repository.refs()
        for ref in [ref for ref in self._refs if ref not in now]:
            self._announce(ref, self._refs[ref], NO_OID, self.pusher)
        for ref, oid in now.items():
            before = self._refs.get(ref, NO_OID)
            if before != oid:
                self._announce(ref, before, oid, self.pusher)

    def _announce(self, ref: str, before: str, after: str, pusher: Identity) -> None:
        old = None if before == NO_OID else before
        new = None if after == NO_OID else after
        if not any(known == ref for _, known, _ in self._moves):
            self._moves.append((0.0, ref, old))
        self._moves.append((time.monotonic(), ref, new))
        if new is None:
            self._refs.pop(ref, None)
        else:
            self._refs[ref] = new
        self.pushed_at = datetime.now(UTC).replace(microsecond=0)
        if self.on_push is not None and ref.startswith(("refs/heads/", "refs/tags/")):
            self.on_push(Push(ref, before, after, pusher))

    def refs_ago(self, seconds: float) -> dict[str, str]:
        """Where moved refs pointed some time ago, as a replica that lags would say."""
        then = time.monotonic() - seconds
        return {ref: oid for when, ref, oid in self._moves if when <= then and oid is not None}


# Global ids are opaque to clients. These are short, recognisable, and lead back to the object.

_PREFIXES = {"repository": "R", "user": "U", "ref": "REF", "commit": "C", "tree": "T", "blob": "B"}


def global_id(kind: str, key: str) -> str:
    prefix = _PREFIXES.get(kind, "O")
    return f"{prefix}_kg{base64.urlsafe_b64encode(f'{kind}:{key}'.encode()).decode().rstrip('=')}"


def from_global_id(value: str) -> tuple[str, str] | None:
    """The kind and key of an id that `global_id` made; None for anything else."""
    prefix, _, encoded = value.partition("_kg")
    try:
        padded = encoded + "=" * (-len(encoded) % 4)
        kind, separator, key = base64.urlsafe_b64decode(padded).decode().partition(":")
    except ValueError:
        return None
    return (kind, key) if separator and global_id(kind, key) == f"{prefix}_kg{encoded}" else None
