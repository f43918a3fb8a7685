"""What asks GitHub: MASTER, VERIFIED, bodies that are cold, and writes; near by and far away."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import median

from tests.bench import queries
from tests.bench.cached import TITLES
from tests.bench.figures import Spread
from tests.bench.load import Outcome
from tests.bench.run import Run, short, table, tell
from tests.bench.systems import Site

DELAY = 500  # ms that a request to GitHub takes longer when it is far away
ANSWERS = 6  # that are waited for at the least
MANY = 64  # clients at once
WRITERS = {1: 6, 8: 16}  # clients, and writes: few enough that GitHub's limits slow none down
UNTOUCHED = 1.2  # by what a CACHE read's time may differ by chance


@dataclass(frozen=True, slots=True)
class Read:
    """What is asked for, at which level, for so many clients at once."""

    what: str
    level: str
    clients: int = 1


READS = (
    *(Read(query, level) for level, query in product(("VERIFIED", "MASTER"), queries.QUERIES)),
    Read("page", "CACHE"),
    Read("cold", "CACHE"),
    Read("page", "VERIFIED", MANY),
    Read("document", "MASTER", MANY),
)
NAMES = {**TITLES, "cold": "one old document with its text"}


@dataclass(frozen=True, slots=True)
class Asked:
    """`requests`: to GitHub, for each answer."""

    outcome: Outcome
    requests: float


def read(run: Run, sites: Sequence[Site]) -> Iterator[str]:
    near: dict[tuple[int, Read], Asked] = {}
    far: dict[tuple[int, Read], Asked] = {}
    for site in sites:
        tell(f"MASTER and VERIFIED of {site.size:,} documents")
        variables = queries.different(site.library)
        variables["cold"] = [{"id": path} for path in site.library.cold]
        for one in READS:
            site.file(_file(one), queries.at_level(one.what, one.level, variables[one.what]))
        for delay, found in ((0, near), (DELAY, far)):
            site.delay_github(delay)
            for one in READS:
                found[site.size, one] = _ask(run, site, one)
        site.delay_github(0)
        yield f"**{site.size:,} documents, what GitHub is asked for**"
        yield ""
        rows = [_row(one, near[site.size, one], far[site.size, one]) for one in READS]
        yield from table(_HEAD, rows)
    _judge(run, near, far)


_HEAD = (
    "",
    "clients",
    "p50, ms",
    "p99, ms",
    "requests to GitHub for each",
    f"p50, ms, with {DELAY} ms to GitHub",
    "p99, ms",
    "requests",
)


def _file(one: Read) -> str:
    return f"{one.what}-{one.level}-{one.clients}"


def _ask(run: Run, site: Site, one: Read) -> Asked:
    site.wait_until_quiet()
    site.requests_to_github()
    server, file = site.servers["gateway"], site.path(_file(one))
    outcome = run.measure(server, "/graphql", file, one.clients, least=ANSWERS)
    return Asked(outcome, site.requests_to_github() / outcome.sent)


def _row(one: Read, near: Asked, far: Asked) -> list[str]:
    figures = []
    for asked in (near, far):
        figures += [short(asked.outcome.p50), short(asked.outcome.p99), short(asked.requests)]
    return [f"{one.level}, {NAMES[one.what]}", str(one.clients), *figures]


def _judge(
    run: Run, near: dict[tuple[int, Read], Asked], far: dict[tuple[int, Read], Asked]
) -> None:
    asked = [*near.items(), *far.items()]

    def requests(level: str, *what: str) -> list[Spread]:
        return [
            Spread.of([each.requests])
            for (_, one), each in asked
            if one.level == level and one.what in what and one.clients == 1
        ]

    run.at_most(
        "VERIFIED, a document or a page: requests to GitHub", 1, requests("VERIFIED", *TITLES)
    )
    run.at_most("MASTER, a document: requests to GitHub", 1, requests("MASTER", "document"))
    times = [
        Spread.of([each.outcome.p50])
        for (_, one), each in far.items()
        if one.level == "VERIFIED" and one.clients == 1
    ]
    run.at_most(f"VERIFIED, p50 with {DELAY} ms to GitHub", 520, times, " ms")
    cached = [
        Spread.of([far[key].outcome.p50 / near[key].outcome.p50])
        for key in near
        if key[1] == Read("page", "CACHE")
    ]
    run.at_most(f"CACHE with {DELAY} ms to GitHub: p50 without", UNTOUCHED, cached, "x")


def write(run: Run, sites: Sequence[Site]) -> Iterator[str]:
    """`createSession`. After this the documents are others."""
    rows, alone = [], []
    for site in sites:
        tell(f"writing among {site.size:,} documents")
        file = site.file("creations", queries.creations(site.size))
        for delay, (clients, most) in product((0, DELAY), WRITERS.items()):
            site.delay_github(delay)
            site.wait_until_quiet()
            site.requests_to_github()
            outcome = run.measure(site.servers["gateway"], "/graphql", file, clients, most=most)
            upstream = 1000 * median(site.seconds_of_mutations())
            requests = site.requests_to_github() / outcome.sent
            if delay and clients == 1:
                alone.append(Spread.of([outcome.p50]))
            rows.append(
                [
                    f"{site.size:,} documents, {delay} ms to GitHub",
                    str(clients),
                    short(outcome.p50),
                    short(outcome.p99),
                    short(upstream),
                    short(requests),
                ]
            )
        site.delay_github(0)
    yield "**createSession**"
    yield ""
    head = ("", "clients", "p50, ms", "p99, ms", "of it GitHub, ms", "requests to GitHub for each")
    yield from table(head, rows)
    run.at_most(f"createSession, p50 with {DELAY} ms to GitHub", 560, alone, " ms")
