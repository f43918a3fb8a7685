"""How often commits may be sent. GitHub takes fewer than 80 a minute and 500 an hour. Pure.

Two buckets of tokens. What they may give in any minute and any hour, a full bucket included, stays
below GitHub's limits, and an empty one makes nobody wait for longer than 8 seconds: so a write
waits for a larger group instead of failing.
"""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Bucket:
    """Holds up to `size` tokens and gains one every `seconds`. Times are of one clock."""

    size: int
    seconds: float
    _level: float = field(init=False)
    _at: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self._level = float(self.size)

    def wait(self, now: float) -> float:
        """Seconds until there is a token."""
        self._fill(now)
        return max(0.0, (1 - self._level) * self.seconds)

    def take(self, now: float) -> None:
        """Take a token, be there one or not."""
        self._fill(now)
        self._level -= 1

    def _fill(self, now: float) -> None:
        self._level = min(self.size, self._level + max(0.0, now - self._at) / self.seconds)
        self._at = max(now, self._at)


class Pace:
    """Tells when the next commit may be sent, and until when GitHub wants none."""

    def __init__(self) -> None:
        self._buckets = (Bucket(18, 1.0), Bucket(45, 8.0))  # at most 78 a minute, 495 an hour
        self._blocked_until = 0.0

    def wait(self, now: float) -> float:
        """Seconds until a commit may be sent."""
        return max(self._blocked_until - now, *(bucket.wait(now) for bucket in self._buckets))

    def take(self, now: float) -> None:
        """Count a commit that is about to be sent."""
        for bucket in self._buckets:
            bucket.take(now)

    def block(self, until: float) -> None:
        """Send nothing before `until`: GitHub said so."""
        self._blocked_until = max(self._blocked_until, until)
