"""The cache: an index of all documents as of one commit, and the bodies of the hot ones.

Every change of it is one transaction that holds rows, directories and head together.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import fields
from datetime import datetime, timedelta

from sqlalchemy import bindparam, delete, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col

from api.cache.changing import (
    BULK_SECONDS,
    IndexChange,
    Turn,
    apply_change,
    chunks,
    head_of,
    may_apply,
)
from api.cache.database import CacheUnavailable, Connection, Database
from api.cache.snapshot import CachedHead, Known, Snapshot, Totals, Touches
from api.cache.statements import HEAD
from api.cache.tables import HeadRow, HealthCheckRow, SessionRow, SyncRow
from api.cache.watch import Watch
from api.documents import PARSER_VERSION

log = logging.getLogger(__name__)

_COMMIT_LOCK = 0x636F6D6D  # one process at a time commits to the master
_RECONCILE_LOCK = 0x7265636F  # ... and one reconciles
_POLL_SECONDS = 0.05


class Cache:
    """The cache of one origin: a repository's branch, read with one layout and limit of size.

    What another origin left in the tables counts as nothing. `parser`: the version by which
    documents are read now.
    Every method raises CacheUnavailable and nothing else of PostgreSQL's.
    """

    def __init__(self, database: Database, origin: str, *, parser: int = PARSER_VERSION) -> None:
        self.database = database
        self.origin = origin
        self.parser = parser
        self.watch = Watch(database)
        self._known: Known | None = None
        self._counted: tuple[Touches, int] | None = None

    async def look(self, *, anew: bool = False) -> Known | None:
        """The head as it was last read here, with all that is known of it; None if there is none.

        It may be an old one: whoever asks further is told so by CacheMoved. `anew`: it is read now.
        """
        if anew or self._known is None:
            values = {"origin": self.origin, "parser": self.parser}
            [row] = await self.database.fetch(HEAD.sql, HEAD.in_order(values))
            if row["commit"] is None:
                return None
            head = CachedHead(**{field.name: row[field.name] for field in fields(CachedHead)})
            if self._known is None or self._known.head.version != head.version:
                self._known = Known(head)
        return self._known

    def forget(self, known: Known) -> None:
        """Have the head read anew: it is not the one that was known."""
        if self._known is known:
            self._known = None

    async def totals(self, snapshot: Snapshot) -> Totals:
        """What the snapshot holds. The documents are counted when somebody has touched one."""
        touches = await snapshot.touches(self.origin)
        known = self._counted[1] if self._counted and self._counted[0] == touches else None
        totals = await snapshot.totals(documents=known)
        if touches and known is None:
            self._counted = touches, totals.documents
        return totals

    @asynccontextmanager
    async def snapshot(self, *, hurried: bool = False) -> AsyncIterator[Snapshot]:
        """The cache at one moment. `hurried`: a reader waits, who has no patience."""
        async with self.database.transaction(snapshot=True, hurried=hurried) as connection:
            yield Snapshot(connection, await head_of(connection, self.origin, self.parser))

    async def apply(self, change: IndexChange, *, expected: str | None) -> bool:
        """Change the index, if its head is still `expected` (None: there is none).

        False, and nothing done, when it is not, or when another change is being applied.
        After CacheUnavailable all of it was done, or nothing.
        """
        seconds = BULK_SECONDS if change.is_bulk else None
        async with self.database.transaction(seconds=seconds) as connection:
            return await apply_change(connection, change, self.origin, self.parser, expected)

    @asynccontextmanager
    async def turn_to_reconcile(self) -> AsyncIterator[Turn | None]:
        """The right to reconcile, which one has at a time, in whatever process. None: not now.

        It is a lock of the connection that the turn writes over. Whoever loses the connection
        has lost the turn, and can write nothing more.
        """
        give_up_at = self._give_up_at()
        while True:
            async with self.database.transaction() as connection:
                if await _lock(connection):
                    try:
                        yield Turn(connection, self.origin, self.parser)
                    finally:
                        await _unlock(connection)
                    return
            # Waiting, we keep no connection from others.
            if asyncio.get_running_loop().time() >= give_up_at:
                break
            await asyncio.sleep(_POLL_SECONDS)
        yield None

    def _give_up_at(self) -> float:
        """When a lock has been waited for long enough, by the event loop's clock."""
        return asyncio.get_running_loop().time() + 0.8 * self.database.timeout

    async def seen(self, head: CachedHead, *, lag: timedelta = timedelta(0)) -> bool:
        """Note that this head was the master's at `seen_at`. One round trip.

        False, and nothing happens, when that does not settle it: the cache is at another head, or
        was read by an older parser, or the master was known within `lag` to have moved on.
        """
        doubtful = col(HeadRow.outdated_at).between(head.seen_at - lag, head.seen_at + lag)
        async with self.database.transaction(autocommit=True) as connection:
            touched = await connection.run(
                update(HeadRow)
                .where(
                    col(HeadRow.origin) == self.origin,
                    col(HeadRow.commit) == head.commit,
                    col(HeadRow.parser) >= self.parser,
                    or_(col(HeadRow.outdated_at).is_(None), ~doubtful),
                )
                .values(seen_at=func.greatest(col(HeadRow.seen_at), head.seen_at))
            )
        return touched == 1

    async def empty(self) -> None:
        """Forget the head: until the next sync has built it anew, nobody reads from the cache."""
        give_up_at = self._give_up_at()
        while asyncio.get_running_loop().time() < give_up_at:
            async with self.database.transaction() as connection:
                # A change that is being applied would note its own head after ours was deleted.
                if await may_apply(connection):
                    await connection.run(delete(HeadRow))
                    return
            await asyncio.sleep(_POLL_SECONDS)
        raise CacheUnavailable("A change is being applied to the cache. Try again.")

    async def outdated(self, at: datetime) -> None:
        """Note that the master moved on: no process is to take what was seen before for fresh."""
        async with self.database.transaction() as connection:
            await connection.run(
                update(HeadRow)
                .where(col(HeadRow.origin) == self.origin)
                .values(outdated_at=func.greatest(col(HeadRow.outdated_at), at))
            )

    @asynccontextmanager
    async def turn_to_commit(self) -> AsyncIterator[None]:
        """Keeps processes from committing at once: all but one would do so in vain.

        It is a courtesy. Whoever does not get a turn in time goes on without, and so does
        everybody while PostgreSQL is down: the master's swap keeps them from doing harm.
        """
        stack = AsyncExitStack()
        try:
            connection = await stack.enter_async_context(self.database.transaction())
            await connection.rows(select(func.pg_advisory_xact_lock(_COMMIT_LOCK)))
        except CacheUnavailable as error:
            log.info("committing without a turn: %s", error)
            await _left(stack)
        try:
            yield
        finally:
            await _left(stack)

    async def keep(self, bodies: Mapping[str, tuple[str, str]], *, until: datetime) -> None:
        """Keep bodies of sessions that were read: path -> (revision, markdown).

        A row that has changed meanwhile is passed by.
        """
        kept = (
            update(SessionRow)
            .where(
                col(SessionRow.path) == bindparam("at"),
                col(SessionRow.revision) == bindparam("read"),
            )
            .values(markdown=bindparam("body"), kept_until=until)
        )
        rows = [{"at": p, "read": oid, "body": body} for p, (oid, body) in bodies.items()]
        async with self.database.transaction() as connection:
            for chunk in chunks(rows, body="body"):
                await connection.run(kept, chunk)

    async def forget_cold(self, *, cutoff: datetime, now: datetime) -> int:
        """Drop the bodies of sessions that were and changed before `cutoff`. Returns how many."""
        table = SessionRow
        async with self.database.transaction(seconds=BULK_SECONDS) as connection:
            return await connection.run(
                update(table)
                .where(
                    col(table.markdown).is_not(None),
                    col(table.changed_at) < cutoff,
                    col(table.occurred_key) < cutoff,
                    or_(col(table.kept_until).is_(None), col(table.kept_until) < now),
                )
                .values(markdown=None, kept_until=None, hot=False)
            )

    async def shortcomings(self) -> list[str]:
        """Warnings about what makes searches by a part of a title read every row."""
        async with self.database.transaction(snapshot=True) as connection:
            [row] = await connection.rows(
                text(
                    "SELECT lower('Я') = 'я' AS folds, "
                    "to_regclass('ix_sessions_title_folded') IS NOT NULL AS has_trigrams"
                )
            )
            warnings = []
            if not row["folds"]:
                warnings.append(
                    "The database does not know Cyrillic letters: searches for parts of Russian "
                    "titles are slow. Create it with the locale C.UTF-8 or an ICU locale."
                )
            if not row["has_trigrams"]:
                warnings.append(
                    "The database has no pg_trgm: searches for parts of titles are slow. "
                    "Have an administrator run CREATE EXTENSION pg_trgm, then migrate again."
                )
            return warnings

    async def log(self, entry: SyncRow | HealthCheckRow) -> None:
        async with self.database.transaction() as connection:
            await connection.run(insert(type(entry)).values(**entry.model_dump(exclude={"id"})))


async def _lock(connection: Connection) -> bool:
    """Try to take the turn. It outlives the transaction, so whoever is cancelled ends it here."""
    try:
        lock = func.pg_try_advisory_lock(_RECONCILE_LOCK).label("ours")
        [tried] = await connection.rows(select(lock))
        await connection.commit()
    except BaseException:
        connection.driver.terminate()
        raise
    return bool(tried["ours"])


async def _unlock(connection: Connection) -> None:
    """Give the turn away. If that fails, end the connection: it must not take the lock along."""
    try:
        await connection.rows(select(func.pg_advisory_unlock(_RECONCILE_LOCK)))
    except CacheUnavailable:
        connection.driver.terminate()
    except BaseException:
        connection.driver.terminate()
        raise


async def _left(stack: AsyncExitStack) -> None:
    with suppress(CacheUnavailable):  # it held nothing but a lock
        await stack.aclose()
