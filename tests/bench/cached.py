"""Answers from the cache: the gateway beside what can be had at best, and beside others."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from itertools import product
from pathlib import Path
from typing import Any, TypeAlias

from tests.bench import postgraphile, queries
from tests.bench.figures import Spread, ratios
from tests.bench.load import Outcome
from tests.bench.run import Others, Run, Target, among, extent, say, short, table, tell
from tests.bench.systems import (
    Server,
    Site,
    start_gateway,
    start_postgraphile,
    start_rival,
)

CLIENTS = (1, 8, 64)
MIDDLE = 8  # clients for whom the CPU time is told
CONTRACT_SECONDS = 0.15  # of each query of the contract in a round
CHECKED = 5  # answers that are compared, row by row
LABELS = {
    "bare": "(a) bare ASGI, the same bytes",
    "repeated": "(c) gateway, the same query again",
    "floor": "(b) asyncpg and orjson",
    "different": "(d) gateway, every query different",
    "literal": "(d) gateway, every text different",
    "naive": "(n) naive Strawberry and FastAPI",
    "postgraphile": "(g) PostGraphile, the same query again",
    "postgraphile, different": "(g) PostGraphile, every query different",
}
AGAINST = {
    "repeated": "bare",
    "different": "floor",
    "literal": "floor",
    "naive": "floor",
    "postgraphile, different": "floor",
}
TITLES = {
    "document": "one document with its text",
    "page": "a page of 20",
    "filtered": "a page of 20 by status and title",
}
HEAD = (
    "for 1 / 8 / 64 clients",
    "requests/s",
    "of (a) or (b)",
    "p50, ms",
    "x (a) or (b)",
    "p99, ms",
    "CPU s of 1,000",
    "of PostgreSQL",
)

Figure: TypeAlias = Callable[[Outcome], float]


def rate(one: Outcome) -> float:
    return one.rate


def p50(one: Outcome) -> float:
    return one.p50


def p99(one: Outcome) -> float:
    return one.p99


class Differs(Exception):
    """Two servers do not answer the same. Nothing can be compared."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """Who answers, and what it is sent."""

    name: str
    server: Server
    path: str
    bodies: str
    clients: Sequence[int] = CLIENTS


@dataclass(frozen=True, slots=True)
class Cell:
    """What is compared: one query at one size, for so many clients at once."""

    size: int
    query: str
    clients: int


class Found:
    """The outcomes of all rounds, in their order."""

    def __init__(self) -> None:
        self._outcomes: dict[tuple[Cell, str], list[Outcome]] = defaultdict(list)

    def note(self, cell: Cell, name: str, outcome: Outcome) -> None:
        self._outcomes[cell, name].append(outcome)

    def has(self, cell: Cell, name: str) -> bool:
        return (cell, name) in self._outcomes

    def spread(self, cell: Cell, name: str, figure: Figure) -> Spread:
        return Spread.of([figure(one) for one in self._outcomes[cell, name]])

    def ratio(self, cell: Cell, name: str, other: str, figure: Figure) -> Spread:
        mine, theirs = self._outcomes[cell, name], self._outcomes[cell, other]
        return ratios([figure(one) for one in mine], [figure(one) for one in theirs])

    @property
    def busiest(self) -> float:
        """The most that the load generator itself had to do, as a share of a CPU."""
        return max(one.own for outcomes in self._outcomes.values() for one in outcomes)


def start(stack: ExitStack, sites: Sequence[Site], answers: Path) -> None:
    """Start all that compete, and prove that they answer the same."""
    for site in sites:
        site.servers["gateway"] = start_gateway(stack, site, "api")
        for name in ("floor", "naive"):
            site.servers[name] = start_rival(stack, name, site.database_url, site.directory)
        for query, variables in queries.different(site.library).items():
            text = queries.QUERIES[query]
            site.file(f"{query}-different", queries.bodies(text, variables))
            site.file(f"{query}-repeated", queries.repeated(text, variables[0]))
        site.file("page-literal", queries.literal_pages())
        _start_postgraphile(stack, site)
    answers.mkdir()
    for site in sites:
        for query in queries.QUERIES:
            _compare(site, query)
            body = site.read(f"{query}-repeated")
            (answers / f"{site.size}-{query}").write_bytes(
                site.servers["gateway"].answer("/graphql", body)
            )
    bare = start_rival(stack, "bare", str(answers), answers.parent)
    for site in sites:
        site.servers["bare"] = bare


def _start_postgraphile(stack: ExitStack, site: Site) -> None:
    tell("PostGraphile")
    try:
        server = start_postgraphile(stack, site)
    except postgraphile.NotFetched as reason:
        say([f"Without PostGraphile: {reason}.", ""])
        return
    site.servers["postgraphile"] = server
    # It has cursors of its own, which are to be had from it alone.
    asked = queries.repeated(queries.POSTGRAPHILE_CURSORS, {"first": queries.DIFFERENT})
    edges = server.ask("/graphql", asked)["data"]["allSessions"]["edges"]
    newer = edges[: len(edges) // 2]
    variables = [{"first": 20, "after": edge["cursor"]} for edge in newer]
    site.file("postgraphile-different", queries.bodies(queries.POSTGRAPHILE, variables))
    site.file("postgraphile-repeated", queries.repeated(queries.POSTGRAPHILE, variables[0]))
    lines = site.read("postgraphile-different").splitlines()
    for edge, line in list(zip(newer, lines, strict=True))[:CHECKED]:
        place = queries.cursor_of(edge["node"]["path"], edge["node"]["occurredAt"])
        asked = queries.repeated(queries.QUERIES["page"], {"first": 20, "after": place})
        ours = _rows(site.servers["gateway"].ask("/graphql", asked))
        if ours != _rows(server.ask("/graphql", line)):
            raise Differs(f"PostGraphile and the gateway have other rows after {edge['node']}")


def _compare(site: Site, query: str) -> None:
    for body in site.read(f"{query}-different").splitlines()[:CHECKED]:
        ours = _rows(site.servers["gateway"].ask("/graphql", body))
        if len(ours) != (1 if query == "document" else 20):
            raise Differs(f"the gateway found {len(ours)} rows for {body.decode()}")
        for name, path in (("floor", f"/{query}"), ("naive", "/graphql")):
            if ours != _rows(site.servers[name].ask(path, body)):
                raise Differs(f"the gateway and {name} answer {body.decode()} differently")


def _rows(answer: Any) -> list[dict[str, Any]]:
    """The rows of an answer, whoever gave it. A moment is written in more than one way."""
    [found] = answer["data"].values()
    rows = found.get("nodes", [found])
    return [row | {"occurredAt": datetime.fromisoformat(row["occurredAt"])} for row in rows]


def compete(run: Run, sites: Sequence[Site]) -> Iterator[str]:
    """Round by round, one after the other for each cell, in turn forwards and backwards."""
    found, others = Found(), Others()
    for site in sites:
        site.requests_to_github()
    for number in range(run.rounds):
        tell(f"round {number + 1} of {run.rounds}")
        for site, query, clients in product(sites, queries.QUERIES, CLIENTS):
            for one in _contestants(site, query)[:: 1 if number % 2 == 0 else -1]:
                if clients in one.clients:
                    outcome = run.measure(one.server, one.path, one.bodies, clients)
                    found.note(Cell(site.size, query, clients), one.name, outcome)
    for site in sites:
        if asked := site.requests_to_github():
            run.problems.append(f"{asked} requests to GitHub while only the cache was asked for")
    for site, query in product(sites, queries.QUERIES):
        yield from _table(found, site.size, query)
    yield from _beside_postgraphile(run, found, sites)
    _judge(run, found, sites)
    yield (
        f"The load generator was busy for {found.busiest:.0%} of a CPU at the most; programs that "
        f"have no part in it took {others.share:.0%} of the machine's CPU time."
    )
    yield ""


def _contestants(site: Site, query: str) -> list[Contestant]:
    servers, different = site.servers, site.path(f"{query}-different")
    repeated, bare = site.path(f"{query}-repeated"), f"/{site.size}-{query}"
    some = [
        Contestant("bare", servers["bare"], bare, repeated),
        Contestant("repeated", servers["gateway"], "/graphql", repeated),
        Contestant("floor", servers["floor"], f"/{query}", different),
        Contestant("different", servers["gateway"], "/graphql", different),
        Contestant("naive", servers["naive"], "/graphql", different),
    ]
    if query == "page":
        literal = site.path("page-literal")
        some.append(Contestant("literal", servers["gateway"], "/graphql", literal, clients=(8,)))
    if query == "page" and (server := servers.get("postgraphile")):
        some += [
            Contestant("postgraphile", server, "/graphql", site.path("postgraphile-repeated")),
            Contestant(
                "postgraphile, different",
                server,
                "/graphql",
                site.path("postgraphile-different"),
            ),
        ]
    return some


def _table(found: Found, size: int, query: str) -> Iterator[str]:
    rows = []
    for name, label in LABELS.items():
        cells = [cell for cell in _cells(size, query) if found.has(cell, name)]
        if cells:
            middle = Cell(size, query, MIDDLE)
            rows.append(
                [
                    label,
                    _each([found.spread(cell, name, rate) for cell in cells]),
                    _ratios(found, cells, name, rate),
                    _each([found.spread(cell, name, p50) for cell in cells]),
                    _ratios(found, cells, name, p50),
                    _each([found.spread(cell, name, p99) for cell in cells]),
                    short(found.spread(middle, name, lambda one: one.cpu["server"]).median),
                    short(found.spread(middle, name, lambda one: one.cpu["PostgreSQL"]).median),
                ]
            )
    yield f"**{size:,} documents, {TITLES[query]}**"
    yield ""
    yield from table(HEAD, rows)


def _cells(size: int, query: str) -> list[Cell]:
    return [Cell(size, query, clients) for clients in CLIENTS]


def _ratios(found: Found, cells: Sequence[Cell], name: str, figure: Figure) -> str:
    if name not in AGAINST:
        return ""
    spreads = [found.ratio(cell, name, AGAINST[name], figure) for cell in cells]
    return f"{_each(spreads)} {extent(spreads)}"


def _each(spreads: Sequence[Spread]) -> str:
    return " / ".join(short(each.median) for each in spreads)


def _beside_postgraphile(run: Run, found: Found, sites: Sequence[Site]) -> Iterator[str]:
    if not all("postgraphile" in site.servers for site in sites):
        return
    pairs = {
        "the same query again": ("repeated", "postgraphile"),
        "every query different": ("different", "postgraphile, different"),
    }
    rows: list[list[str]] = []
    spreads: dict[str, list[Spread]] = defaultdict(list)
    for site, what in product(sites, pairs):
        each = [found.ratio(cell, *pairs[what], rate) for cell in _cells(site.size, "page")]
        spreads[what] += each
        rows.append([f"{site.size:,} documents, {what}", f"{_each(each)} {extent(each)}"])
    yield "**Requests/s, as a multiple of PostGraphile's**: a page of 20"
    yield ""
    yield from table(("for 1 / 8 / 64 clients", "gateway / PostGraphile"), rows)
    for what, wanted in (("the same query again", 3.0), ("every query different", 0.5)):
        run.at_least(f"{what}: requests/s of PostGraphile's", wanted, spreads[what])


def _judge(run: Run, found: Found, sites: Sequence[Site]) -> None:
    every = [
        cell for site in sites for query in queries.QUERIES for cell in _cells(site.size, query)
    ]
    pages = [cell for cell in every if cell.query == "page"]

    def ratios_of(name: str, figure: Figure, cells: Sequence[Cell]) -> list[Spread]:
        return [found.ratio(cell, name, AGAINST[name], figure) for cell in cells]

    run.at_least("the same query again: requests/s of (a)", 0.6, ratios_of("repeated", rate, every))
    run.at_least(
        "every query different, a page of 20: requests/s of (b)",
        0.5,
        ratios_of("different", rate, pages),
    )
    run.at_most(
        "every query different, a page of 20: p50 of (b)",
        3,
        ratios_of("different", p50, pages),
        "x",
    )
    naive = ratios_of("naive", rate, pages)
    run.targets.append(Target("naive, a page of 20: requests/s of (b)", "0.25", among(naive), None))


def compare_sizes(run: Run, sites: Sequence[Site]) -> Iterator[str]:
    """Each query of the contract, one client, at the smallest and at the largest size in turn."""
    if len(sites) < 2:
        return
    small, large = sites[0], sites[-1]
    questions = {site.size: queries.contract(site.library) for site in (small, large)}
    for site in (small, large):
        for i, question in enumerate(questions[site.size]):
            site.file(f"contract-{i}", question.bodies)
    times: dict[tuple[int, int], list[float]] = defaultdict(list)
    for number in range(run.rounds):
        tell(f"the contract, round {number + 1} of {run.rounds}")
        for i in range(len(questions[small.size])):
            for site in (small, large)[:: 1 if number % 2 == 0 else -1]:
                server, file = site.servers["gateway"], site.path(f"contract-{i}")
                outcome = run.measure(
                    server, "/graphql", file, 1, seconds=CONTRACT_SECONDS, least=10
                )
                times[i, site.size].append(outcome.p50)
    rows, spreads = [], []
    for i, question in enumerate(questions[small.size]):
        spread = ratios(times[i, large.size], times[i, small.size])
        spreads.append(spread)
        rows.append(
            [
                question.name,
                short(Spread.of(times[i, small.size]).median),
                short(Spread.of(times[i, large.size]).median),
                f"{short(spread.median)} {extent([spread])}",
            ]
        )
    yield f"**Every query of the contract, at {small.size:,} and at {large.size:,} documents**"
    yield ""
    head = ("p50, ms, for one client", f"{small.size:,}", f"{large.size:,}", "ratio")
    yield from table(head, rows)
    run.at_most(
        f"CACHE at {large.size:,} documents: p50 at {small.size:,}, every query", 1.3, spreads, "x"
    )
