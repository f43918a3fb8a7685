"""What is asked: documents to ask for, the queries, and their variables. Pure.

Where `load.SLOT` stands, each request has another number, so that no two are alike.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import orjson

from api.documents.listing import Order, cursor_at
from tests.bench.documents import YEARS, Written, body
from tests.bench.load import SLOT

TOPICS = ("backup", "billing", "cache", "deploy", "search", "очередь", "память", "релиз")
STATUSES = ("active", "active", "done", "paused")
AGENTS = ("claude", "copilot", "gemini")
TAGS = ("api", "infra", "research", "ui")
RARE = "albatross"  # in twenty titles, however many there are
DIFFERENT = 10_000  # variables made in advance; with the slot, none is ever sent twice
PLACES = 20  # projects, and priorities

_M = "maxStaleness: $maxStaleness"
FIELDS = "path title status priority agent occurredAt tags revision"
QUERIES = {
    "document": "query Document($id: ID!, $maxStaleness: Int) "
    f"{{ session(id: $id, maxStaleness: $maxStaleness) {{ {FIELDS} markdown }} }}",
    "page": "query Page($first: Int!, $after: String, $maxStaleness: Int) "
    "{ sessions(first: $first, after: $after, maxStaleness: $maxStaleness) "
    f"{{ nodes {{ {FIELDS} }} }} }}",
    "filtered": "query Filtered($first: Int!, $after: String, $where: SessionFilter, "
    "$maxStaleness: Int) { sessions(first: $first, after: $after, where: $where, "
    f"maxStaleness: $maxStaleness) {{ nodes {{ {FIELDS} }} }} }}",
}
POSTGRAPHILE = (
    "query Page($first: Int!, $after: Cursor) { allSessions(first: $first, after: $after, "
    f"orderBy: [OCCURRED_KEY_DESC, PATH_DESC]) {{ nodes {{ {FIELDS} }} }} }}"
)
POSTGRAPHILE_CURSORS = (
    "query Cursors($first: Int!) { allSessions(first: $first, "
    "orderBy: [OCCURRED_KEY_DESC, PATH_DESC]) { edges { cursor node { path occurredAt } } } }"
)
CREATE = (
    "mutation Create($title: String!, $markdown: String!) { createSession(input: "
    "{title: $title, markdown: $markdown}) { session { id revision } commit { oid } cache } }"
)


@dataclass(frozen=True, slots=True)
class Library:
    """What there is to be asked for, as paths. `hot` are sessions with a body in the cache."""

    hot: Sequence[str]
    cold: Sequence[str]
    projects: Sequence[str]
    priorities: Sequence[str]
    head: str


@dataclass(frozen=True, slots=True)
class Question:
    """A query of the contract, with the variables that it is asked with in turn."""

    name: str
    query: str
    variables: Sequence[Mapping[str, object]]

    @property
    def bodies(self) -> bytes:
        return bodies(self.query, self.variables)


def written(size: int) -> Written:
    """Sessions with all metadata. Their shares are the same for any size."""

    def session(n: int, day: date, chance: random.Random) -> bytes:
        title = f"{chance.choice(TOPICS)} and {chance.choice(TOPICS)}, session {n}"
        if n % max(1, size // 20) == 0:
            title += f" {RARE}"
        at = f"{day}T{chance.randrange(24):02}:{chance.randrange(60):02}:{chance.randrange(60):02}Z"
        return (
            f"---\ntitle: {title}\ndate: {at}\nproject: Project {chance.randrange(PLACES)}\n"
            f"status: {chance.choice(STATUSES)}\npriority: {chance.choice(('high', 'low'))}\n"
            f"agent: {chance.choice(AGENTS)}\ntags: [{', '.join(chance.sample(TAGS, 2))}]\n---\n"
            f"# {title}\n{body(chance)}\n"
        ).encode()

    return session


def projects_and_priorities() -> dict[str, bytes]:
    files = {}
    for n in range(PLACES):
        files[f"autosaves/projects/project-{n}.md"] = (
            f"---\nname: Project {n}\nrank: {n}\nstatus: active\n---\n# Project {n}\n".encode()
        )
        files[f"autosaves/priorities/priority-{n}.md"] = (
            f"---\nrank: {n}\nproject: Project {n}\n---\n# Priority {n}\n".encode()
        )
    return files


def bodies(query: str, variables: Sequence[Mapping[str, object]]) -> bytes:
    """A request's body in each line. The slot is filled where the query takes `maxStaleness`."""
    slot = {"maxStaleness": SLOT} if "$maxStaleness" in query else {}
    return b"\n".join(
        orjson.dumps({"query": query, "variables": {**each, **slot}}) for each in variables
    )


def different(library: Library) -> dict[str, list[dict[str, object]]]:
    """The variables of `QUERIES`, all of them others."""
    chance = random.Random(1)
    return {
        "document": [{"id": path} for path in library.hot],
        "page": [{"first": 20, "after": after(chance)} for _ in range(DIFFERENT)],
        "filtered": [
            {
                "first": 20,
                "after": after(chance),
                "where": {"status": "active", "titleContains": chance.choice(TOPICS)},
            }
            for _ in range(DIFFERENT)
        ],
    }


def at_level(what: str, level: str, variables: Sequence[Mapping[str, object]]) -> bytes:
    """One of `QUERIES`, or "cold" for a document, at a level of consistency."""
    query = QUERIES["document" if what == "cold" else what]
    return bodies(query.replace(_M, f"consistency: {level}, {_M}"), variables)


def repeated(query: str, variables: Mapping[str, object]) -> bytes:
    return orjson.dumps({"query": query, "variables": variables})


def literal_pages() -> bytes:
    """Pages whose variables stand in the text of the query, so that no two texts are alike."""
    chance = random.Random(2)
    queries = (
        f'{{ sessions(first: 20, after: "{after(chance)}", maxStaleness: {SLOT}) '
        f"{{ nodes {{ {FIELDS} }} }} }}"
        for _ in range(DIFFERENT)
    )
    return b"\n".join(orjson.dumps({"query": query}) for query in queries)


def creations(size: int) -> bytes:
    text = body(random.Random(size))
    return orjson.dumps(
        {"query": CREATE, "variables": {"title": f"Written {SLOT}", "markdown": text}}
    )


def cursor_of(path: str, occurred_at: str) -> str:
    return cursor_at(Order.OCCURRED_AT_DESC, (datetime.fromisoformat(occurred_at), path))


def after(chance: random.Random) -> str:
    """A cursor to a moment in the newer half, beyond which there is always a full page."""
    return cursor_at(Order.OCCURRED_AT_DESC, (_moment(chance), "autosaves/"))


def _moment(chance: random.Random) -> datetime:
    ago = timedelta(days=chance.uniform(1, YEARS * 365 / 2))
    return datetime.now(UTC) - ago


def contract(library: Library) -> list[Question]:
    """Each query of the contract that the cache answers, with what may make it slow.

    The same number of documents is found whatever the size, but for the totals.
    """
    chance = random.Random(3)
    sessions = [{"id": path} for path in library.hot[:20]]
    projects = [{"id": path} for path in library.projects]
    pages = [{"after": after(chance)} for _ in range(1000)]
    paths = [{"after": _at_path(chance)} for _ in range(1000)]
    oldest = [{"after": _oldest_first(chance)} for _ in range(1000)]
    nothing: list[dict[str, object]] = [{}]

    def where(condition: str) -> str:
        return f"sessions(after: $after, where: {{{condition}}}, {_M}) {{ nodes {{ {FIELDS} }} }}"

    one, page = f"session(id: $id, {_M})", f"sessions(after: $after, {_M})"
    nodes = f"nodes {{ {FIELDS} }}"
    return [
        _question("session", f"{one} {{ {FIELDS} }}", sessions),
        _question("session, body", f"{one} {{ {FIELDS} body }}", sessions),
        _question("session, project", f"{one} {{ title project {{ name }} }}", sessions),
        _question("node", "node(id: $id) { id ... on Session { title } }", sessions),
        _question("project", f"project(id: $id, {_M}) {{ name status rank }}", projects),
        _question(
            "project, sessions",
            f"project(id: $id, {_M}) {{ name sessions {{ nodes {{ title }} }} }}",
            projects,
        ),
        _question(
            "project, sessions, totalCount",
            f"project(id: $id, {_M}) {{ name sessions {{ totalCount nodes {{ title }} }} }}",
            projects,
        ),
        _question("projects", f"projects({_M}) {{ nodes {{ name status rank }} }}", nothing),
        _question(
            "projects, sessions of each",
            f"projects({_M}) {{ nodes {{ name sessions(first: 5) {{ nodes {{ title }} }} }} }}",
            nothing,
        ),
        _question(
            "priority",
            f"priority(id: $id, {_M}) {{ title rank }}",
            [{"id": path} for path in library.priorities],
        ),
        _question(
            "priorities, project",
            f"priorities({_M}) {{ nodes {{ title rank project {{ name }} }} }}",
            nothing,
        ),
        _question("sessions", f"{page} {{ {nodes} }}", pages),
        _question(
            "sessions, last",
            f"sessions(last: 20, before: $after, {_M}) {{ {nodes} }}",
            pages,
        ),
        _question(
            "sessions, 100", f"sessions(first: 100, after: $after, {_M}) {{ {nodes} }}", pages
        ),
        _question("sessions, totalCount", f"{page} {{ totalCount {nodes} }}", pages),
        _question("sessions, project", f"{page} {{ nodes {{ title project {{ name }} }} }}", pages),
        _question("sessions, excerpt", f"sessions({_M}) {{ nodes {{ title excerpt }} }}", nothing),
        _question(
            "sessions, provenance",
            f"{page} {{ provenance {{ commit ageSeconds }} pageInfo {{ endCursor }} {nodes} }}",
            pages,
        ),
        _question(
            "sessions, atLeast",
            f'sessions(after: $after, atLeast: "{library.head}", {_M}) {{ {nodes} }}',
            pages,
        ),
        _question(
            "sessions, OCCURRED_AT_ASC",
            f"sessions(after: $after, orderBy: OCCURRED_AT_ASC, {_M}) {{ {nodes} }}",
            oldest,
        ),
        _question(
            "sessions, PATH_ASC",
            f"sessions(after: $after, orderBy: PATH_ASC, {_M}) {{ {nodes} }}",
            paths,
        ),
        _question("status", where('status: "active"'), pages),
        _question("priority of sessions", where('priority: "high"'), pages),
        _question("agent", where('agent: "claude"'), pages),
        _question("tag", where('tag: "infra"'), pages),
        _question("project of sessions", where(f'project: "{library.projects[0]}"'), pages),
        _question(
            "from, to", where('from: "2000-01-01T00:00:00Z", to: "2100-01-01T00:00:00Z"'), pages
        ),
        _question("titleContains", where(f'titleContains: "{TOPICS[0]}"'), pages),
        _question("titleContains, 20 in all", _first_where(f'titleContains: "{RARE}"'), nothing),
        _question("titleContains, none", _first_where('titleContains: "walrus"'), nothing),
        _question(
            "three conditions",
            where(f'status: "active", tag: "infra", titleContains: "{TOPICS[0]}"'),
            pages,
        ),
        _question(
            "status, totalCount",
            f'sessions(where: {{status: "active"}}, {_M}) {{ totalCount {nodes} }}',
            nothing,
        ),
        _question("cacheStatus", "cacheStatus { head documents hot unreadable }", nothing),
        _question("healthChecks", "healthChecks { totalCount nodes { checkedAt } }", nothing),
        _question(
            "unreadableDocuments", "unreadableDocuments { totalCount nodes { path } }", nothing
        ),
    ]


_TYPES = {"id": "ID!", "after": "String", "maxStaleness": "Int"}


def _first_where(condition: str) -> str:
    return f"sessions(where: {{{condition}}}, {_M}) {{ nodes {{ {FIELDS} }} }}"


def _question(name: str, selection: str, variables: Sequence[Mapping[str, object]]) -> Question:
    declared = ", ".join(
        f"${name}: {kind}" for name, kind in _TYPES.items() if f"${name}" in selection
    )
    head = f"query({declared})" if declared else "query"
    return Question(name, f"{head} {{ {selection} }}", variables)


def _oldest_first(chance: random.Random) -> str:
    ago = timedelta(days=chance.uniform(YEARS * 365 / 2, YEARS * 365))
    return cursor_at(Order.OCCURRED_AT_ASC, (datetime.now(UTC) - ago, "autosaves/"))


def _at_path(chance: random.Random) -> str:
    day = _moment(chance)
    return cursor_at(Order.PATH_ASC, ("", f"autosaves/{day:%Y/%m}/autosave_{day:%F}"))
