"""What it takes to run the gateway: memory, CPU time, and what these cost a month."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from statistics import mean
from typing import TypeAlias

from sandbox.redis import Redis
from tests.bench import queries
from tests.bench.figures import (
    DAY,
    DOLLARS_PER_CPU,
    DOLLARS_PER_GB,
    GB,
    REQUESTS_A_DAY,
    Bill,
    Spread,
)
from tests.bench.load import cpu_seconds
from tests.bench.run import Run, short, table, tell
from tests.bench.systems import Server, Site, proportional, start_gateway

MB = 1e6
API_MB, SERVICE_MB, DOLLARS = 150, 200, 5
IDLE_SECONDS = 15.0
NIGHT_SECONDS = 180.0  # that a worker may take for what it does nightly
SETTLE_SECONDS = 3.0  # for what else is done at night
BUSY_SECONDS = 3.0  # of each kind of request
CLIENTS = 8

Figures: TypeAlias = dict[str, float]  # by process


def memory(run: Run, sites: Sequence[Site]) -> Figures:
    """Of each process, in bytes; of PostgreSQL with all connections of all that compete."""
    found = {"PostgreSQL": proportional(run.postgres.pid)}
    for site in sites:
        for server in site.servers.values():
            one = (
                server.name if server.name == "bare" else f"{server.name}, {site.size:,} documents"
            )
            found[one] = server.resident
    return found


def tell_memory(run: Run, sites: Sequence[Site], before: Figures, after: Figures) -> Iterator[str]:
    yield "**Resident memory, MB**"
    yield ""
    rows = [[name, short(before[name] / MB), short(after[name] / MB)] for name in after]
    yield from table(("", "at first", "after all that it was asked"), rows)
    gateways = [site.servers["gateway"].resident / MB for site in sites]
    run.at_most("API process, resident", API_MB, [Spread.of([each]) for each in gateways], " MB")


async def service(run: Run, site: Site) -> Iterator[str]:
    """API and worker in one service, as deployed, with nothing else running beside it."""
    tell("API and worker in one service")
    async with Redis() as redis:
        with ExitStack() as stack:
            server = start_gateway(stack, site, "all", redis.url)
            pids = {server.name: server.pid, "PostgreSQL": run.postgres.pid, "Redis": redis.pid}
            begun, at_first = _cpu(pids), server.resident
            _wait_for_night(run, server)
            nightly, rested = _since(pids, begun), server.resident
            idle = _idle(pids)
            busy = _busy(run, site, server)
            resident = {
                server.name: server.resident,
                "PostgreSQL": proportional(run.postgres.pid),
                "Redis": proportional(redis.pid),
            }
    bill = Bill(
        resident=sum(resident.values()),
        request=sum(busy.values()) / 1000,
        idle=sum(idle.values()),
        nightly=sum(nightly.values()),
    )
    found = Spread.of([resident[server.name] / MB])
    run.at_most("API and worker in one service, resident", SERVICE_MB, [found], " MB")
    what = f"a month with {REQUESTS_A_DAY:,} requests a day"
    run.at_most(what, DOLLARS, [Spread.of([bill.dollars])], " $")
    rows = [
        [
            name,
            short(resident[name] / MB),
            short(busy[name]) if name in busy else "",
            f"{idle[name]:.2%}",
            short(nightly[name]),
        ]
        for name in pids
    ]
    return _written(site, bill, rows, at_first, rested)


def _written(
    site: Site, bill: Bill, rows: Sequence[Sequence[str]], at_first: float, rested: float
) -> Iterator[str]:
    yield f"**API and worker in one service, {site.size:,} documents**"
    yield ""
    head = ("", "resident, MB", "CPU s of 1,000 requests", "idle, of a CPU", "CPU s of a night")
    yield from table(head, rows)
    yield (
        f"The service had {short(at_first / MB)} MB when it started and {short(rested / MB)} MB "
        "after the nightly work. Its requests: documents, pages and filtered pages in equal parts, "
        f"every query different, {CLIENTS} clients."
    )
    yield ""
    yield (
        f"A month with {REQUESTS_A_DAY:,} requests a day: memory {bill.resident / GB:.3f} GB x "
        f"{DOLLARS_PER_GB:g} $ = {bill.memory_dollars:.2f} $; CPU ({REQUESTS_A_DAY:,} x "
        f"{bill.request:.5f} s + {bill.nightly:.1f} s) / {DAY:,} s + {bill.idle:.4f} idle = "
        f"{bill.cpus:.4f} x {DOLLARS_PER_CPU:g} $ = {bill.cpu_dollars:.2f} $; "
        f"together **{bill.dollars:.2f} $**."
    )
    yield ""


def _wait_for_night(run: Run, server: Server) -> None:
    """A worker that starts catches up on what is done nightly."""
    asked = queries.repeated("{ healthChecks { totalCount } }", {})
    deadline = time.monotonic() + NIGHT_SECONDS
    while not server.ask("/graphql", asked)["data"]["healthChecks"]["totalCount"]:
        if time.monotonic() > deadline:
            run.problems.append(f"no health check within {NIGHT_SECONDS:.0f} s")
            return
        time.sleep(1)
    time.sleep(SETTLE_SECONDS)


def _idle(pids: Mapping[str, int]) -> Figures:
    """CPU seconds a second while nobody asks."""
    begun, start = _cpu(pids), time.monotonic()
    time.sleep(IDLE_SECONDS)
    seconds = time.monotonic() - start
    return {name: spent / seconds for name, spent in _since(pids, begun).items()}


def _busy(run: Run, site: Site, server: Server) -> Figures:
    """CPU seconds of 1,000 requests."""
    spent: dict[str, list[float]] = {server.name: [], "PostgreSQL": []}
    for query in queries.QUERIES:
        file = site.path(f"{query}-different")
        outcome = run.measure(server, "/graphql", file, CLIENTS, seconds=BUSY_SECONDS)
        spent[server.name].append(outcome.cpu["server"])
        spent["PostgreSQL"].append(outcome.cpu["PostgreSQL"])
    return {name: mean(each) for name, each in spent.items()}


def _cpu(pids: Mapping[str, int]) -> Figures:
    return {name: cpu_seconds(pid) for name, pid in pids.items()}


def _since(pids: Mapping[str, int], begun: Figures) -> Figures:
    return {name: spent - begun[name] for name, spent in _cpu(pids).items()}
