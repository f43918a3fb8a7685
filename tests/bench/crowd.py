"""What 64 clients notice of one that misbehaves: `make bench-crowd`.

56 read and 8 write, each with an API key of its own, all as fast as they are answered. In turn they
are alone and beside `tests.bench.misbehaving`; a ratio is that of one round. Prints Markdown; exit
code 1 if an answer was wrong.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

from api.access import Scope, new_key
from sandbox.postgres import Postgres
from tests.bench import queries
from tests.bench.figures import Spread, ratios
from tests.bench.load import Load, Order, Outcome
from tests.bench.run import extent, say, short, table, tell
from tests.bench.systems import Server, Site, build, start_gateway

SIZE = 1_000
READERS, WRITERS = 56, 8
ROUNDS, SECONDS = 6, 10.0
LIMIT = 2.0  # times the p99 without the one that misbehaves


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.crowd")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each half of a round")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="annoris-bench-") as directory:
        return asyncio.run(_bench(Path(directory), options.rounds, options.seconds))


async def _bench(root: Path, rounds: int, seconds: float) -> int:
    async with AsyncExitStack() as whole:
        postgres = await whole.enter_async_context(Postgres(root / "postgres"))
        stack = whole.enter_context(ExitStack())
        tell(f"building {SIZE:,} documents")
        site = await build(stack, postgres, SIZE, root / "site")
        made = [
            new_key(f"client-{n}", [Scope.READ, Scope.WRITE]) for n in range(READERS + WRITERS + 1)
        ]
        secrets = [secret for secret, _ in made]
        environment = {**site.environment, "API_KEYS": ",".join(str(key) for _, key in made)}
        gateway = start_gateway(stack, replace(site, environment=environment), "api")
        crowd = Crowd(stack, site, gateway, secrets)
        tell("warming up")
        crowd.measure(seconds)  # in which the commits are used up that may be made at once
        found = Found(rounds, seconds, memory=[gateway.resident])
        for number in range(rounds):
            tell(f"round {number + 1} of {rounds}")
            found.alone.append(crowd.measure(seconds))
            misbehaving = crowd.misbehave(seconds + 2)
            found.beside.append(crowd.measure(seconds))
            found.did.update(json.loads(misbehaving.communicate()[0]))
            found.memory.append(gateway.resident)
        return _tell(found)


@dataclass(slots=True)
class Found:
    """What was measured in each round: (reads, writes). `memory` in bytes."""

    rounds: int
    seconds: float
    memory: list[float]
    alone: list[tuple[Outcome, Outcome]] = field(default_factory=list)
    beside: list[tuple[Outcome, Outcome]] = field(default_factory=list)
    did: Counter[str] = field(default_factory=Counter)


class Crowd:
    """The 64, and the one."""

    def __init__(
        self, stack: ExitStack, site: Site, gateway: Server, secrets: Sequence[str]
    ) -> None:
        self._gateway = gateway
        self._misbehaving = secrets[-1]
        variables = queries.different(site.library)
        mixed = chain.from_iterable(
            zip(
                *(queries.bodies(queries.QUERIES[q], v).split(b"\n") for q, v in variables.items()),
                strict=False,
            )
        )
        readers = Order(
            port=gateway.port,
            path="/graphql",
            bodies=site.file("reads", b"\n".join(mixed)),
            clients=READERS,
            warm_up=0.5,
            keys=secrets[:READERS],
        )
        writers = replace(
            readers,
            bodies=site.file("writes", queries.creations(SIZE)),
            clients=WRITERS,
            keys=secrets[READERS:-1],
        )
        self._orders = readers, writers
        self._loads = [stack.enter_context(Load()) for _ in self._orders]
        self._threads = stack.enter_context(ThreadPoolExecutor())

    def measure(self, seconds: float) -> tuple[Outcome, Outcome]:
        """What the readers and the writers saw."""
        running = [
            self._threads.submit(load.run, replace(order, seconds=seconds))
            for load, order in zip(self._loads, self._orders, strict=True)
        ]
        reading, writing = (each.result() for each in running)
        return reading, writing

    def misbehave(self, seconds: float) -> "subprocess.Popen[str]":
        """Begin, for so long. How often it did what is on its standard output in the end."""
        arguments = [str(self._gateway.port), self._misbehaving, str(seconds)]
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.misbehaving", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()  # getting ready takes the time of others, too
        process.stdin.write("go\n")
        return process


def _tell(found: Found) -> int:
    worst, wrong, rows = 0.0, 0, []
    for name, alone, beside in (
        ("reads", [one for one, _ in found.alone], [one for one, _ in found.beside]),
        ("writes", [one for _, one in found.alone], [one for _, one in found.beside]),
    ):
        p99 = ratios([o.p99 for o in beside], [o.p99 for o in alone])
        worst = max(worst, p99.median)
        rows += [
            _row(f"{name}, p50 in ms", [o.p50 for o in alone], [o.p50 for o in beside]),
            _row(f"{name}, p99 in ms", [o.p99 for o in alone], [o.p99 for o in beside]),
            _row(f"{name} a second", [o.rate for o in alone], [o.rate for o in beside]),
        ]
        for outcome in (*alone, *beside):
            wrong += outcome.wrong
            if outcome.wrong:
                say([f"{outcome.wrong} answers to {name} were wrong: {outcome.example}"])
    did = "; ".join(f"{what} {times:,} times" for what, times in sorted(found.did.items()))
    memory = ", ".join(short(each / 1e6) for each in found.memory)
    reached = "reached" if worst <= LIMIT else "not reached"
    whether = (
        f"p99 at most {LIMIT:g} times: {reached}. The gateway's memory, before and after each "
        f"round: {memory} MB."
    )
    head = (
        f"{found.rounds} rounds of {found.seconds:g} s alone and {found.seconds:g} s beside the "
        f"one that misbehaves; {READERS} readers and {WRITERS} writers, {SIZE:,} documents."
    )
    say(
        [
            head,
            "",
            *table(["", "alone", "beside it", "times"], rows),
            whether,
            "",
            f"What the one did: {did}.",
        ]
    )
    return 1 if wrong else 0


def _row(what: str, alone: Sequence[float], beside: Sequence[float]) -> list[str]:
    times = ratios(beside, alone)
    figures = [short(Spread.of(each).median) for each in (alone, beside)]
    return [what, *figures, f"{short(times.median)} {extent([times])}"]


if __name__ == "__main__":
    sys.exit(main())
