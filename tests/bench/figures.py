"""What is made of the measured: medians, ratios within a round, costs. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

GB = 1e9  # bytes
DAY = 86_400  # seconds
REQUESTS_A_DAY = 10_000
DOLLARS_PER_GB = 10.0  # of memory, for a month
DOLLARS_PER_CPU = 20.0  # of a virtual one, for a month


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure that was measured in several rounds."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        return cls(median(values), min(values), max(values))


def ratios(values: Sequence[float], others: Sequence[float]) -> Spread:
    """How many times the others' the values are. Compared round by round: a machine drifts."""
    return Spread.of([value / other for value, other in zip(values, others, strict=True)])


def percentile(ordered: Sequence[float], share: float) -> float:
    """The least of the values, in ascending order, that so large a share of them do not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


@dataclass(frozen=True, slots=True)
class Bill:
    """What a deployment costs a month.

    `resident` in bytes. `request`: CPU seconds of one. `idle`: CPU seconds a second without any.
    `nightly`: CPU seconds of what is done once a day.
    """

    resident: float
    request: float
    idle: float
    nightly: float

    @property
    def cpus(self) -> float:
        """Virtual CPUs that are busy on average."""
        return (REQUESTS_A_DAY * self.request + self.nightly) / DAY + self.idle

    @property
    def memory_dollars(self) -> float:
        return DOLLARS_PER_GB * self.resident / GB

    @property
    def cpu_dollars(self) -> float:
        return DOLLARS_PER_CPU * self.cpus

    @property
    def dollars(self) -> float:
        return self.memory_dollars + self.cpu_dollars
