"""The wire to PostgreSQL: every call bounded, every failure CacheUnavailable, no waiting twice."""

import asyncio
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

T = TypeVar("T")
Values: TypeAlias = Mapping[str, object]
log = logging.getLogger(__name__)

_POOL_SIZE = 10
_FIRST_PROBE, _LONGEST_PROBE = 0.25, 2.0  # seconds between looks whether PostgreSQL is back
_FAILURES = (
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

    def __init__(self, connection: AsyncConnection, database: "Database", timeout: float) -> None:
        self._connection = connection
        self._database = database
        self._timeout = timeout
        self._turn = asyncio.Lock()
        self._pending: asyncio.Future[Any] | None = None
        self._has_failed = False
        self.driver = _driver(connection)

    async def rows(self, statement: Executable) -> Sequence[RowMapping]:
        """The rows that a statement returns."""
        return (await self._execute(statement)).mappings().all()

    async def run(self, statement: Executable, each: Sequence[Values] | None = None) -> int:
        """Run a statement, once for each of the values when given. Returns the rows touched."""
        return (await self._execute(statement, each)).rowcount

    async def commit(self) -> None:
        """When this fails, the transaction may have been committed or not."""
        await self._ask(self._connection.commit)

    async def leave(self) -> None:
        """Go back to the pool, after a rollback if need be. Never fails; bounded like the rest."""
        timer = asyncio.get_running_loop().call_later(self._timeout, self.driver.terminate)
        if self._pending:
            await asyncio.wait({self._pending})
        with suppress(*_FAILURES):
            await self._connection.rollback()
        with suppress(*_FAILURES):
            await self._connection.close()
        timer.cancel()

    async def _execute(
        self, statement: Executable, each: Sequence[Values] | None = None
    ) -> CursorResult[Any]:
        async with self._turn:
            self._database.statements += 1
            return await self._ask(lambda: self._connection.execute(statement, each))

    async def _ask(self, call: Callable[[], Awaitable[T]]) -> T:
        if self._has_failed or self.driver.is_closed():
            raise CacheUnavailable("The transaction is lost.")
        self._pending = pending = _begin(call())
        try:
            with self._database.guard():
                return await _within(self._timeout, pending)
        except BaseException:
            self._has_failed = True
            if not pending.done():
                self.driver.terminate()  # this ends the call, where a cancellation would hang
            raise


class Database:
    """A pool of connections to one database. Use as an async context manager.

    `timeout` bounds the connecting and each statement, in seconds. After a failure calls fail at
    once, while a background task looks for the server's return: nobody waits for it twice.
    """

    def __init__(self, url: str, *, timeout: float) -> None:
        self._url = url
        self.timeout = timeout
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
        self._closed = False
        self.returned_at: datetime | None = None  # when the server was last found to be back
        self.statements = 0  # sent so far, for tests and the log

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
        if self._leaving:
            await asyncio.wait(set(self._leaving))
        for driver in list(self._drivers):
            driver.terminate()
        await self._engine.dispose()

    @property
    def is_down(self) -> bool:
        """Whether the last call failed and the server has not come back since."""
        return self._probe is not None and not self._probe.done()

    @asynccontextmanager
    async def transaction(
        self, *, snapshot: bool = False, seconds: float | None = None
    ) -> AsyncIterator[Connection]:
        """A transaction, committed at the end unless the body raised.

        With `snapshot` it is read-only, and all its statements see one state of the database.
        `seconds` bounds each statement, where they are known to take longer than most.
        Raises CacheUnavailable when PostgreSQL fails or is slow, and from then on at once.
        """
        if self._closed or self.is_down:
            raise CacheUnavailable("PostgreSQL is down.")
        connection = await self._take()
        wire = Connection(connection, self, seconds or self.timeout)
        self._in_use.add(wire)
        try:
            if snapshot:
                await connection.execution_options(
                    isolation_level="REPEATABLE READ", postgresql_readonly=True
                )
            if seconds:
                await wire.rows(_set_timeout(seconds))
            yield wire
            await wire.commit()
        finally:
            # In the background: neither a cancelled caller nor one that was just told of a frozen
            # server is to wait for the goodbye.
            self._in_use.discard(wire)
            self._leave(wire.leave())

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Whatever PostgreSQL fails with becomes CacheUnavailable; when it is gone, all know."""
        try:
            yield
        except CacheUnavailable:
            self._look_for_return()
            raise
        except PoolTimeout as error:
            raise CacheUnavailable("All connections to PostgreSQL are in use.") from error
        except _FAILURES as error:
            if _is_lost(error):
                self._look_for_return()
            elif not _has_waited(error):
                log.exception("PostgreSQL refused a statement")
            raise CacheUnavailable(f"PostgreSQL failed: {_reason(error)}.") from error

    async def _take(self) -> AsyncConnection:
        """A connection from the pool, or a new one."""
        taking = _begin(self._engine.connect())
        try:
            with self.guard():
                return await _within(2 * self.timeout, taking)
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

    async def _connect(self) -> asyncpg.Connection:
        driver = await asyncpg.connect(
            self._url,
            timeout=self.timeout,
            server_settings={
                "application_name": "annoris",
                # A client's time-out or death leaves the statement running; these end it.
                "statement_timeout": _milliseconds(self.timeout),
                "client_connection_check_interval": "1000",
                "idle_in_transaction_session_timeout": "60000",
                "timezone": "UTC",
            },
        )
        self._drivers.add(driver)
        return driver

    def _look_for_return(self) -> None:
        if self._closed or self.is_down:
            return
        log.warning("PostgreSQL is down; reads go to GitHub until it is back")
        # Those in use have time-outs of their own. An idle one may be dead without knowing it.
        in_use = {wire.driver for wire in self._in_use}
        for driver in set(self._drivers) - in_use:
            driver.terminate()
        self._probe = asyncio.create_task(self._until_back())

    async def _until_back(self) -> None:
        pause = _FIRST_PROBE
        while True:
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PROBE)
            with suppress(*_FAILURES):
                driver = await self._connect()
                driver.terminate()
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
        raise CacheUnavailable(f"PostgreSQL did not answer within {seconds:g} seconds.")
    return pending.result()


def _driver(connection: AsyncConnection) -> asyncpg.Connection:
    sync = connection.sync_connection
    return sync.connection.driver_connection if sync else None


def _set_timeout(seconds: float) -> Executable:
    return select(func.set_config("statement_timeout", _milliseconds(seconds), True))


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


def _reason(error: BaseException) -> str:
    return type(_cause(error)).__name__


def _cause(error: BaseException) -> BaseException:
    """The driver's own error."""
    cause = error.orig.__cause__ if isinstance(error, DBAPIError) and error.orig else error
    return cause or error
