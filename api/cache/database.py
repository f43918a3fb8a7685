"""The wire to PostgreSQL: every call bounded, every failure CacheUnavailable, no waiting twice."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from types import TracebackType
from typing import Self, TypeAlias, TypeVar
from weakref import WeakSet

import asyncpg
from sqlalchemy import Executable
from sqlalchemy.engine import RowMapping
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

T = TypeVar("T")
Values: TypeAlias = Mapping[str, object]
log = logging.getLogger(__name__)

_POOL_SIZE = 10
_FIRST_PROBE, _LONGEST_PROBE = 0.25, 2.0  # seconds between looks whether PostgreSQL is back


class CacheUnavailable(Exception):
    """PostgreSQL does not answer, or not in time. Everything still works from GitHub, slower."""


class Connection:
    """A transaction in progress. One statement at a time, each within the time-out."""

    def __init__(self, connection: AsyncConnection, database: "Database") -> None:
        self._connection = connection
        self._database = database
        self._turn = asyncio.Lock()

    async def rows(self, statement: Executable) -> Sequence[RowMapping]:
        """The rows that a statement returns."""
        async with self._turn:
            self._database.statements += 1
            with self._database.guard():
                result = await self._database.bounded(self._connection.execute(statement))
                return result.mappings().all()

    async def run(self, statement: Executable, each: Sequence[Values] | None = None) -> int:
        """Run a statement, once for each of the values when given. Returns the rows touched."""
        async with self._turn:
            self._database.statements += 1
            with self._database.guard():
                result = await self._database.bounded(self._connection.execute(statement, each))
                return result.rowcount


class Database:
    """A pool of connections to one database. Use as an async context manager.

    `timeout` bounds the connecting and each statement, in seconds. After a failure calls fail at
    once, while a background task looks for the server's return: nobody waits for it twice.
    """

    def __init__(self, url: str, *, timeout: float) -> None:
        self._url = url
        self._timeout = timeout
        self._engine: AsyncEngine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=self._connect,
            pool_size=_POOL_SIZE,
            max_overflow=0,
            pool_timeout=timeout,
        )
        self._drivers: WeakSet[asyncpg.Connection] = WeakSet()
        self._probe: asyncio.Task[None] | None = None
        self.statements = 0  # sent so far, for tests and the log

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._probe:
            self._probe.cancel()
            with suppress(asyncio.CancelledError):
                await self._probe
        await self._forget_connections()

    @property
    def is_down(self) -> bool:
        """Whether the last call failed and the server has not come back since."""
        return self._probe is not None and not self._probe.done()

    @asynccontextmanager
    async def transaction(self, *, snapshot: bool = False) -> AsyncIterator[Connection]:
        """A transaction, committed at the end unless the body raised.

        With `snapshot` it is read-only, and all its statements see one state of the database.
        Raises CacheUnavailable when PostgreSQL fails or is slow, and from then on at once.
        """
        if self.is_down:
            raise CacheUnavailable("PostgreSQL is down.")
        with self.guard():
            connection = await self.bounded(self._engine.connect(), 2 * self._timeout)
            driver = (await connection.get_raw_connection()).driver_connection
        try:
            with self.guard():
                if snapshot:
                    await connection.execution_options(
                        isolation_level="REPEATABLE READ", postgresql_readonly=True
                    )
            yield Connection(connection, self)
            with self.guard():
                await self.bounded(connection.commit())
        except BaseException as error:
            # Neither a frozen server nor a cancelled caller can wait for a polite goodbye.
            if driver is not None and not isinstance(error, Exception | GeneratorExit):
                driver.terminate()
            raise
        finally:
            with suppress(CacheUnavailable), self.guard():
                await self.bounded(connection.close())

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Whatever PostgreSQL fails with becomes CacheUnavailable; when it is gone, all know."""
        try:
            yield
        except CacheUnavailable:
            self._look_for_return()
            raise
        except (SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            if _is_lost(error):
                self._look_for_return()
            else:
                log.exception("PostgreSQL refused a statement")
            raise CacheUnavailable(f"PostgreSQL failed: {_reason(error)}.") from error

    async def bounded(self, call: Awaitable[T], within: float | None = None) -> T:
        """The call's result within so many seconds. One that hangs is left behind, not awaited."""
        task = asyncio.ensure_future(call)
        limit = within or self._timeout
        try:
            done, _ = await asyncio.wait({task}, timeout=limit)
        except asyncio.CancelledError:
            _leave(task)
            raise
        if not done:
            _leave(task)
            raise CacheUnavailable(f"PostgreSQL did not answer within {limit:g} seconds.")
        return task.result()

    async def _connect(self) -> asyncpg.Connection:
        driver = await asyncpg.connect(
            self._url,
            timeout=self._timeout,
            command_timeout=self._timeout,
            server_settings={
                "application_name": "annoris",
                # A client's time-out leaves the statement running; these end it.
                "statement_timeout": str(int(self._timeout * 1000)),
                "idle_in_transaction_session_timeout": "60000",
                "timezone": "UTC",
            },
        )
        self._drivers.add(driver)
        return driver

    def _look_for_return(self) -> None:
        if not self.is_down:
            log.warning("PostgreSQL is down; reads go to GitHub until it is back")
            self._probe = asyncio.create_task(self._until_back())

    async def _until_back(self) -> None:
        await self._forget_connections()
        pause = _FIRST_PROBE
        while True:
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PROBE)
            try:
                driver = await self.bounded(self._connect(), 2 * self._timeout)
                await self.bounded(driver.execute("SELECT 1"))
                driver.terminate()
            except (CacheUnavailable, asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                continue
            log.info("PostgreSQL is back")
            return

    async def _forget_connections(self) -> None:
        for driver in list(self._drivers):
            if not driver.is_closed():
                driver.terminate()
        await self._engine.dispose(close=False)


def _leave(task: "asyncio.Future[T]") -> None:
    task.cancel()
    task.add_done_callback(_read_result)


def _read_result(task: "asyncio.Future[T]") -> None:
    """Whatever an abandoned call ended with, nobody is there to hear it."""
    if not task.cancelled():
        task.exception()


def _is_lost(error: BaseException) -> bool:
    """Whether the connection or the server is gone, rather than one statement refused."""
    if isinstance(error, DBAPIError):
        cause = error.orig.__cause__ if error.orig else None
        return error.connection_invalidated or cause is None or _is_lost(cause)
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


def _reason(error: BaseException) -> str:
    cause = error.orig.__cause__ if isinstance(error, DBAPIError) and error.orig else error
    return type(cause or error).__name__
