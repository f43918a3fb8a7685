"""Alerts: which incidents there are is decided from what is stored; people are told once of each.

And once when it is over. That they know is kept when it was sent: if we die in between, they are
told a second time.
"""

import asyncio
import logging
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from api.cache.cache import Cache
from api.cache.incidents import Incident, Incidents
from api.cache.runs import Runs
from api.cache.tables import HealthCheckRow, SyncRow, WorkerRow
from api.cache.workers import Workers
from api.jobs import HEALTH_CHECK, SYNC
from api.master.errors import AccessRefused
from api.wiring import Parts
from workers.people import People

log = logging.getLogger(__name__)

_FAILURES = 3  # in a row
_CONSISTENCY = 0.999
_QUOTA = 0.2
_CHECKS_TELL = timedelta(days=2)  # an older failure tells nothing of today
_NOTICE = timedelta(days=7)  # before the token ends
_SYNCS_READ = 100
_CHARACTERS = 300  # of an error, in a notice


class Kind(StrEnum):
    """What may be wrong."""

    SYNC_FAILS = "the sync fails"
    CHECK_FAILS = "the health check fails"
    CACHE_TOO_OLD = "the cache is too old"
    DRIFT = "the cache had drifted"
    QUOTA_LOW = "GitHub's quota runs low"
    TOKEN_EXPIRES = "GitHub's token expires"  # noqa: S105 - no password
    TOKEN_REFUSED = "GitHub refuses the token"  # noqa: S105


_OVER = {
    Kind.SYNC_FAILS: "The sync succeeds again.",
    Kind.CHECK_FAILS: "The health check succeeds again.",
    Kind.CACHE_TOO_OLD: "The cache is at GitHub's head again.",
    Kind.DRIFT: "The last health check found the cache as it should be.",
    Kind.QUOTA_LOW: "GitHub's hourly quota was renewed.",
    Kind.TOKEN_EXPIRES: "The token that is used now lasts longer.",
    Kind.TOKEN_REFUSED: "GitHub takes the token again.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is stored. `syncs`, `checks`: the last that did or tried something, newest first.

    `seen_at`: when the cache was last known to be at the master's head. `check`: the last one.
    `workers`: the one seen last first.
    """

    syncs: Sequence[SyncRow] = ()
    checks: Sequence[SyncRow] = ()
    seen_at: datetime | None = None
    check: HealthCheckRow | None = None
    workers: Sequence[WorkerRow] = ()


def _failures(runs: Sequence[SyncRow], since: datetime) -> list[SyncRow]:
    """Those that failed since then and since the last that succeeded, newest first."""
    failures: list[SyncRow] = []
    for run in runs:
        if run.error is None or run.started_at <= since:
            break
        failures.append(run)
    return failures


def decide(facts: Facts, now: datetime, *, too_old: timedelta) -> dict[str, Incident]:
    """The incidents there are, by kind. `too_old`: the age from which on the cache is."""
    # A sync that found nothing to do has no row; it moved `seen_at`. An empty cache has forgotten
    # that: what failed long ago then tells nothing of today.
    failures = _failures(facts.syncs, facts.seen_at or now - too_old)
    found = (
        _sync_fails(failures),
        _check_fails(_failures(facts.checks, now - _CHECKS_TELL)),
        _cache_is_too_old(facts, now, too_old),
        _has_drifted(facts),
        _quota_is_low(facts, now),
        _token_expires(facts, now),
        _token_is_refused(failures),
    )
    return {incident.kind: incident for incident in found if incident}


def _sync_fails(failures: Sequence[SyncRow]) -> Incident | None:
    if len(failures) < _FAILURES:
        return None
    return Incident(
        kind=Kind.SYNC_FAILS,
        since=failures[-1].started_at,
        message=f"The last {len(failures)} syncs failed; the cache is as it was before. The last "
        f"one said: {(failures[0].error or '')[:_CHARACTERS]} `annoris status` shows which side "
        "does not answer, `annoris sync` tries it now.",
    )


def _check_fails(failures: Sequence[SyncRow]) -> Incident | None:
    if len(failures) < _FAILURES:
        return None
    return Incident(
        kind=Kind.CHECK_FAILS,
        since=failures[-1].started_at,
        message=f"The last {len(failures)} health checks failed, so that nobody knows whether the "
        f"cache is true. The last one said: {(failures[0].error or '')[:_CHARACTERS]} "
        "`annoris health-check` tries it now, `annoris rebuild` builds the cache from nothing.",
    )


def _cache_is_too_old(facts: Facts, now: datetime, too_old: timedelta) -> Incident | None:
    if facts.seen_at is None or now - facts.seen_at <= too_old:
        return None
    return Incident(
        kind=Kind.CACHE_TOO_OLD,
        since=facts.seen_at + too_old,
        message=f"It was last at GitHub's head on {_told(facts.seen_at)}. Reads go to GitHub, or "
        "are marked as stale. See that a worker runs and what its log says; `annoris sync` brings "
        "the cache along now.",
    )


def _has_drifted(facts: Facts) -> Incident | None:
    check = facts.check
    if check is None or check.consistency >= _CONSISTENCY:
        return None
    kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(check.drift.items()))
    return Incident(
        kind=Kind.DRIFT,
        since=check.checked_at,
        message=f"The health check found {check.drifted} of {check.documents} documents otherwise "
        f"than at GitHub ({kinds}) and repaired {check.repaired}. Find out who writes to the "
        "database; `annoris health-check` shows whether it is in order now.",
    )


def _quota_is_low(facts: Facts, now: datetime) -> Incident | None:
    """All workers share the quota: what the one that was seen last was told is what holds."""
    worker = next((worker for worker in facts.workers if worker.quota_limit is not None), None)
    if worker is None:
        return None
    limit, left, reset = worker.quota_limit, worker.quota_remaining, worker.quota_resets_at
    if limit is None or left is None or reset is None or reset <= now or left >= _QUOTA * limit:
        return None
    return Incident(
        kind=Kind.QUOTA_LOW,
        since=worker.seen_at,
        message=f"{left} of {limit} points are left until {_told(reset)}. When they are used up, "
        "nothing can be saved, and the cache grows old. Find out what else uses the token, or "
        "wait.",
    )


def _token_expires(facts: Facts, now: datetime) -> Incident | None:
    """A worker that GitHub has told nothing yet, as after a restart, does not know of any end."""
    told = (w for w in facts.workers if w.token_expires_at or w.quota_limit is not None)
    newest = next(told, None)
    end = newest.token_expires_at if newest else None
    if newest is None or end is None or end - now > _NOTICE:
        return None
    return Incident(
        kind=Kind.TOKEN_EXPIRES,
        since=newest.seen_at,
        message=f"It ends on {_told(end)}. From then on nothing can be saved, and the cache grows "
        "old. Make a new one at GitHub, set GITHUB_TOKEN to it and restart.",
    )


def _token_is_refused(failures: Sequence[SyncRow]) -> Incident | None:
    """What failed otherwise since then does not tell that the token is good again."""
    refused = [run for run in failures if run.error_class == AccessRefused.__name__]
    if not refused:
        return None
    return Incident(
        kind=Kind.TOKEN_REFUSED,
        since=refused[-1].started_at,
        message="Nothing can be saved, and the cache grows old. Set GITHUB_TOKEN to one that may "
        "read and write the repository's contents, or install the GitHub App there again, and "
        "restart; `annoris status` shows whether GitHub answers.",
    )


def _told(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


async def alert(parts: Parts, people: People, *, now: datetime | None = None) -> None:
    """Compare what there is with what people know, and tell them. Raises CacheUnavailable."""
    now = now or datetime.now(UTC)
    cache = parts.reconciler.cache
    incidents = Incidents(cache.database)
    async with incidents.turn() as ours:
        if not ours:
            return
        found = decide(await _facts(cache), now, too_old=parts.settings.too_old)
        standing = await incidents.standing()
        for incident in found.values():
            if incident.kind not in standing:
                await incidents.begin(incident)
                standing[incident.kind] = incident
                log.warning("%s: %s", incident.kind, incident.message)
        notices = _Notices(incidents, people, parts.settings.github_repository, now)
        # All at once: one that hangs does not keep people from hearing of the others.
        await _all(
            [
                notices.begun(standing[kind])
                if kind in found
                else notices.over(kind, standing[kind])
                for kind in Kind
                if kind in standing
            ]
        )


async def _facts(cache: Cache) -> Facts:
    # The runs before the head: a success in between then shows in both, or in the later one.
    syncs = await Runs(cache.database).latest(SYNC, first=_SYNCS_READ)
    checks = await Runs(cache.database).latest(HEALTH_CHECK, first=_SYNCS_READ)
    async with cache.snapshot() as snapshot:
        head, check = snapshot.head, await snapshot.last_health_check()
    workers = await Workers(cache.database).known()
    return Facts(
        syncs=syncs,
        checks=checks,
        seen_at=head.seen_at if head else None,
        check=check,
        workers=workers,
    )


class _NotTold(Exception):
    """Nobody was reached. What was noted is taken back."""


@dataclass(frozen=True, slots=True)
class _Notices:
    """Sent while it is being noted. What was not sent is due the next time."""

    incidents: Incidents
    people: People
    repository: str
    now: datetime

    async def begun(self, incident: Incident) -> None:
        if incident.told_at is None:
            text = f"{incident.message} Since {_told(incident.since)}."
            with suppress(_NotTold):
                async with self.incidents.telling(incident.kind, self.now):
                    await self._tell(f"{self.repository}: {incident.kind}", text)

    async def over(self, kind: Kind, incident: Incident) -> None:
        """Who was never told that it began need not hear that it is over."""
        with suppress(_NotTold):
            async with self.incidents.ending(kind):
                if incident.told_at is not None:
                    title = f"{self.repository}: over: {kind}"
                    text = f"{_OVER[kind]} It had begun on {_told(incident.since)}."
                    await self._tell(title, text, is_good=True)
            log.info("over: %s: %s", kind, _OVER[kind])

    async def _tell(self, title: str, text: str, *, is_good: bool = False) -> None:
        if not await self.people.tell(title, text, is_good=is_good):
            raise _NotTold


async def _all(work: Sequence[Awaitable[None]]) -> None:
    """Await all of it, also when some fails: what was sent is to be noted."""
    for ended in await asyncio.gather(*work, return_exceptions=True):
        if isinstance(ended, BaseException):
            raise ended
