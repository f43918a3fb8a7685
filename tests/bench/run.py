"""One run of the benchmark: what it measures with, and what it found besides its tables."""

import os
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import psutil

from sandbox.postgres import Postgres
from tests.bench.figures import Spread
from tests.bench.load import Load, Order, Outcome, cpu_seconds
from tests.bench.systems import Server

BEGUN = time.monotonic()
WARM_UP = 0.15  # seconds before each measurement


@dataclass(frozen=True, slots=True)
class Target:
    """A number to reach. `is_reached`: None where it is told for comparison."""

    what: str
    wanted: str
    measured: str
    is_reached: bool | None


@dataclass(frozen=True, slots=True)
class Run:
    """`seconds`: of each measurement. `problems`: what must not have happened, for people."""

    load: Load
    postgres: Postgres
    rounds: int
    seconds: float
    targets: list[Target] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def measure(
        self,
        server: Server,
        path: str,
        bodies: str,
        clients: int,
        *,
        least: int = 1,
        most: int | None = None,
        seconds: float | None = None,
    ) -> Outcome:
        outcome = self.load.run(
            Order(
                port=server.port,
                path=path,
                bodies=bodies,
                clients=clients,
                seconds=self.seconds if seconds is None else seconds,
                warm_up=WARM_UP,
                # Those who ask at once are often answered at once: fewer would tell no rate.
                least=max(least, 2 * clients),
                most=most,
                watched={"server": server.pid, "PostgreSQL": self.postgres.pid},
            )
        )
        if outcome.wrong:
            self.problems.append(
                f"{server.name}: {outcome.wrong} of {outcome.sent} answers to {bodies} were wrong, "
                f"such as {outcome.example}"
            )
        return outcome

    def at_least(self, what: str, wanted: float, found: Sequence[Spread]) -> None:
        """A target that all medians must reach."""
        worst = min(each.median for each in found)
        self.targets.append(Target(what, f"at least {wanted:g}", among(found), worst >= wanted))

    def at_most(self, what: str, wanted: float, found: Sequence[Spread], unit: str = "") -> None:
        """A target that no median may exceed."""
        worst = max(each.median for each in found)
        target = Target(what, f"at most {wanted:g}{unit}", among(found) + unit, worst <= wanted)
        self.targets.append(target)


class Others:
    """What other programs have done since this was made."""

    def __init__(self) -> None:
        self._before = self._now()

    @property
    def share(self) -> float:
        """Of the CPU time that the machine had."""
        busy, all_in_all, ours = (
            now - then for now, then in zip(self._now(), self._before, strict=True)
        )
        return max(0.0, busy - ours) / all_in_all

    @staticmethod
    def _now() -> tuple[float, float, float]:
        times = psutil.cpu_times()
        return sum(times) - times.idle - times.iowait, sum(times), cpu_seconds(os.getpid())


def among(found: Sequence[Spread]) -> str:
    """The least and the greatest of some medians."""
    medians = [each.median for each in found]
    least, most = short(min(medians)), short(max(medians))
    return least if least == most else f"{least} to {most}"


def extent(found: Sequence[Spread]) -> str:
    """From the least to the greatest of all rounds."""
    return f"({short(min(each.least for each in found))}–{short(max(each.most for each in found))})"


def short(value: float) -> str:
    """Three digits, more where they stand before the point."""
    if abs(value) >= 99.95:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 9.995 else f"{value:.2f}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table in Markdown, its first column of words and the others of figures."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return [*(f"| {' | '.join(line)} |" for line in lines), ""]


def say(lines: Iterable[str]) -> None:
    print("\n".join(lines), flush=True)  # noqa: T201


def tell(what: str) -> None:
    """What is going on, for who waits."""
    seconds = time.monotonic() - BEGUN
    print(f"{seconds:6.1f} s: {what}", file=sys.stderr, flush=True)  # noqa: T201
