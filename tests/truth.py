"""What git says to the queries of the contract, at the commit that an answer names.

An answer claims to be true for a commit. So whatever failed on the way to it, it can be judged:
by `git ls-tree` and `git cat-file` at that commit, and by no other answer of the gateway.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from api.documents import Collection, Priority, Project, Session, project_key, project_keys
from api.documents.listing import Indexed
from tests.clone import git
from tests.sync.conftest import LAYOUT
from tests.sync.oracle import documents_at

LEVELS = ("CACHE", "MASTER", "VERIFIED")
DRILL = "autosaves/2026/11/autosave_2026-11-17_outage-drill.md"
ROOM = "autosaves/projects/reading-room.md"
GARDEN = "autosaves/projects/kitchen-garden.md"
SEEDS = "autosaves/priorities/order-seeds.md"
CLOCK = 0.01  # seconds by which sums of floats may be off

TOLD = "provenance { source commit asOf ageSeconds stale fallback verification }"
_DOCUMENT = "__typename id path revision title markdown bytes unreadable"
_PROJECT = f"project {{ id name {TOLD} }}"
_OWN = {
    "session": f"{_DOCUMENT} occurredAt status priority agent tags {_PROJECT} {TOLD}",
    "priority": f"{_DOCUMENT} rank status dueOn {_PROJECT} {TOLD}",
    "project": f"{_DOCUMENT} name status rank {TOLD} sessions(first: 2) {{ totalCount {TOLD}"
    f" pageInfo {{ hasNextPage hasPreviousPage }} nodes {{ id title {_PROJECT} {TOLD} }} }}",
}
_TRUST = "$consistency: Consistency! = CACHE, $atLeast: GitObjectID, $maxStaleness: Int"
_TRUSTING = "consistency: $consistency, atLeast: $atLeast, maxStaleness: $maxStaleness"
_PAGE = f"totalCount {TOLD} pageInfo {{ hasNextPage hasPreviousPage startCursor endCursor }}"

Where = Mapping[str, Any]  # a SessionFilter


@dataclass(frozen=True)
class Shown:
    """The documents of one commit, as git shows them."""

    documents: Mapping[str, Indexed]

    def sessions(self, where: Where | None = None, order: str = "OCCURRED_AT_DESC") -> list[str]:
        """The paths of a list, in its order."""
        found = [
            (s.occurred_at or datetime(1, 1, 1, tzinfo=UTC) if order != "PATH_ASC" else 0, path)
            for path, item in self.documents.items()
            if isinstance(s := item.document, Session) and self._matches(s, where or {})
        ]
        return [path for _, path in sorted(found, reverse=order.endswith("DESC"))]

    def ranked(self, collection: Collection) -> list[str]:
        found = [
            (d.rank is None, d.rank or 0, path)
            for path, item in self.documents.items()
            if item.collection is collection and isinstance(d := item.document, Project | Priority)
        ]
        return [path for *_, path in sorted(found)]

    def document(self, path: str) -> Any:
        """All that a query asks of one document; null if it is not there."""
        if path not in self.documents:
            return None
        item = self.documents[path]
        common = {
            "__typename": type(item.document).__name__,
            "id": path,
            "path": path,
            "revision": item.document.revision,
            "title": item.document.title,
            "markdown": item.markdown or "",
            "bytes": item.document.bytes,
            "unreadable": item.unreadable,
        }
        match item.document:
            case Session() as s:
                return common | {
                    "occurredAt": s.occurred_at and _written(s.occurred_at),
                    "status": s.status,
                    "priority": s.priority,
                    "agent": s.agent,
                    "tags": list(s.tags),
                    "project": self._named(path),
                }
            case Priority() as p:
                due = p.due_on and p.due_on.isoformat()
                return common | {
                    "rank": p.rank,
                    "status": p.status,
                    "dueOn": due,
                    "project": self._named(path),
                }
            case Project() as p:
                return common | {
                    "name": p.name,
                    "status": p.status,
                    "rank": p.rank,
                    "sessions": self._sessions_of(path),
                }

    def project_of(self, path: str) -> str | None:
        """The project that a document names. Of several that answer to it the first by path."""
        document = self.documents[path].document
        written = None if isinstance(document, Project) else document.project
        if not written:
            return None
        for owner in sorted(self.documents):
            project = self.documents[owner].document
            if isinstance(project, Project) and project_key(written) in project_keys(project):
                return owner
        return None

    def _named(self, path: str) -> Any:
        owner = self.project_of(path)
        project = self.documents[owner].document if owner else None
        return {"id": owner, "name": project.name} if isinstance(project, Project) else None

    def _sessions_of(self, project: str) -> Any:
        paths = self.sessions({"project": project})
        return {
            "totalCount": len(paths),
            "pageInfo": {"hasNextPage": len(paths) > 2, "hasPreviousPage": False},
            "nodes": [
                {
                    "id": path,
                    "title": self.documents[path].document.title,
                    "project": self._named(path),
                }
                for path in paths[:2]
            ],
        }

    def _matches(self, session: Session, where: Where) -> bool:
        for name, wanted in where.items():
            match name:
                case "project":
                    holds = self.project_of(session.path) == wanted
                case "titleContains":
                    holds = wanted.casefold() in session.title.casefold()
                case "tag":
                    holds = wanted in session.tags
                case _:
                    holds = getattr(session, name) == wanted
            if not holds:
                return False
        return True


@dataclass(frozen=True)
class Question:
    """A query of the contract, and what git says to it."""

    name: str
    text: str
    says: Callable[[Shown], Any]
    variables: Mapping[str, Any] = field(default_factory=dict)


def one(kind: str, path: str) -> Question:
    """`session`, `project` or `priority`, by its id."""
    return Question(
        f"{kind} {path}",
        f"query One($id: ID!, {_TRUST})"
        f" {{ asked: {kind}(id: $id, {_TRUSTING}) {{ {_OWN[kind]} }} }}",
        lambda shown: shown.document(path),
        {"id": path},
    )


def node(kind: str, path: str) -> Question:
    """Any document by its id; it is asked for what a `kind` has."""
    return Question(
        f"node {path}",
        "query Any($id: ID!, $consistency: Consistency! = CACHE) { asked: node(id: $id, "
        f"consistency: $consistency) {{ ... on {kind.capitalize()} {{ {_OWN[kind]} }} }} }}",
        lambda shown: shown.document(path),
        {"id": path},
    )


def page(
    where: Where | None = None,
    order: str = "OCCURRED_AT_DESC",
    *,
    titles: bool = False,
    **size: int,
) -> Question:
    """A page of sessions: its beginning (`first`) or its end (`last`). With or without texts."""
    asked = "id title" if titles else _OWN["session"]

    def says(shown: Shown) -> Any:
        paths = shown.sessions(where, order)
        first, last = size.get("first"), size.get("last")
        inside = paths[max(0, len(paths) - last) :] if last is not None else paths[:first]
        nodes = [shown.document(path) for path in inside]
        if titles:
            nodes = [{"id": node["id"], "title": node["title"]} for node in nodes]
        is_cut = len(inside) < len(paths)
        return {
            "totalCount": len(paths),
            "pageInfo": {
                "hasNextPage": is_cut and last is None,
                "hasPreviousPage": is_cut and last is not None,
            },
            "edges": [{"node": node} for node in nodes],
        }

    return Question(
        f"sessions {dict(where or {})} {order} {size}",
        "query Page($first: Int, $last: Int, $where: SessionFilter, $order: SessionOrder!,"
        f" {_TRUST}) {{ asked: sessions(first: $first, last: $last, where: $where, orderBy: $order,"
        f" {_TRUSTING}) {{ {_PAGE} edges {{ cursor node {{ {asked} }} }} }} }}",
        says,
        {"where": where, "order": order, **size},
    )


def ranked(collection: Collection) -> Question:
    """Projects or priorities, all that fit."""
    kind = "project" if collection is Collection.PROJECTS else "priority"

    def says(shown: Shown) -> Any:
        nodes = [shown.document(path) for path in shown.ranked(collection)]
        return {
            "totalCount": len(nodes),
            "pageInfo": {"hasNextPage": False, "hasPreviousPage": False},
            "edges": [{"node": node} for node in nodes],
        }

    return Question(
        collection.value,
        f"query All({_TRUST}) {{ asked: {collection.value}(first: 100, {_TRUSTING})"
        f" {{ {_PAGE} edges {{ cursor node {{ {_OWN[kind]} }} }} }} }}",
        says,
    )


QUESTIONS: Sequence[Question] = (
    one("session", DRILL),
    one("session", "autosaves/nothing.md"),
    one("project", ROOM),
    one("priority", SEEDS),
    node("session", DRILL),
    node("project", GARDEN),
    node("priority", SEEDS),
    page(first=4),
    page(None, "PATH_ASC", last=4),
    page({"project": ROOM}, "OCCURRED_AT_ASC", first=2),
    ranked(Collection.PROJECTS),
    ranked(Collection.PRIORITIES),
)
"""Every query of the contract that has a provenance, over the sample documents."""


@dataclass(frozen=True)
class Told:
    """A provenance."""

    source: str
    commit: str
    stale: bool
    fallback: str | None
    verification: str | None
    as_of: datetime
    age: float  # seconds

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> "Told":
        return cls(
            source=said["source"],
            commit=said["commit"],
            stale=said["stale"],
            fallback=said["fallback"],
            verification=said["verification"],
            as_of=datetime.fromisoformat(said["asOf"]),
            age=said["ageSeconds"],
        )

    @property
    def way(self) -> tuple[str, bool, str | None, str | None]:
        """Where it came from, and why: source, stale, fallback, verification."""
        return self.source, self.stale, self.fallback, self.verification


@dataclass(frozen=True)
class Reply:
    """What came back, when, and what it says of itself: `told` begins with the outermost."""

    question: Question
    content: Any
    told: Sequence[Told]
    errors: Sequence[Mapping[str, Any]]
    asked_at: datetime
    answered_at: datetime

    @property
    def codes(self) -> set[str]:
        return {error["extensions"]["code"] for error in self.errors}

    @property
    def commit(self) -> str:
        return self.told[0].commit


class Answers(Protocol):
    """What came back from a gateway, in this process or in another."""

    @property
    def data(self) -> Any: ...

    @property
    def errors(self) -> list[dict[str, Any]]: ...


class Answering(Protocol):
    async def ask(self, query: str, **variables: object) -> Answers: ...


async def put(system: Answering, question: Question, **trust: object) -> Reply:
    """Ask a question. `trust`: consistency, atLeast, maxStaleness, as far as it has them."""
    known = {name: value for name, value in trust.items() if f"${name}:" in question.text}
    asked_at = datetime.now(UTC)
    answer = await system.ask(question.text, **question.variables, **known)
    answered_at = datetime.now(UTC)
    content = (answer.data or {}).get("asked")
    told: list[Told] = []
    return Reply(
        question,
        _bare(content, told),
        told,
        answer.errors,
        asked_at=asked_at,
        answered_at=answered_at,
    )


def _bare(content: Any, told: list[Told]) -> Any:
    """What is said of documents, without what is said of the answer, which goes into `told`."""
    if isinstance(content, list):
        return [_bare(one, told) for one in content]
    if not isinstance(content, dict):
        return content
    if "provenance" in content:
        told.append(Told.of(content["provenance"]))
    if "startCursor" in (info := content.get("pageInfo", {})):
        cursors = [edge["cursor"] for edge in content["edges"]] or [None]
        assert (info["startCursor"], info["endCursor"]) == (cursors[0], cursors[-1])
    aside = {"provenance", "cursor", "startCursor", "endCursor"}
    return {name: _bare(value, told) for name, value in content.items() if name not in aside}


class Truth:
    """Git, in one repository."""

    def __init__(self, repository: Path) -> None:
        self.repository = repository
        self._shown: dict[str, Shown] = {}
        self._histories: dict[str, frozenset[str]] = {}

    def at(self, commit: str) -> Shown:
        if commit not in self._shown:
            self._shown[commit] = Shown(documents_at(self.repository, commit, LAYOUT))
        return self._shown[commit]

    def history(self, commit: str) -> frozenset[str]:
        """The commit and all before it."""
        if commit not in self._histories:
            listed = git(self.repository, "rev-list", commit).decode().split()
            self._histories[commit] = frozenset(listed)
        return self._histories[commit]

    def check(self, reply: Reply) -> None:
        """An answer is what git shows at its commit, all of it at one, and tells a true age."""
        try:
            assert not reply.errors
            commits = {told.commit for told in reply.told}
            assert len(commits) <= 1, "it mixes commits"
            for commit in commits:
                assert reply.content == reply.question.says(self.at(commit))
            for told in reply.told:
                check_age(told, reply)
        except AssertionError as broken:
            broken.add_note(f"{reply.question.name}: {reply.told[:1]} {reply.errors}")
            raise


def check_age(told: Told, reply: Reply) -> None:
    """`ageSeconds` is counted when the answer is given, from an `asOf` that has been."""
    assert told.as_of <= reply.answered_at
    since = [(at - told.as_of).total_seconds() for at in (reply.asked_at, reply.answered_at)]
    assert max(0.0, since[0]) - CLOCK <= told.age <= since[1] + CLOCK


def _written(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
