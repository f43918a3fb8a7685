"""The wire to PostgreSQL: every call bounded, every failure CacheUnavailable, no waiting twice."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self, TypeAlias, TypeVar
from weakref import WeakSet

import asyncpg
from sqlalchemy import CursorResult, Executable, event, func, select
from sqlalchemy.engine import ExceptionContext, RowMapping
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, DisconnectionError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from api.cache.pool import Alarm, Pool

T = TypeVar("T")
Values: TypeAlias = Mapping[str, object]
log = logging.getLogger(__name__)

_POOL_SIZE = 10  # of connections for transactions, and as many for readers
_PATIENCE = 0.8  # of a statement's time, for a lock
_FIRST_PROBE, _LONGEST_PROBE = 0.25, 2.0  # seconds between looks whether PostgreSQL is back
FAILURES = (
    SQLAlchemyError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
)


class CacheUnavailable(Exception):
    """PostgreSQL does not answer, or not in time. Everything still works from GitHub, slower."""


class Connection:
    """A transaction in progress. One statement at a time, each within `timeout` seconds.

    After a failure there is nothing to go on with. Nor when a statement did not end in time or its
    caller was cancelled: asyncpg waits for what the server says to that, and a frozen one is mute.
    """

    def __init__(self, connection: AsyncConnection, database: "Database", *, hurried: bool) -> None:
        self._connection = connection
        self._database = database
        self._hurried = hurried
        self._timeout = database.read_timeout if hurried else database.timeout
        self._turn = asyncio.Lock()
        self._pending: asyncio.Future[Any] | None = None
        self._has_failed = False
        self.driver = _driver(connection)

    async def rows(
        self, statement: Executable, values: Values | None = None
    ) -> Sequence[RowMapping]:
        """The rows that a statement returns."""
        result = await self._execute(statement, values)
        try:
            return result.mappings().all()
        except (ValueError, OverflowError) as error:
            raise _undecodable(error) from error

    async def run(self, statement: Executable, each: Sequence[Values] | None = None) -> int:
        """Run a statement, once for each of the values when given. Returns the rows touched."""
        return (await self._execute(statement, each)).rowcount

    async def allow(self, seconds: float | None) -> None:
        """Bound each statement by so many seconds from now on (None: as usual), up to the commit.

        For those that are known to take longer than most.
        """
        self._timeout = seconds or self._database.timeout
        await self.rows(_set_timeouts(self._timeout))

    async def commit(self) -> None:
        """End the transaction; the next statement begins another.

        When this fails, the transaction may have been committed or not.
        """
        try:
            await self._ask(self._connection.commit)
        finally:
            self._database.writes += 1

    async def leave(self) -> None:
        """Go back to the pool, after a rollback if need be. Never fails; bounded like the rest."""
        timer = asyncio.get_running_loop().call_later(self._timeout, self.driver.terminate)
        if self._pending:
            await asyncio.wait({self._pending})
        with suppress(*FAILURES):
            await self._connection.rollback()
        with suppress(*FAILURES):
            await self._connection.close()
        timer.cancel()

    async def _execute(
        self, statement: Executable, each: Sequence[Values] | Values | None = None
    ) -> CursorResult[Any]:
        async with self._turn:
            self._database.statements += 1
            return await self._ask(lambda: self._connection.execute(statement, each))

    async def _ask(self, call: Callable[[], Awaitable[T]]) -> T:
        if self._has_failed or self.driver.is_closed():
            raise CacheUnavailable("The transaction is lost.")
        self._pending = pending = _begin(call())
        try:
            with self._database.guard(hurried=self._hurried):
                return await _within(self._timeout, pending)
        except BaseException:
            self._has_failed = True
            if not pending.done():
                self.driver.terminate()  # this ends the call, where a cancellation would hang
            raise


class Database:
    """Two pools of connections to one database. Use as an async context manager.

    `timeout` bounds the connecting and each statement of a transaction, in seconds, `read_timeout`
    what a reader waits for, which is the same if not given. After a failure calls fail at once,
    while a background task looks for the server's return: nobody waits for it twice. A server that
    was only too slow for readers is still there for those who have more patience.
    """

    def __init__(self, url: str, *, timeout: float, read_timeout: float | None = None) -> None:
        self._url = url
        self.timeout = timeout
        self.read_timeout = timeout if read_timeout is None else read_timeout
        self._readers = Pool(self._connect_reader, _POOL_SIZE)
        self._engine: AsyncEngine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=self._connect,
            pool_size=_POOL_SIZE,
            max_overflow=0,
            pool_timeout=timeout,
            hide_parameters=True,  # they are people's documents, and no part of a log
        )
        event.listen(self._engine.sync_engine, "checkout", _refuse_closed)
        event.listen(self._engine.sync_engine, "handle_error", _keep_the_others)
        self._drivers: WeakSet[asyncpg.Connection] = WeakSet()
        self._in_use: set[Connection] = set()
        self._leaving: set[asyncio.Future[None]] = set()
        self._probe: asyncio.Task[None] | None = None
        self._is_down = False
        self._closed = False
        self._silent_since = 0.0  # by the event loop's clock
        # When the server was last found to be back after it was down, or silent for longer than
        # those wait who write: some of them may have gone on without it.
        self.returned_at: datetime | None = None
        self.statements = 0  # sent so far, for tests and the log
        self.writes = 0  # transactions of this process so far that may have changed something

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closed = True
        if self._probe:
            self._probe.cancel()
            await asyncio.wait({self._probe})
        await self._readers.close()
        if self._leaving:
            await asyncio.wait(set(self._leaving))
        for driver in list(self._drivers):
            driver.terminate()
        await self._engine.dispose()

    @property
    def is_down(self) -> bool:
        """Whether the last call failed and the server has not come back since."""
        return self._is_down and self.is_too_slow

    @property
    def is_too_slow(self) -> bool:
        """Whether the last reader waited in vain and nobody was answered in time since."""
        return self._probe is not None and not self._probe.done()

    async def fetch(self, sql: str, values: Sequence[object]) -> Sequence[asyncpg.Record]:
        """The rows of one statement, which sees one state of the database. One round trip.

        `read_timeout` bounds the waiting for a connection, and then that for the answer. Raises
        CacheUnavailable when PostgreSQL fails or is slow, and from then on at once.
        """
        if self._closed or self.is_too_slow:
            raise CacheUnavailable("PostgreSQL is down.")
        try:
            driver = await self._readers.take(self.read_timeout)
        except TimeoutError:
            self._look_for_return(is_down=False)
            raise CacheUnavailable("No connection to PostgreSQL came free in time.") from None
        except FAILURES as error:
            raise self._failure(error) from error
        # When it rings the call ends, where a cancellation would hang.
        alarm = Alarm(self.read_timeout, driver.terminate)
        self.statements += 1
        try:
            rows: Sequence[asyncpg.Record] = await driver.fetch(sql, *values)
            return rows
        except (*FAILURES, ValueError, OverflowError) as error:
            if alarm.has_rung:
                self._look_for_return(is_down=False)
                raise _silence(self.read_timeout) from None
            raise self._failure(error) from error
        except BaseException:
            driver.terminate()
            raise
        finally:
            alarm.cancel()
            self._readers.give(driver)

    @asynccontextmanager
    async def transaction(
        self,
        *,
        snapshot: bool = False,
        autocommit: bool = False,
        seconds: float | None = None,
        hurried: bool = False,
    ) -> AsyncIterator[Connection]:
        """A transaction, committed at the end unless the body raised.

        With `snapshot` it is read-only, and all its statements see one state of the database. With
        `autocommit` each statement is a transaction of its own, and one round trip.
        `seconds` bounds each statement, where they are known to take longer than most; `hurried`:
        they have only as long as readers wait.
        Raises CacheUnavailable when PostgreSQL fails or is slow, and from then on at once.
        """
        if self._closed or self.is_down or (hurried and self.is_too_slow):
            raise CacheUnavailable("PostgreSQL is down.")
        connection = await self._take(hurried=hurried)
        wire = Connection(connection, self, hurried=hurried)
        self._in_use.add(wire)
        try:
            if snapshot:
                await connection.execution_options(
                    isolation_level="REPEATABLE READ", postgresql_readonly=True
                )
            if autocommit:
                await connection.execution_options(isolation_level="AUTOCOMMIT")
            if seconds:
                await wire.allow(seconds)
            yield wire
            await wire.commit()
        finally:
            # In the background: neither a cancelled caller nor one that was just told of a frozen
            # server is to wait for the goodbye.
            self._in_use.discard(wire)
            self._leave(wire.leave())
            self.writes += not snapshot

    @contextmanager
    def guard(self, *, hurried: bool) -> Iterator[None]:
        """Whatever PostgreSQL fails with becomes CacheUnavailable; when it is gone, all know."""
        try:
            yield
        except CacheUnavailable:
            self._look_for_return(is_down=not hurried)
            raise
        except PoolTimeout as error:
            raise CacheUnavailable("All connections to PostgreSQL are in use.") from error
        except (*FAILURES, ValueError, OverflowError) as error:
            raise self._failure(error) from error

    def _failure(self, error: Exception) -> CacheUnavailable:
        """What a failure means. When the server is gone, all know from now on."""
        if isinstance(error, ValueError | OverflowError):
            return _undecodable(error)
        if _is_lost(error):
            self._look_for_return()
        elif not _has_waited(error):
            # Not its words, which quote the row: that is a part of somebody's document.
            state = getattr(_cause(error), "sqlstate", None)
            log.error("PostgreSQL refused a statement: %s (%s)", _reason(error), state)
        return CacheUnavailable(_sentence(error))

    async def _take(self, *, hurried: bool) -> AsyncConnection:
        """A connection from the pool, or a new one."""
        taking = _begin(self._engine.connect())
        try:
            with self.guard(hurried=hurried):
                return await _within(self.read_timeout if hurried else 2 * self.timeout, taking)
        except BaseException:
            taking.cancel()
            taking.add_done_callback(self._return)
            raise

    def _return(self, taken: "asyncio.Future[AsyncConnection]") -> None:
        """Give back what nobody waits for any more: it may have come at that very moment."""
        if not taken.cancelled() and not taken.exception():
            self._leave(taken.result().close())

    def _leave(self, goodbye: Awaitable[None]) -> None:
        leaving = _begin(goodbye)
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)

    async def listen(self, channel: str, heard: Callable[[], None]) -> asyncpg.Connection:
        """A connection of the caller's own that hears of a channel, and of its own end."""
        driver = await self._connect()
        alarm = Alarm(self.timeout, driver.terminate)
        try:
            await driver.add_listener(channel, lambda *_: heard())
        except BaseException:
            driver.terminate()
            raise
        finally:
            alarm.cancel()
        driver.add_termination_listener(lambda _: heard())
        return driver

    async def _connect(self, **settings: str) -> asyncpg.Connection:
        driver = await asyncpg.connect(
            self._url,
            timeout=self.timeout,
            server_settings={
                "application_name": "annoris",
                # A client's time-out or death leaves the statement running; these end it.
                "statement_timeout": _milliseconds(self.timeout),
                # Sooner, so that who holds a lock is not taken for a server that is dead.
                "lock_timeout": _milliseconds(_PATIENCE * self.timeout),
                "client_connection_check_interval": "1000",
                "idle_in_transaction_session_timeout": "60000",
                # A machine that vanished holds its locks no longer than this.
                "tcp_keepalives_idle": "30",
                "tcp_keepalives_interval": "10",
                "tcp_keepalives_count": "3",
                "timezone": "UTC",
                "jit": "off",  # compiling takes longer than any of our statements
                **settings,
            },
        )
        self._drivers.add(driver)
        return driver

    async def _connect_reader(self) -> asyncpg.Connection:
        # How many titles contain a text is guessed from the text: without it, as one in 200, and
        # then tens of thousands of sessions are read where a walk by date would find twenty soon.
        driver = await self._connect(plan_cache_mode="force_custom_plan")
        alarm = Alarm(self.timeout, driver.terminate)
        try:
            await driver.set_type_codec(
                "json", schema="pg_catalog", encoder=json.dumps, decoder=json.loads
            )
        except BaseException:
            driver.terminate()
            raise
        finally:
            alarm.cancel()
        return driver

    def _look_for_return(self, *, is_down: bool = True) -> None:
        """Have it looked for. `is_down`: or else it was only too slow for a reader."""
        if self._closed or self.is_down:
            return
        self._is_down = is_down
        if self.is_too_slow:
            return
        self._silent_since = asyncio.get_running_loop().time() - self.read_timeout
        how = "down" if is_down else "too slow"
        log.warning("PostgreSQL is %s; reads go to GitHub until it is back", how)
        # Those in use have time-outs of their own. An idle one may be dead without knowing it.
        in_use = {wire.driver for wire in self._in_use} | self._readers.busy
        for driver in set(self._drivers) - in_use:
            driver.terminate()
        self._probe = asyncio.create_task(self._until_back())

    async def _until_back(self) -> None:
        pause = _FIRST_PROBE
        while True:
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PROBE)
            with suppress(*FAILURES):
                driver = await self._connect()
                alarm = Alarm(self.read_timeout, driver.terminate)
                try:
                    await driver.fetch("SELECT 1")
                finally:
                    alarm.cancel()
                    driver.terminate()
                silent_for = asyncio.get_running_loop().time() - self._silent_since
                if self._is_down or silent_for >= self.timeout:
                    self.returned_at = datetime.now(UTC)
                log.info("PostgreSQL is back")
                return


def _begin(call: Awaitable[T]) -> "asyncio.Future[T]":
    """Start a call that may be left behind: nobody is then there to hear what it ended with."""
    begun = asyncio.ensure_future(call)
    begun.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    return begun


async def _within(seconds: float, pending: "asyncio.Future[T]") -> T:
    """The result of a call if it comes in time. One that hangs is not awaited."""
    done, _ = await asyncio.wait({pending}, timeout=seconds)
    if not done:
        raise _silence(seconds)
    return pending.result()


def _silence(seconds: float) -> CacheUnavailable:
    return CacheUnavailable(f"PostgreSQL did not answer within {seconds:g} seconds.")


def _driver(connection: AsyncConnection) -> asyncpg.Connection:
    sync = connection.sync_connection
    return sync.connection.driver_connection if sync else None


def _set_timeouts(seconds: float) -> Executable:
    return select(
        func.set_config("statement_timeout", _milliseconds(seconds), True),
        func.set_config("lock_timeout", _milliseconds(_PATIENCE * seconds), True),
    )


def _milliseconds(seconds: float) -> str:
    return str(max(1, int(seconds * 1000)))  # 0 would mean: no limit


def _refuse_closed(
    _: DBAPIConnection, record: ConnectionPoolEntry, _proxy: PoolProxiedConnection
) -> None:
    """A connection that was closed while it lay in the pool is replaced, and no sign of trouble."""
    driver = record.driver_connection
    if driver is not None and driver.is_closed():
        raise DisconnectionError("It was closed while it was idle.")


def _keep_the_others(context: ExceptionContext) -> None:
    """One lost connection says nothing of the rest of the pool; `_refuse_closed` looks at them."""
    context.invalidate_pool_on_disconnect = False


def _is_lost(error: BaseException) -> bool:
    """Whether the connection or the server is gone, rather than one statement refused."""
    if isinstance(error, DBAPIError):
        cause = error.orig.__cause__ if error.orig else None
        return error.connection_invalidated or cause is None or _is_lost(cause)
    if isinstance(error, ValueError):  # asyncpg could not encode what it was given
        return isinstance(error, asyncpg.ClientConfigurationError)
    return isinstance(
        error,
        OSError
        | asyncpg.PostgresConnectionError
        | asyncpg.InterfaceError
        | asyncpg.OperatorInterventionError
        | asyncpg.TooManyConnectionsError
        | asyncpg.CannotConnectNowError
        | asyncpg.QueryCanceledError
        | asyncpg.InvalidAuthorizationSpecificationError
        | asyncpg.InvalidCatalogNameError,
    )


def _has_waited(error: BaseException) -> bool:
    """Whether somebody else held a lock for longer than the statement was to wait for it."""
    return isinstance(_cause(error), asyncpg.LockNotAvailableError)


def _sentence(error: BaseException) -> str:
    if isinstance(_cause(error), asyncpg.UndefinedTableError | asyncpg.UndefinedColumnError):
        return "The tables are not those of this version: run `annoris migrate`."
    return f"PostgreSQL failed: {_reason(error)}."


def _undecodable(error: Exception) -> CacheUnavailable:
    """No value of ours, but of somebody who wrote to the database."""
    return CacheUnavailable(
        f"A value in the cache cannot be read ({type(error).__name__}): run `annoris rebuild`."
    )


def _reason(error: BaseException) -> str:
    return type(_cause(error)).__name__


def _cause(error: BaseException) -> BaseException:
    """The driver's own error."""
    cause = error.orig.__cause__ if isinstance(error, DBAPIError) and error.orig else error
    return cause or error
