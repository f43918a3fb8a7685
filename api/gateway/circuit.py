"""The circuit between readers and GitHub: who would only wait in vain is refused at once.

It is for the reads of readers alone. Writes, syncs and the worker have deadlines of their own and
go on asking. Whatever they are answered closes the circuit as well.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from api.master.errors import MasterError, RateLimited, Unreachable
from api.master.master import Master

log = logging.getLogger(__name__)

# Seconds of silence after which a reader who has something else takes that, and after which GitHub
# is asked whether it is there. It takes a quarter of them, as a rule, to tell the head.
PATIENCE = 2.0
_PROBE_SECONDS = 5.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 5.0  # seconds between the starts of two probes

# Starts work that is cancelled when the process ends.
Run: TypeAlias = Callable[[Coroutine[object, object, None]], asyncio.Task[None]]


@dataclass(frozen=True, slots=True)
class Line:
    """Whether GitHub answers, as far as is known. Pure; times are seconds of one clock.

    One request says little: a connection breaks, a large batch takes too long. So a request that
    is not answered raises the question, and a probe decides it, a request that costs GitHub next to
    nothing. An answer to anybody, later than that request or probe was sent, outweighs it. So what
    opens the circuit is two requests in a row without an answer, and none to all others meanwhile.

    `answered_at`: when GitHub last answered anything. `probed_at`: when the last probe was sent
    that was not answered.
    """

    answered_at: float
    probed_at: float

    @property
    def is_dead(self) -> bool:
        return self.is_silent_since(self.probed_at)

    def is_silent_since(self, sent_at: float) -> bool:
        """Whether nothing was answered after a request was sent."""
        return self.answered_at < sent_at


class Circuit:
    """Refuses readers while GitHub does not answer, or asks to wait. `master` is probed."""

    def __init__(self, master: Master, run: Run) -> None:
        self._master = master
        self._github = master.github
        self._run = run
        self._asking: dict[asyncio.Timeout, float] = {}  # readers' requests, and since when
        self._watching: dict[asyncio.Timeout, asyncio.TimerHandle] = {}
        self._probing: asyncio.Task[None] | None = None
        self._probed_at = float("-inf")
        self._limited_until = float("-inf")
        self._silent_since = datetime.now(UTC)
        self._closed = False

    def close(self) -> None:
        """Probe no more."""
        self._closed = True

    @property
    def is_open(self) -> bool:
        """Whether readers are refused because GitHub does not answer."""
        return self._is_probing and self._line.is_dead

    def refuse(self) -> None:
        """Raises RateLimited or Unreachable where there is no use in asking GitHub now."""
        limited = max(self._limited_until - time.monotonic(), self._github.exhausted_for)
        if limited > 0:
            raise RateLimited(
                f"GitHub's rate limit is used up. Try again in {limited:.0f} seconds.",
                retry_after=limited,
            )
        if self.is_open:
            raise self._refusal()

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[None]:
        """The gate that each of a reader's requests goes through.

        Raises what `refuse` does; Unreachable as well when the circuit opens meanwhile: nobody is
        to wait longer for what was sent before.
        """
        self.refuse()
        sent_at = time.monotonic()
        doubt = asyncio.get_running_loop().call_later(PATIENCE, self._doubt, sent_at)
        try:
            async with asyncio.timeout(None) as bound:
                self._asking[bound] = sent_at
                try:
                    yield
                finally:
                    self._asking.pop(bound, None)
        except TimeoutError:
            raise self._refusal() from None
        except RateLimited as error:
            self._limit(error)
            raise
        except MasterError:
            self._doubt(sent_at)
            raise
        finally:
            doubt.cancel()

    @asynccontextmanager
    async def patience(self) -> AsyncIterator[None]:
        """For a reader who has something else, if worse: to wait no longer than GitHub is silent.

        As long as answers come, to whomever, it is there, and the wait is worth it. Raises
        Unreachable.
        """
        try:
            async with asyncio.timeout(None) as bound:
                self._watch(bound, time.monotonic())
                try:
                    yield
                finally:
                    self._watching.pop(bound).cancel()
        except TimeoutError:
            raise Unreachable(f"GitHub did not answer within {PATIENCE:g} seconds.") from None

    @property
    def _line(self) -> Line:
        return Line(self._github.answered_at, self._probed_at)

    @property
    def _is_probing(self) -> bool:
        return self._probing is not None and not self._probing.done()

    def _watch(self, bound: asyncio.Timeout, since: float) -> None:
        """End what is done within `bound` when GitHub has been silent for too long."""
        loop = asyncio.get_running_loop()
        left = PATIENCE - self._silence(since)
        if left > 0:
            self._watching[bound] = loop.call_later(left, self._watch, bound, since)
        else:
            bound.reschedule(loop.time())

    def _silence(self, since: float) -> float:
        """For how many seconds there was no answer, though some reader's request waited for one."""
        if not self._asking:
            return 0.0
        oldest = min(self._asking.values())
        return time.monotonic() - max(since, oldest, self._github.answered_at)

    def _doubt(self, sent_at: float) -> None:
        """A request that was sent then is not answered. Find out whether any is."""
        if self._closed or self._is_probing or not self._line.is_silent_since(sent_at):
            return
        self._silent_since = datetime.now(UTC) - timedelta(seconds=time.monotonic() - sent_at)
        self._probing = self._run(self._probe())

    async def _probe(self) -> None:
        """Ask until something is answered."""
        pause, has_opened = _FIRST_PAUSE, False
        while True:
            sent_at = time.monotonic()
            await self._ask()
            if not self._line.is_silent_since(sent_at):
                break
            self._probed_at = sent_at
            if not has_opened:
                log.warning("GitHub does not answer; reads that need it are refused until it does")
                has_opened = True
            self._end_all()
            await asyncio.sleep(max(0.0, sent_at + pause - time.monotonic()))
            pause = min(2 * pause, _LONGEST_PAUSE)
        if has_opened:
            log.info("GitHub answers again")

    async def _ask(self) -> None:
        with suppress(MasterError, TimeoutError):
            async with asyncio.timeout(min(_PROBE_SECONDS, self._github.timeout)):
                try:
                    await self._master.head()
                except RateLimited as error:
                    self._limit(error)

    def _end_all(self) -> None:
        """Let nobody wait for what was sent before."""
        now = asyncio.get_running_loop().time()
        for bound in self._asking:
            bound.reschedule(now)
        self._asking.clear()

    def _limit(self, error: RateLimited) -> None:
        self._limited_until = max(self._limited_until, time.monotonic() + error.retry_after)

    def _refusal(self) -> Unreachable:
        return Unreachable(
            f"GitHub has not answered since {self._silent_since:%H:%M:%S} UTC. It is asked every "
            "few seconds whether it is back. Try again then."
        )
