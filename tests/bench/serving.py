"""What reads and writes cost: `make bench`, or `python -m tests.bench.serving 1000 --rounds 1`.

The gateway beside what it is measured by, all in one run: the bytes alone, the rows alone, a naive
resolver, PostGraphile. Rounds alternate between them, so that a machine that slows down slows all
of them down; a ratio is that of one round, and the median of the rounds is told, with the least and
the greatest. Prints Markdown; exit code 1 if an answer was wrong.
"""

import argparse
import asyncio
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from sandbox.postgres import Postgres
from tests.bench import cached, costs, postgraphile, upstream
from tests.bench.cached import CLIENTS
from tests.bench.load import Load
from tests.bench.run import Run, say, short, table, tell
from tests.bench.systems import Site, build, start_rival

SIZES = (1_000, 100_000)
ROUNDS, SECONDS = 5, 0.5
PACKAGES = ("uvicorn", "uvloop", "httptools", "asyncpg", "fastapi", "strawberry-graphql")
CONNECTIONS = 200  # to PostgreSQL, by all that compete together


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.serving")
    parser.add_argument("sizes", nargs="*", type=int, default=SIZES, help="numbers of documents")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each measurement")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="annoris-bench-") as directory:
        root = Path(directory)
        return asyncio.run(_bench(root, options.sizes, options.rounds, options.seconds))


async def _bench(root: Path, sizes: Sequence[int], rounds: int, seconds: float) -> int:
    async with AsyncExitStack() as whole:
        settings = {"max_connections": str(CONNECTIONS)}
        postgres = Postgres(root / "postgres", settings=settings)
        await whole.enter_async_context(postgres)
        run = Run(whole.enter_context(Load()), postgres, rounds, seconds)
        stand_ins = whole.enter_context(ExitStack())
        sites = []
        for size in sizes:
            tell(f"building {size:,} documents")
            sites.append(await build(stand_ins, postgres, size, root / str(size)))
        with ExitStack() as stack:
            cached.start(stack, sites, root / "answers")
            say(_heading(run, sites))
            at_first = costs.memory(run, sites)
            say(_ceiling(run, root, sites[0]))
            say(cached.compete(run, sites))
            say(cached.compare_sizes(run, sites))
            at_last = costs.memory(run, sites)
            say(upstream.read(run, sites))
            say(upstream.write(run, sites))
            say(costs.tell_memory(run, sites, at_first, at_last))
        say(await costs.service(run, sites[-1]))
    say(_targets(run))
    return 1 if run.problems else 0


def _heading(run: Run, sites: Sequence[Site]) -> Iterator[str]:
    """When and with what it was measured."""
    found = [f"Python {sys.version.split()[0]}"]
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"no {name}")
    if all("postgraphile" in site.servers for site in sites):
        found += [f"{name} {number}" for name, number in postgraphile.versions().items()]
    yield (
        f"{date.today()}, {os.cpu_count()} cores, {', '.join(found)}; {run.rounds} rounds of "  # noqa: DTZ011
        f"{run.seconds:g} s"
    )
    yield ""


def _ceiling(run: Run, root: Path, site: Site) -> Iterator[str]:
    """What the load generator itself can do, where a server does next to nothing."""
    with ExitStack() as stack:
        server = start_rival(stack, "ceiling", "", root)
        outcomes = [run.measure(server, "/", site.path("page-repeated"), n) for n in CLIENTS]
    rates = " / ".join(short(one.rate) for one in outcomes)
    yield f"The load generator can do {rates} requests/s for 1 / 8 / 64 clients."
    yield ""


def _targets(run: Run) -> Iterator[str]:
    yield "**The numbers to reach**"
    yield ""
    said = {True: "yes", False: "**no**", None: ""}
    rows = [[one.what, one.wanted, one.measured, said[one.is_reached]] for one in run.targets]
    yield from table(("", "wanted", "measured", "reached"), rows)
    for problem in run.problems:
        yield f"Not as it should be: {problem}"


if __name__ == "__main__":
    sys.exit(main())
